//! An admission controller that answers as it is told: rightly, wrongly, or not at all.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What it answers.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// These bytes, and then the end.
    Bytes(Vec<u8>),
    /// Nothing.
    Hang,
}

/// A controller that runs until it is dropped.
#[derive(Debug)]
pub(super) struct Controller {
    asked: Arc<AtomicU64>,
    task: JoinHandle<()>,
    addr: SocketAddr,
}

impl Controller {
    /// Listens at `port` of this machine, 0 for any.
    pub(super) async fn start(port: u16, answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let addr = listener.local_addr()?;
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, answer.clone()));
            }
        });
        Ok(Self { asked, task, addr })
    }

    /// How often it was asked.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Where it listens.
    pub(super) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it; its port is free again.
    pub(super) async fn stop(self) {
        self.task.abort();
        // Its end is what was wanted.
        let _cancelled = self.task.await;
    }
}

async fn serve(mut stream: TcpStream, answer: Answer) {
    let mut question = vec![0; 4096];
    let read = timeout(Duration::from_secs(5), stream.read(&mut question));
    let (Ok(Ok(1..)), Answer::Bytes(bytes)) = (read.await, answer) else {
        // It holds on for longer than anybody waits.
        tokio::time::sleep(Duration::from_secs(60)).await;
        return;
    };
    // The relay may have gone away.
    let _gone = stream.write_all(&bytes).await;
    let _gone = stream.shutdown().await;
}

/// An answer over HTTP.
pub(super) fn http(status: &str, head: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\n{head}\r\n{body}").into_bytes()
}
