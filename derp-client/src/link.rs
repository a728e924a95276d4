//! What the two halves of a connection share: the way out, and its end.
//!
//! Frames are encoded whole into a buffer before the first byte is written. A write that is
//! dropped halfway leaves the rest there, and the next one sends it first: the stream is never cut
//! inside a frame, and the buffer never holds more than one frame and a pong.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use derp_proto::{PingData, ServerInfo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncGuard, Notify, watch};
use tokio::time::{Instant, timeout};

use crate::client::ConnectionInfo;
use crate::error::{CloseReason, SendError};
use crate::outbound::{Outbound, Pongs};
use crate::pings::Pings;
use crate::rate::SendLimiter;

/// A byte stream to a server, whatever it is.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

pub(crate) type BoxStream = Box<dyn Stream>;

/// How long a frame may take to be written.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a graceful end may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// What reader and writers of a connection share.
pub(crate) struct Link {
    writing: AsyncMutex<Writing>,
    /// Tells whoever has pongs to write that nobody else is writing any more.
    free: Notify,
    /// Why the connection was closed here; `None` while it is open.
    closed: watch::Sender<Option<CloseReason>>,
    pub(crate) pings: Pings,
    pongs: Mutex<Pongs>,
    limiter: Mutex<Option<SendLimiter>>,
    /// Packets that [`Self::limiter`] did not let through.
    limited: AtomicU64,
    pub(crate) info: ConnectionInfo,
}

/// The way out.
struct Writing {
    /// Gone when the connection is.
    io: Option<WriteHalf<BoxStream>>,
    out: Outbound,
}

impl Link {
    pub(crate) fn new(io: WriteHalf<BoxStream>, out: Outbound, info: ConnectionInfo) -> Self {
        Self {
            writing: AsyncMutex::new(Writing { io: Some(io), out }),
            free: Notify::new(),
            closed: watch::Sender::new(None),
            pings: Pings::default(),
            pongs: Mutex::default(),
            limiter: Mutex::default(),
            limited: AtomicU64::new(0),
            info,
        }
    }

    /// Writes the frames that `encode` adds. An error closes the connection.
    ///
    /// Dropping the future leaves it open whether the frames are sent: not at all, or with the
    /// next write, but never in part.
    pub(crate) async fn write(
        &self,
        within: Duration,
        encode: impl FnOnce(&mut Outbound) + Send,
    ) -> Result<(), SendError> {
        let in_turn = async {
            let mut turn = self.turn().await;
            turn.writing.write(&self.pongs, encode).await
        };
        self.or_close(within, in_turn).await
    }

    /// Writes the pongs that are due. An error closes the connection.
    ///
    /// Whoever receives does this, and may be left alone for as long as it takes to send something.
    /// So it neither queues for the way out nor keeps it while it waits.
    pub(crate) async fn write_pongs(&self) -> Result<(), SendError> {
        let between_others = async {
            loop {
                let written = poll_fn(|cx| match self.writing.try_lock() {
                    Ok(mut writing) => pin!(writing.write(&self.pongs, |_| ())).poll(cx),
                    Err(_) => Poll::Pending,
                });
                tokio::select! {
                    biased;
                    written = written => return written,
                    () = self.free.notified() => {}
                }
            }
        };
        self.or_close(WRITE_TIMEOUT, between_others).await
    }

    /// Waits for something to be written; where it fails or makes no end, the connection is closed.
    async fn or_close(
        &self,
        within: Duration,
        written: impl Future<Output = Result<(), SendError>>,
    ) -> Result<(), SendError> {
        let mut closed = self.watch_close();
        tokio::select! {
            biased;
            _ = closed.wait() => Err(SendError::NotConnected),
            written = timeout(within, written) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(err)) => {
                    self.close(CloseReason::WriteFailed);
                    Err(err)
                }
                Err(_) => {
                    self.close(CloseReason::WriteStalled);
                    Err(SendError::Stalled(within))
                }
            },
        }
    }

    async fn turn(&self) -> Turn<'_> {
        Turn {
            writing: self.writing.lock().await,
            _over: Over(self),
        }
    }

    /// A pong is due; [`Self::write`] sends it with whatever else it sends.
    pub(crate) fn owe_pong(&self, data: PingData) {
        self.pongs().derp = Some(data);
    }

    /// The same for the WebSocket under the connection.
    pub(crate) fn owe_websocket_pong(&self, payload: Bytes) {
        self.pongs().websocket = Some(payload);
    }

    fn pongs(&self) -> MutexGuard<'_, Pongs> {
        self.pongs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps to what the server asks for from here on.
    pub(crate) fn limit(&self, info: &ServerInfo) {
        *self.limiter() = SendLimiter::asked_for(info, Instant::now().into_std());
    }

    /// Whether a packet of this length may be sent; those that may not are counted.
    pub(crate) fn may_send(&self, len: usize) -> bool {
        let allowed = match &mut *self.limiter() {
            None => true,
            Some(limiter) => limiter.allow(len, Instant::now().into_std()),
        };
        if !allowed {
            self.limited.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    pub(crate) fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }

    fn limiter(&self) -> MutexGuard<'_, Option<SendLimiter>> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection at once. The first reason is the one that counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.closed.send_if_modified(|now| {
            let is_first = now.is_none();
            now.get_or_insert(reason);
            is_first
        });
        self.pings.abandon();
        self.release();
    }

    /// Whether the connection was closed here.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    /// Something to wait with until the connection is closed here.
    pub(crate) fn watch_close(&self) -> CloseWatch {
        CloseWatch(self.closed.subscribe())
    }

    /// Lets go of the stream if nobody is writing; a writer that is will do it.
    fn release(&self) {
        if let Ok(mut writing) = self.writing.try_lock() {
            writing.io = None;
            writing.out = Outbound::new(false);
        }
    }

    /// Writes what is left, says goodbye, and closes the connection.
    pub(crate) async fn shut_down(&self) {
        let goodbye = async {
            let Turn { writing, .. } = &mut self.turn().await;
            writing.out.end();
            writing.drain().await?;
            match &mut writing.io {
                Some(io) => Ok(io.shutdown().await?),
                None => Err(SendError::NotConnected),
            }
        };
        match timeout(SHUTDOWN_TIMEOUT, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => tracing::debug!(%err, "closing without a goodbye"),
            Err(_) => tracing::debug!("closing without a goodbye: nothing can be written"),
        }
        self.close(CloseReason::Asked);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = *self.closed.borrow();
        f.debug_struct("Link")
            .field("info", &self.info)
            .field("closed", &closed)
            .finish()
    }
}

/// The right to write, until it is dropped.
struct Turn<'a> {
    writing: AsyncGuard<'a, Writing>,
    /// Dropped after the guard.
    _over: Over<'a>,
}

/// What is done when somebody has written, or was dropped while writing.
struct Over<'a>(&'a Link);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.free.notify_one();
        // Whoever closed the connection meanwhile could not let go of the stream.
        if self.0.is_closed() {
            self.0.release();
        }
    }
}

impl Writing {
    /// Writes what is left, the pongs that are due, and the frames that `encode` adds. Where the
    /// future is dropped, what was not written is left.
    async fn write(
        &mut self,
        pongs: &Mutex<Pongs>,
        encode: impl FnOnce(&mut Outbound),
    ) -> Result<(), SendError> {
        if !self.out.is_empty() {
            self.drain().await?;
        }
        let due = std::mem::take(&mut *pongs.lock().unwrap_or_else(PoisonError::into_inner));
        self.out.pongs(due);
        encode(&mut self.out);
        self.drain().await
    }

    /// Writes everything, and makes sure that it is on its way. Cancel safe.
    async fn drain(&mut self) -> Result<(), SendError> {
        let Some(io) = &mut self.io else {
            return Err(SendError::NotConnected);
        };
        while !self.out.is_empty() {
            if io.write_buf(self.out.unwritten()).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
        }
        io.flush().await?;
        self.out.note_written();
        Ok(())
    }
}

/// Waits until a connection is closed on this side.
#[derive(Debug)]
pub(crate) struct CloseWatch(watch::Receiver<Option<CloseReason>>);

impl CloseWatch {
    /// Returns when the connection is closed. Cancel safe.
    pub(crate) async fn wait(&mut self) -> CloseReason {
        match self.0.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(CloseReason::Asked),
            // The link is gone, and with it everything that could be written to.
            Err(_) => CloseReason::Asked,
        }
    }
}
