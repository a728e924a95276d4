//! A connection to the server on which a case decides every byte and sees every byte: HTTP, DERP
//! frames, or WebSocket frames with DERP in them.
//!
//! Nothing here knows what a server should do. What arrives passes through the case's [`Fault`].

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::context::Cx;
use crate::fault::Fault;
use crate::frame::{PONG, random};
use crate::http::{self, Framing, Response};
use crate::verdict::{Checked, Failure, shown};
use crate::websocket::{self, Message};
use crate::wire::{Handshake, Wire};

/// Longer frames than this are not read: no server has reason to send one.
const MAX_FRAME: usize = 2 << 20;

/// What happens on a connection that speaks DERP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A frame: type and body.
    Frame(u8, Vec<u8>),
    /// The connection's end, and how it came.
    End(String),
}

impl Event {
    /// The event for people.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Frame(ty, body) => format!("frame {ty:#04x} with {}", shown(body)),
            Self::End(how) => how.clone(),
        }
    }
}

/// A connection to the server.
pub(crate) struct Conn {
    cx: Cx,
    /// Its number among those of the case.
    n: usize,
    wire: Wire,
    /// What TLS led to, where it is spoken.
    pub(crate) handshake: Option<Handshake>,
    /// What was received and not looked at.
    buf: BytesMut,
    /// The same of WebSocket frames, where these carry the stream.
    messages: Option<BytesMut>,
    /// How the connection ended.
    end: Option<String>,
    /// What a fault made of frames.
    pending: VecDeque<Event>,
    has_forged: bool,
    /// How many frames a fault has let through.
    passed: usize,
}

/// What waiting for bytes led to.
enum Progress {
    More,
    Ended,
    TimeUp,
}

impl Conn {
    /// A connection over `wire`, of which nothing has been received.
    pub(crate) fn new(cx: &Cx, n: usize, wire: Wire, handshake: Option<Handshake>) -> Self {
        Self {
            cx: cx.clone(),
            n,
            wire,
            handshake,
            buf: BytesMut::new(),
            messages: None,
            end: None,
            pending: VecDeque::new(),
            has_forged: false,
            passed: 0,
        }
    }

    /// The TCP socket.
    pub(crate) fn tcp(&self) -> &TcpStream {
        self.wire.tcp()
    }

    /// The TLS session, where there is one.
    pub(crate) fn session(&mut self) -> Option<&mut rustls::ClientConnection> {
        self.wire.session()
    }

    /// Sends these bytes by one write; in a WebSocket as one message.
    ///
    /// Where the server has ended the connection, receiving tells.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match self.messages {
            None => self.send_raw(bytes).await,
            Some(_) => {
                let first = websocket::FIN | websocket::BINARY;
                let message = websocket::masked(first, random(), bytes.as_ref());
                self.send_raw(message).await;
            }
        }
    }

    /// Sends these bytes one at a time.
    pub(crate) async fn drip(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]).await;
        }
    }

    /// Sends these bytes as they are.
    pub(crate) async fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.cx.note_bytes(self.n, '>', bytes);
        let sending = async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        };
        match timeout(self.cx.patience(), sending).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => self.cx.note(format!("#{} sending: {err}", self.n)),
            Err(_) => self.cx.note(format!("#{} sending: nobody reads", self.n)),
        }
    }

    /// Has TLS send what it has to say of itself.
    pub(crate) async fn flush(&mut self) {
        // A connection that has ended already shows when receiving.
        let _ended = timeout(self.cx.patience(), self.wire.flush()).await;
    }

    /// Ends the sending half: TLS says so, then TCP.
    pub(crate) async fn finish(&mut self) {
        self.cx.note(format!("#{} > end", self.n));
        // A connection that has ended already shows when receiving.
        let _ended = timeout(self.cx.patience(), self.wire.shutdown()).await;
    }

    /// Has what follows be WebSocket frames.
    pub(crate) fn speak_websocket(&mut self) {
        self.messages = Some(self.buf.split());
    }

    /// Exactly so many bytes.
    pub(crate) async fn bytes(&mut self, len: usize) -> Checked<Vec<u8>> {
        let until = self.deadline();
        while self.buf.len() < len {
            self.need(until, &format!("{len} bytes")).await?;
        }
        let bytes = self.buf.split_to(len).to_vec();
        self.cx.note_bytes(self.n, '<', &bytes);
        Ok(bytes)
    }

    /// Everything until the server ends the connection.
    pub(crate) async fn rest(&mut self) -> Checked<Vec<u8>> {
        let until = self.deadline();
        loop {
            match self.read(until).await {
                Progress::More => {}
                Progress::Ended => break,
                Progress::TimeUp => {
                    let seen = format!("it goes on after {}", shown(&self.buf));
                    return Err(Failure::new("the connection's end", seen));
                }
            }
        }
        self.cx.note_bytes(self.n, '<', &self.buf);
        Ok(self.buf.split().to_vec())
    }

    /// The head of a response, up to and with its empty line.
    pub(crate) async fn head(&mut self) -> Checked<String> {
        let until = self.deadline();
        let len = loop {
            if let Some(at) = self.buf.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            let start = b"HTTP/1.";
            if !start.starts_with(&self.buf[..self.buf.len().min(start.len())]) {
                return Err(Failure::new("an HTTP response", shown(&self.buf)));
            }
            self.need(until, "an HTTP response").await?;
        };
        let head = self.buf.split_to(len);
        self.cx.note_bytes(self.n, '<', &head);
        let head = String::from_utf8_lossy(&head).into_owned();
        match self.cx.fault() {
            Some(Fault::Head(from, to)) => Ok(head.replacen(from, to, 1)),
            Some(Fault::NoResponse) => Err(Failure::new("an HTTP response", "nothing")),
            _ => Ok(head),
        }
    }

    /// A whole response to a request with this method.
    pub(crate) async fn response(&mut self, method: &str) -> Checked<Response> {
        let head = self.head().await?;
        let body = match http::framing(&head, method) {
            Framing::Length(len) => self.bytes(len).await?,
            Framing::Close => self.rest().await?,
            Framing::Chunked => self.chunks().await?,
        };
        let body = match self.cx.fault() {
            Some(Fault::Body(from, to)) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                text.replace(from, to).into_bytes()
            }
            _ => body,
        };
        Ok(Response { head, body })
    }

    /// A body in chunks (RFC 9112, 7.1), without trailers.
    async fn chunks(&mut self) -> Checked<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let until = self.deadline();
            let line = loop {
                match self.buf.windows(2).position(|end| end == b"\r\n") {
                    Some(at) => break at,
                    None => self.need(until, "a chunk").await?,
                }
            };
            let digits = String::from_utf8_lossy(&self.buf[..line]).into_owned();
            let len = usize::from_str_radix(&digits, 16)
                .map_err(|_| Failure::new("a chunk's length", digits))?;
            self.buf.advance(line + 2);
            let mut chunk = self.bytes(len + 2).await?;
            chunk.truncate(len);
            body.append(&mut chunk);
            if len == 0 {
                return Ok(body);
            }
        }
    }

    /// What comes next within this time: a frame of any type, the end, or nothing.
    pub(crate) async fn event(&mut self, within: Duration) -> Option<Event> {
        let until = Instant::now() + within;
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if let Some(event) = self.take_frame() {
                self.tamper(event);
                continue;
            }
            match self.more(until).await {
                Progress::More => {}
                Progress::Ended => return Some(Event::End(self.told_end())),
                Progress::TimeUp => return self.forged(),
            }
        }
    }

    /// The next WebSocket frame, or how the connection ended.
    pub(crate) async fn message(&mut self) -> Checked<Message> {
        let until = self.deadline();
        match self.take_message(until).await {
            Ok(message) => Ok(message),
            Err(Progress::TimeUp) => Err(Failure::new("a WebSocket frame", "nothing")),
            Err(_) => Err(Failure::new("a WebSocket frame", self.told_end())),
        }
    }

    /// When patience is over.
    fn deadline(&self) -> Instant {
        Instant::now() + self.cx.patience()
    }

    fn told_end(&self) -> String {
        let how = self.end.clone().unwrap_or_default();
        if self.buf.is_empty() {
            return how;
        }
        format!("{how} in the middle of {}", shown(&self.buf))
    }

    /// Receives something, which must come.
    async fn need(&mut self, until: Instant, what: &str) -> Checked {
        match self.read(until).await {
            Progress::More => Ok(()),
            Progress::Ended => Err(Failure::new(what, self.told_end())),
            Progress::TimeUp if self.buf.is_empty() => Err(Failure::new(what, "nothing")),
            Progress::TimeUp => {
                let seen = format!("only {}", shown(&self.buf));
                Err(Failure::new(what, seen))
            }
        }
    }

    /// Receives more of the stream.
    async fn more(&mut self, until: Instant) -> Progress {
        if self.messages.is_none() {
            return self.read(until).await;
        }
        loop {
            let message = match self.take_message(until).await {
                Ok(message) => message,
                Err(progress) => return progress,
            };
            match message.opcode() {
                websocket::BINARY | websocket::CONTINUATION => {
                    self.buf.extend_from_slice(&message.payload);
                    return Progress::More;
                }
                websocket::CLOSE => {
                    let code = message.close_code();
                    self.end = Some(format!("the WebSocket was closed with {code:?}"));
                    return Progress::Ended;
                }
                _ => {}
            }
        }
    }

    async fn take_message(&mut self, until: Instant) -> Result<Message, Progress> {
        loop {
            let Some(messages) = &mut self.messages else {
                unreachable!("only WebSockets are asked for messages");
            };
            let Some(mut message) = websocket::take(messages) else {
                match self.read(until).await {
                    Progress::More => continue,
                    other => return Err(other),
                }
            };
            let (first, payload) = (message.first, shown(&message.payload));
            self.cx
                .note(format!("#{} < WebSocket {first:#04x} {payload}", self.n));
            let opcode = message.opcode();
            match self.cx.fault() {
                Some(Fault::LoseMessage(ty)) if ty == opcode => continue,
                Some(Fault::FlipMessage(ty, at)) if ty == opcode => flip(&mut message.payload, at),
                Some(Fault::RetypeMessage(from, to)) if from == opcode => {
                    message.first = message.first & 0xf0 | to;
                }
                Some(Fault::MessageBit(bits)) => {
                    let [first, second] = bits.to_be_bytes();
                    message.first ^= first;
                    message.is_masked ^= second & 0x80 != 0;
                }
                _ => {}
            }
            return Ok(message);
        }
    }

    /// Receives bytes as they come over the wire.
    async fn read(&mut self, until: Instant) -> Progress {
        if self.end.is_none() {
            let into = self.messages.as_mut().unwrap_or(&mut self.buf);
            match timeout_at(until, self.wire.read_buf(into)).await {
                Err(_) => return Progress::TimeUp,
                Ok(Ok(0)) => self.end = Some("the connection ended".to_owned()),
                Ok(Ok(_)) => return Progress::More,
                Ok(Err(err)) => self.end = Some(told_error(&err)),
            }
            self.cx.note(format!("#{} < {}", self.n, self.told_end()));
        }
        if self.cx.fault() == Some(Fault::NoEnd) {
            tokio::time::sleep_until(until).await;
            return Progress::TimeUp;
        }
        Progress::Ended
    }

    /// Takes a frame off what was received.
    fn take_frame(&mut self) -> Option<Event> {
        let (&[ty, a, b, c, d], rest) = self.buf.split_first_chunk::<5>()?;
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        if len > MAX_FRAME {
            let how = format!("a frame {ty:#04x} of {len} bytes was announced");
            self.end = Some(how.clone());
            return Some(Event::End(how));
        }
        if rest.len() < len {
            return None;
        }
        let frame = self.buf.split_to(5 + len);
        self.cx.note_bytes(self.n, '<', &frame);
        Some(Event::Frame(ty, frame[5..].to_vec()))
    }

    /// Puts an event into line, as the fault makes it.
    fn tamper(&mut self, event: Event) {
        let Event::Frame(ty, mut body) = event else {
            return self.pending.push_back(event);
        };
        match self.cx.fault() {
            Some(Fault::LoseFrame(lost)) if lost == ty => return,
            Some(Fault::LoseLater(lost)) if lost == ty => {
                self.passed += 1;
                if self.passed > 1 {
                    return;
                }
            }
            Some(Fault::EndAt(last)) if last == ty => {
                let how = "the connection ended".to_owned();
                self.end = Some(how.clone());
                return self.pending.push_back(Event::End(how));
            }
            Some(Fault::RepeatFrame(twice)) if twice == ty => {
                self.pending.push_back(Event::Frame(ty, body.clone()));
            }
            Some(Fault::FlipFrame(flipped, at)) if flipped == ty => flip(&mut body, at),
            Some(Fault::LengthenFrame(long)) if long == ty => body.push(0),
            Some(Fault::ShortenFrame(short)) if short == ty => drop(body.pop()),
            Some(Fault::ForgeFrame(_)) if ty == PONG => {
                let forged = self.forged();
                self.pending.extend(forged);
            }
            _ => {}
        }
        self.pending.push_back(Event::Frame(ty, body));
    }

    /// A frame that the server did not send, once.
    fn forged(&mut self) -> Option<Event> {
        let Some(Fault::ForgeFrame(ty)) = self.cx.fault() else {
            return None;
        };
        let is_first = !std::mem::replace(&mut self.has_forged, true);
        is_first.then(|| Event::Frame(ty, random::<40>().to_vec()))
    }
}

fn flip(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}

fn told_error(err: &io::Error) -> String {
    format!("the connection ended ({err})")
}
