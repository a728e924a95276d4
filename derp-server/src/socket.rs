//! Sockets that a listener accepts: what a fast path needs of them beside their bytes.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Options of accepted TCP connections. The defaults are the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// After how long a silent connection is probed by the kernel; `None` for never.
    pub keep_alive_time: Option<Duration>,
    /// How long sent bytes may stay unacknowledged before the kernel gives the connection up;
    /// zero leaves it to the system.
    pub user_timeout: Duration,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            keep_alive_time: Some(Duration::from_secs(600)),
            user_timeout: Duration::from_secs(15),
        }
    }
}

/// How often the kernel probes a silent connection, and how many silences end it.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 9;

/// A connected stream socket of the operating system.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Sets the options that this kind of socket has.
    fn prepare(&self, options: &SocketOptions) -> io::Result<()>;
    /// Bounds what the kernel holds and has not sent, where it can.
    fn bound_unsent(&self, bytes: u32) -> io::Result<()>;
    /// Waits until the other side has said something, or has gone.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Takes the socket out of the runtime. It stays non-blocking.
    fn into_fd(self) -> io::Result<OwnedFd>;
}

impl Socket for TcpStream {
    fn prepare(&self, options: &SocketOptions) -> io::Result<()> {
        let socket = SockRef::from(self);
        socket.set_tcp_nodelay(true)?;
        if let Some(time) = options.keep_alive_time {
            let keep_alive = TcpKeepalive::new()
                .with_time(time)
                .with_interval(PROBE_INTERVAL)
                .with_retries(PROBES);
            socket.set_tcp_keepalive(&keep_alive)?;
        }
        if !options.user_timeout.is_zero() {
            socket.set_tcp_user_timeout(Some(options.user_timeout))?;
        }
        Ok(())
    }

    fn bound_unsent(&self, bytes: u32) -> io::Result<()> {
        SockRef::from(self).set_tcp_notsent_lowat(bytes)
    }

    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
        Self::readable(self)
    }

    fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

impl Socket for UnixStream {
    fn prepare(&self, _: &SocketOptions) -> io::Result<()> {
        Ok(())
    }

    fn bound_unsent(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
        Self::readable(self)
    }

    fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}
