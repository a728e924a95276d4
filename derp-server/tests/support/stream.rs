//! A connection to a relay by whatever carries it.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// A connection, and the address that the relay sees at the client's end.
pub struct Stream {
    pub io: Box<dyn Io>,
    pub addr: Option<SocketAddr>,
}

impl Stream {
    pub fn new(io: impl Io + 'static, addr: Option<SocketAddr>) -> Self {
        Self {
            io: Box::new(io),
            addr,
        }
    }
}
