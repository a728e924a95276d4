//! An HTTP proxy that opens tunnels, and remembers what it was asked.

use std::sync::{Arc, Mutex, PoisonError};

use derp_client::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running proxy; dropping it stops it.
#[derive(Debug)]
pub(crate) struct TestProxy {
    /// How to reach it.
    pub(crate) proxy: Proxy,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl TestProxy {
    /// Starts a proxy that answers with `status` and, if that is 200, opens the tunnel; to `dial`,
    /// where that is not what it was asked for.
    pub(crate) async fn start(status: &'static str, dial: Option<String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = format!("http://user:secret@{}", listener.local_addr()?).parse()?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            // Connections end with their tunnels, or with the process.
            while let Ok((stream, _)) = listener.accept().await {
                let (log, dial) = (Arc::clone(&log), dial.clone());
                tokio::spawn(async move { serve(stream, status, dial, &log).await.ok() });
            }
        });
        Ok(Self { proxy, asked, task })
    }

    /// The heads of the requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    status: &str,
    dial: Option<String>,
    asked: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(head);
    stream
        .write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())
        .await?;
    if status.starts_with("200") {
        let mut relay = TcpStream::connect(dial.unwrap_or(target)).await?;
        copy_bidirectional(&mut stream, &mut relay).await?;
    }
    Ok(())
}
