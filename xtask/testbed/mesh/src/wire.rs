//! A wire between two relays, which can be cut without either noticing.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on, unless it is cut: then bytes stay where they are.
pub(crate) struct Wire {
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Wire {
    /// From `ip`, with the port of `to`.
    pub(crate) async fn new(ip: Ipv4Addr, to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((ip, to.port())).await?;
        let cut = watch::Sender::new(false);
        let state = cut.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let state = state.clone();
                tokio::spawn(async move {
                    if let Ok(far) = TcpStream::connect(to).await {
                        let (near, far) = (near.into_split(), far.into_split());
                        tokio::spawn(carry(near.0, far.1, state.clone()));
                        carry(far.0, near.1, state).await;
                    }
                });
            }
        });
        Ok(Self { cut, task })
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        // Neither bytes nor the end of a connection pass a cut.
        while *cut.borrow_and_update() {
            if cut.changed().await.is_err() {
                return;
            }
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _end = to.shutdown().await;
}
