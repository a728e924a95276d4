//! The receiving half of a client.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::{Instant, sleep_until};

use crate::client::ConnectionInfo;
use crate::error::{CloseReason, RecvError};
use crate::inbound::{Inbound, Incoming};
use crate::link::{BoxStream, CloseWatch, Link};
use crate::received::Received;
use crate::session::{Session, Step};

/// How long a server may be silent. Servers send something once a minute.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a server may take to admit a client. It may have to ask somebody.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(30);

/// The receiving half of a client. Dropping it closes the connection.
#[derive(Debug)]
pub struct ClientReader {
    /// Gone when the connection is. The mutex is never locked: it makes a client `Sync` whose stream
    /// is not.
    io: Option<Mutex<ReadHalf<BoxStream>>>,
    inbound: Inbound,
    session: Session,
    link: Arc<Link>,
    closed: CloseWatch,
    /// A pong is owed, or was taken along by a write that may have been dropped since.
    pong_due: bool,
    /// When the server has been silent for too long.
    deadline: Instant,
    /// A complete frame came since `deadline` was set.
    heard: bool,
}

impl ClientReader {
    pub(crate) fn new(
        io: ReadHalf<BoxStream>,
        inbound: Inbound,
        session: Session,
        link: Arc<Link>,
    ) -> Self {
        Self {
            io: Some(Mutex::new(io)),
            inbound,
            session,
            closed: link.watch_close(),
            link,
            pong_due: false,
            deadline: Instant::now() + ADMISSION_TIMEOUT,
            heard: false,
        }
    }

    /// What is known of the connection.
    #[must_use]
    pub fn info(&self) -> &ConnectionInfo {
        &self.link.info
    }

    /// Receives the next thing that the server sent, and answers pings meanwhile.
    ///
    /// Cancel safe: dropping the future loses nothing, also when it is dropped again and again,
    /// as in a loop of `select!`. One that is kept and not polled for a while holds up nobody who
    /// sends.
    ///
    /// # Errors
    /// How the connection ended. From then on it is [`RecvError::ClosedHere`], also where the server
    /// had sent more before the end: that is of a connection that is no more.
    pub async fn recv(&mut self) -> Result<Received, RecvError> {
        let received = self.next().await;
        if received.is_err() {
            self.io = None;
            self.link.close(CloseReason::Asked);
        }
        received
    }

    async fn next(&mut self) -> Result<Received, RecvError> {
        // What came before the end and was not taken is of a connection that is no more.
        if self.io.is_none() {
            return Err(RecvError::ClosedHere(self.closed.wait().await));
        }
        loop {
            while let Some(incoming) = self.inbound.next()? {
                self.heard = true;
                match incoming {
                    Incoming::Frame(frame) => match self.session.on_frame(&frame)? {
                        Step::Deliver(Received::Pong(data)) if self.link.pings.complete(&data) => {}
                        Step::Deliver(received) => {
                            if let Received::ServerInfo(info) = &received {
                                self.link.limit(info);
                            }
                            return Ok(received);
                        }
                        Step::Pong(data) => {
                            self.link.owe_pong(data);
                            self.pong_due = true;
                        }
                        Step::Skip => {}
                    },
                    Incoming::WebSocketPing(payload) => {
                        self.link.owe_websocket_pong(payload);
                        self.pong_due = true;
                    }
                    Incoming::Closed => return Err(RecvError::ServerClosed),
                }
            }
            self.read_more().await?;
        }
    }

    /// Reads some bytes, and writes a pong meanwhile if one is due.
    async fn read_more(&mut self) -> Result<(), RecvError> {
        // Before the client is admitted, nothing but that counts as a sign of life.
        if std::mem::take(&mut self.heard) && self.session.is_admitted() {
            self.deadline = Instant::now() + READ_TIMEOUT;
        }
        let Some(io) = &mut self.io else {
            return Err(RecvError::ClosedHere(self.closed.wait().await));
        };
        let io = io.get_mut().unwrap_or_else(PoisonError::into_inner);
        tokio::select! {
            // The order matters. A pong comes before the read, which may be ready for ever; the
            // deadline after it, for bytes that are here already are no silence.
            biased;
            reason = self.closed.wait() => Err(RecvError::ClosedHere(reason)),
            // A failed write closes the connection, which ends the next round.
            _ = self.link.write_pongs(), if self.pong_due => {
                self.pong_due = false;
                Ok(())
            }
            read = io.read_buf(self.inbound.buffer()) => match read? {
                0 => Err(RecvError::ServerClosed),
                len => {
                    self.inbound.note_read(len);
                    Ok(())
                }
            },
            () = sleep_until(self.deadline) => Err(if self.session.is_admitted() {
                RecvError::Silent(READ_TIMEOUT)
            } else {
                RecvError::NotAdmitted(ADMISSION_TIMEOUT)
            }),
        }
    }
}

impl Drop for ClientReader {
    fn drop(&mut self) {
        self.io = None;
        self.link.close(CloseReason::Asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::writer::ClientWriter;

    #[test]
    fn clients_can_be_shared_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<Client>();
        check::<ClientReader>();
        check::<ClientWriter>();
    }
}
