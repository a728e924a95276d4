//! The sending half of a client.

use std::sync::Arc;
use std::time::Duration;

use derp_proto::{ClientFrame, NodePublic, PingData};
use tokio::time::{Instant, timeout};

use crate::client::ConnectionInfo;
use crate::error::{CloseReason, PingError, SendError};
use crate::forward::{ForwardBatch, check_len};
use crate::link::{Link, WRITE_TIMEOUT};

/// How long a packet of the mesh may take to be written (`derp/derp_client.go`): clients of the
/// relay wait behind it.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long [`ClientWriter::ping`] waits.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle for sending. Clones write to the same connection, one frame after the other.
///
/// # Cancel safety
///
/// Every method that writes is cancel safe as far as the connection is concerned: a frame is
/// written whole or not at all. A frame of which a part was written when the future was dropped is
/// completed by the next write. Whether a frame whose future was dropped is sent stays open.
///
/// # Errors
///
/// A write that fails, or that makes no end within 30 s, closes the connection.
#[derive(Debug, Clone)]
pub struct ClientWriter {
    link: Arc<Link>,
}

impl ClientWriter {
    pub(crate) const fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// What is known of the connection.
    #[must_use]
    pub fn info(&self) -> &ConnectionInfo {
        &self.link.info
    }

    /// Sends a packet to the client with the key `dst`.
    ///
    /// A packet beyond the rate that the server asked for is dropped and counted
    /// ([`Self::limited`]), which is no error: that is what a relay does with packets.
    ///
    /// # Errors
    /// [`SendError::TooLong`] for more than [`MAX_PACKET_LEN`](derp_proto::MAX_PACKET_LEN) bytes,
    /// or the connection's end.
    pub async fn send(&self, dst: NodePublic, packet: &[u8]) -> Result<(), SendError> {
        check_len(packet)?;
        if !self.link.may_send(packet.len()) {
            return Ok(());
        }
        self.write(&ClientFrame::SendPacket { dst, packet }).await
    }

    /// Sends a packet that `src`, a client of this relay, sent to `dst`, a client of the other.
    /// For mesh peers; the server closes the connections of others. The connection is closed if
    /// this takes longer than five seconds.
    ///
    /// # Errors
    /// See [`Self::send`].
    pub async fn forward_packet(
        &self,
        src: NodePublic,
        dst: NodePublic,
        packet: &[u8],
    ) -> Result<(), SendError> {
        check_len(packet)?;
        let frame = ClientFrame::ForwardPacket { src, dst, packet };
        self.link
            .write(FORWARD_TIMEOUT, |out| out.frame(&frame))
            .await
    }

    /// Sends packets that clients of this relay sent to clients of the other. For mesh peers, as
    /// [`Self::forward_packet`] is; the connection is closed if this takes longer than five
    /// seconds, so that a batch should not be larger than what the slowest path takes in that
    /// time.
    ///
    /// # Errors
    /// The connection's end.
    pub async fn forward_all(&self, batch: &ForwardBatch) -> Result<(), SendError> {
        self.link
            .write(FORWARD_TIMEOUT, |out| out.encoded(batch.frames()))
            .await
    }

    /// Tells the server whether it is this client's home, which counts in its statistics.
    ///
    /// # Errors
    /// The connection's end.
    pub async fn note_preferred(&self, preferred: bool) -> Result<(), SendError> {
        self.write(&ClientFrame::NotePreferred(preferred)).await
    }

    /// Asks to be told of all clients that are there, and of those that come and go. For mesh
    /// peers; the server closes the connections of others.
    ///
    /// # Errors
    /// The connection's end.
    pub async fn watch_conns(&self) -> Result<(), SendError> {
        self.write(&ClientFrame::WatchConns).await
    }

    /// Asks the server to close all connections of a client. For mesh peers; the server closes
    /// the connections of others.
    ///
    /// # Errors
    /// The connection's end.
    pub async fn close_peer(&self, peer: NodePublic) -> Result<(), SendError> {
        self.write(&ClientFrame::ClosePeer(peer)).await
    }

    /// Sends a ping whose pong is received as [`crate::Received::Pong`].
    ///
    /// # Errors
    /// The connection's end.
    pub async fn send_ping(&self, data: PingData) -> Result<(), SendError> {
        self.write(&ClientFrame::Ping(data)).await
    }

    /// Sends a ping and waits for its pong, at most five seconds; returns how long it took.
    ///
    /// The pong is seen while another task is in [`ClientReader::recv`](crate::ClientReader::recv),
    /// and not delivered there.
    ///
    /// # Errors
    /// [`PingError::Timeout`], also where nobody is receiving; or the connection's end.
    pub async fn ping(&self) -> Result<Duration, PingError> {
        self.ping_within(PING_TIMEOUT).await
    }

    /// The same with a time of the caller's choice.
    ///
    /// # Errors
    /// See [`Self::ping`].
    pub async fn ping_within(&self, within: Duration) -> Result<Duration, PingError> {
        let mut ping = self.link.pings.begin()?;
        let begin = Instant::now();
        let answered = timeout(within, async {
            self.send_ping(ping.data()).await?;
            ping.pong().await
        });
        match answered.await {
            Ok(answered) => answered.map(|()| begin.elapsed()),
            Err(_) => Err(PingError::Timeout(within)),
        }
    }

    /// How many packets were dropped because the server asked for a lower rate.
    #[must_use]
    pub fn limited(&self) -> u64 {
        self.link.limited()
    }

    /// Whether this side knows that the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// Closes the connection at once; whoever receives or sends is told.
    pub fn close(&self) {
        self.link.close(CloseReason::Asked);
    }

    pub(crate) fn close_because(&self, reason: CloseReason) {
        self.link.close(reason);
    }

    /// Writes what a dropped future has left, says goodbye, and closes the connection. Takes a
    /// second at most.
    pub async fn shutdown(&self) {
        self.link.shut_down().await;
    }

    async fn write(&self, frame: &ClientFrame<'_>) -> Result<(), SendError> {
        self.link.write(WRITE_TIMEOUT, |out| out.frame(frame)).await
    }
}
