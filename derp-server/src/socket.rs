//! Sockets that a listener accepts: what a fast path needs of them beside their bytes.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
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
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {
    const IS_UNIX: bool;

    /// The relay's own address on this connection, where there is one.
    fn local_addr(&self) -> Option<SocketAddr>;
    /// Sets the options that this kind of socket has.
    fn prepare(&self, options: &SocketOptions) -> io::Result<()>;
    /// Bounds what the kernel holds and has not sent, where it can.
    fn bound_unsent(&self, bytes: u32) -> io::Result<()>;
    /// Ready once the other side has said something, or has gone. Reads nothing.
    fn poll_spoken(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Takes the socket out of the runtime. It stays non-blocking.
    fn into_fd(self) -> io::Result<OwnedFd>;
}

impl Socket for TcpStream {
    const IS_UNIX: bool = false;

    fn local_addr(&self) -> Option<SocketAddr> {
        Self::local_addr(self).ok()
    }

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

    fn poll_spoken(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The runtime takes sockets that it has just accepted for readable: only a look tells.
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_io(Interest::READABLE, || peek(self)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                looked => return Poll::Ready(looked),
            }
        }
    }

    fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

impl Socket for UnixStream {
    const IS_UNIX: bool = true;

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn prepare(&self, _: &SocketOptions) -> io::Result<()> {
        Ok(())
    }

    fn bound_unsent(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn poll_spoken(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_io(Interest::READABLE, || peek(self)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                looked => return Poll::Ready(looked),
            }
        }
    }

    fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

/// Whether there is something to read, or never will be.
fn peek(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket)
        .peek(&mut [MaybeUninit::uninit()])
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Waker;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    /// Whoever says nothing has not spoken, and whoever goes has.
    async fn speaks_late(accepted: impl Socket, mut other: impl AsyncWrite + Unpin) {
        {
            let mut spoken = pin!(poll_fn(|cx| accepted.poll_spoken(cx)));
            let mut context = Context::from_waker(Waker::noop());
            assert!(spoken.as_mut().poll(&mut context).is_pending());
            other.write_all(b"x").await.unwrap();
            spoken.await.unwrap();
        }
        poll_fn(|cx| accepted.poll_spoken(cx)).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_was_just_accepted_has_not_spoken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let other = TcpStream::connect(address).await.unwrap();
        speaks_late(listener.accept().await.unwrap().0, other).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let other = UnixStream::connect(&path).await.unwrap();
        speaks_late(listener.accept().await.unwrap().0, other).await;
    }

    #[tokio::test]
    async fn whoever_goes_without_a_word_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(TcpStream::connect(address).await.unwrap());
        let (accepted, _) = listener.accept().await.unwrap();
        poll_fn(|cx| accepted.poll_spoken(cx)).await.unwrap();
    }
}
