//! A byte stream over WebSocket messages.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::frame::{CloseCode, Decoder, Event, Fault, Opcode, close_frame};
use super::outbox::Outbox;
use crate::clock;

/// How long a close frame, ours or the client's, may hold up the end of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many pings of one second are answered. RFC 6455, 5.5.3 wants only the latest answered.
const PONGS_PER_SECOND: u8 = 10;

/// How many bytes are read at once.
const READ_CHUNK: usize = 8 * 1024;

/// The server's end of a WebSocket connection as a byte stream: the payloads of the client's
/// binary messages one after the other, and a message for each flush.
///
/// Bytes that were written leave at a flush, or when they fill a message. Pings are answered by
/// reading. A client's close frame is answered and ends the stream; a client that breaks the
/// rules is told so by a close frame, and reading fails. Shutting the stream down is the closing
/// handshake. While nothing is under way the stream owns no buffer.
#[derive(Debug)]
pub(crate) struct WsStream<IO> {
    io: IO,
    decoder: Decoder,
    /// Received and not yet decoded, from `unread_at` on.
    unread: Vec<u8>,
    unread_at: usize,
    outbox: Outbox,
    /// Whether `io` holds bytes that reading has sent and must flush.
    needs_flush: bool,
    pongs: Pongs,
    phase: Phase,
    /// Runs from the first close frame on.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whoever waits for the socket to take a message.
    writer: Option<Waker>,
}

/// How a stream goes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client closed or broke the rules: the answer is on its way.
    Answering(Ending),
    /// We closed: the client's close frame is awaited.
    Closing,
    Ended(Ending),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    EndOfStream,
    Fault(Fault),
}

impl Ending {
    fn into_read(self) -> Poll<io::Result<()>> {
        Poll::Ready(match self {
            Self::EndOfStream => Ok(()),
            Self::Fault(fault) => Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
        })
    }
}

impl<IO> WsStream<IO> {
    /// Speaks over `io`, where `received` came after the request head.
    pub(crate) fn new(io: IO, received: &[u8]) -> Self {
        Self {
            io,
            decoder: Decoder::default(),
            unread: received.to_vec(),
            unread_at: 0,
            outbox: Outbox::default(),
            needs_flush: false,
            pongs: Pongs::default(),
            phase: Phase::Open,
            deadline: None,
            writer: None,
        }
    }

    /// Begins to end the stream with a close frame.
    fn close(&mut self, code: Option<CloseCode>, next: Phase) {
        self.outbox.seal();
        let frame = code.map(close_frame);
        let payload = frame.as_ref().map_or(&[][..], |frame| &frame[2..]);
        self.outbox.push_frame(Opcode::Close, payload);
        self.phase = next;
        self.wake_writer();
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Puts the latest pong into the outbox, where that is possible between messages.
    fn queue_pong(&mut self) {
        if self.outbox.is_open() || self.phase != Phase::Open {
            return;
        }
        if let Some(payload) = self.pongs.due() {
            self.outbox.push_frame(Opcode::Pong, &payload);
        }
    }

    /// Acts upon `data`, of which the payload goes to `sink`. Returns how much of it is done with.
    fn receive(&mut self, data: &mut [u8], mut sink: impl Sink) -> usize {
        let mut at = 0;
        while self.phase == Phase::Open || self.phase == Phase::Closing {
            let room = sink.room();
            if room == 0 {
                break;
            }
            let input = &mut data[at..];
            let decoded = match self.decoder.decode(input, room) {
                Ok(decoded) => decoded,
                Err(fault) => {
                    self.fail(fault);
                    break;
                }
            };
            at += decoded.consumed;
            match decoded.event {
                None => break,
                Some(Event::Payload(range)) => sink.take(&input[range]),
                Some(Event::Ping(range)) => self.pongs.note(&input[range]),
                Some(Event::Close(code)) => self.closed_by_client(code),
            }
        }
        at
    }

    fn fail(&mut self, fault: Fault) {
        let ending = Ending::Fault(fault);
        match self.phase {
            Phase::Open => self.close(Some(fault.close_code()), Phase::Answering(ending)),
            _ => self.phase = Phase::Ended(ending),
        }
    }

    fn closed_by_client(&mut self, code: Option<CloseCode>) {
        match self.phase {
            Phase::Open => self.close(code, Phase::Answering(Ending::EndOfStream)),
            _ => self.phase = Phase::Ended(Ending::EndOfStream),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> WsStream<IO> {
    /// Sends what is sealed, on behalf of whoever reads or closes.
    fn poll_send_control(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outbox.has_sealed() {
            self.needs_flush = true;
            ready!(self.outbox.poll_drain(&mut self.io, cx))?;
            self.wake_writer();
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the close frame; ready when that is done, failed or took too long.
    fn poll_send_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_send_control(cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_deadline(cx)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
        deadline.as_mut().poll(cx)
    }

    /// Gets more bytes and acts upon them. Ready with `false` at the end of the input.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        mut sink: impl Sink,
    ) -> Poll<io::Result<bool>> {
        if !self.unread.is_empty() {
            let mut unread = std::mem::take(&mut self.unread);
            let before = self.phase;
            let consumed = self.receive(&mut unread[self.unread_at..], &mut sink);
            self.unread_at += consumed;
            if self.unread_at < unread.len() {
                self.unread = unread;
            } else {
                self.unread_at = 0;
            }
            if consumed > 0 || self.phase != before {
                return Poll::Ready(Ok(true));
            }
            // What is left is the beginning of a header or of a control frame. It may have to
            // wait for long, so that it keeps no more memory than it needs.
            self.unread = self.unread.split_off(self.unread_at);
            self.unread_at = 0;
        }
        let mut chunk = [MaybeUninit::uninit(); READ_CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk))?;
        let received = chunk.filled_mut();
        if received.is_empty() {
            return Poll::Ready(Ok(false));
        }
        if self.unread.is_empty() {
            let consumed = self.receive(received, sink);
            self.unread = received[consumed..].to_vec();
        } else {
            self.unread.extend_from_slice(received);
        }
        Poll::Ready(Ok(true))
    }

    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.phase != Phase::Open {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if self.outbox.can_grow() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_send_message(cx))?;
        }
    }

    /// Ends the message that grows and sends everything.
    fn poll_send_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.seal();
        self.queue_pong();
        let sent = self.outbox.poll_drain(&mut self.io, cx);
        self.writer = sent.is_pending().then(|| cx.waker().clone());
        sent
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for WsStream<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            match this.phase {
                Phase::Open => {}
                Phase::Answering(ending) => {
                    // What came before the close frame is delivered first.
                    if buf.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                    ready!(this.poll_send_close(cx));
                    this.phase = Phase::Ended(ending);
                }
                Phase::Closing => return Poll::Ready(Ok(())),
                Phase::Ended(ending) => return ending.into_read(),
            }
            if this.phase == Phase::Open {
                this.queue_pong();
                // Whether the pong leaves now or later, reading goes on. A writer that waits for
                // the socket sends the pong as well, and must not lose its place there.
                if this.writer.is_none()
                    && let Poll::Ready(Err(error)) = this.poll_send_control(cx)
                {
                    return Poll::Ready(Err(error));
                }
                if buf.filled().len() > before || buf.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                if !ready!(this.poll_receive(cx, &mut *buf))? {
                    this.phase = Phase::Ended(Ending::EndOfStream);
                    this.wake_writer();
                }
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WsStream<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(this.poll_write_ready(cx))?;
        Poll::Ready(Ok(this.outbox.push_payload(buf)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.phase != Phase::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_send_message(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.phase == Phase::Open {
            this.close(Some(CloseCode::NORMAL), Phase::Closing);
        }
        while !matches!(this.phase, Phase::Ended(_)) {
            if this.poll_deadline(cx).is_ready() {
                this.phase = Phase::Ended(Ending::EndOfStream);
                break;
            }
            ready!(this.poll_send_close(cx));
            if let Phase::Answering(ending) = this.phase {
                this.phase = Phase::Ended(ending);
                break;
            }
            if !matches!(ready!(this.poll_receive(cx, Discard)), Ok(true)) {
                this.phase = Phase::Ended(Ending::EndOfStream);
            }
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

/// Where payload goes.
trait Sink {
    fn room(&self) -> usize;
    /// Takes no more than there is room for.
    fn take(&mut self, payload: &[u8]);
}

impl Sink for ReadBuf<'_> {
    fn room(&self) -> usize {
        self.remaining()
    }

    fn take(&mut self, payload: &[u8]) {
        self.put_slice(payload);
    }
}

impl<S: Sink> Sink for &mut S {
    fn room(&self) -> usize {
        (**self).room()
    }

    fn take(&mut self, payload: &[u8]) {
        (**self).take(payload);
    }
}

/// After our close frame nobody wants payload any more.
struct Discard;

impl Sink for Discard {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn take(&mut self, _: &[u8]) {}
}

/// The pong that is owed, and how many were sent of late.
#[derive(Debug, Default)]
struct Pongs {
    owed: Option<Box<[u8]>>,
    since: Option<Instant>,
    sent: u8,
}

impl Pongs {
    /// A ping came. It replaces one that is not answered yet.
    fn note(&mut self, payload: &[u8]) {
        self.owed = Some(payload.into());
    }

    /// The payload to answer with now. A ping too many is forgotten.
    fn due(&mut self) -> Option<Box<[u8]>> {
        let owed = self.owed.take()?;
        let now = clock::now();
        if self
            .since
            .is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1))
        {
            self.since = Some(now);
            self.sent = 0;
        }
        if self.sent == PONGS_PER_SECOND {
            return None;
        }
        self.sent += 1;
        Some(owed)
    }
}

#[cfg(test)]
mod tests;
