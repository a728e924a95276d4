//! A logged-in client's connection: frames in, frames out, nothing blocks.

use std::io::{ErrorKind, Read, Write};
use std::mem;

use anyhow::{Context, Result, bail, ensure};
use derp_proto::{ClientFrame, NodePublic, Scanned, Scanner, ServerFrame, ServerSide};
use mio::net::TcpStream;

use crate::login::LoggedIn;
use crate::records::{Records, record_len};

/// The longest record that TLS 1.3 allows, its header included.
const MAX_RECORD_LEN: usize = 5 + (16 << 10) + 256;
/// What a buffer for [`Conn::receive`] should have: room for a piece of a record and a long read.
pub(crate) const READ_BUFFER_LEN: usize = MAX_RECORD_LEN + (64 << 10);

/// Whether a socket may have more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No; an event will tell when it has.
    Drained,
    /// Yes.
    MaybeMore,
}

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) key: NodePublic,
    pub(crate) socket: TcpStream,
    records: Option<Records>,
    /// How many bytes were read so far.
    pub(crate) received: usize,
    /// The start of a record, kept until its rest arrives.
    record: Vec<u8>,
    frames: Frames,
    /// What the socket has not taken yet begins at `written`. Empty as long as it takes everything.
    unsent: Vec<u8>,
    written: usize,
}

impl Conn {
    pub(crate) fn new(client: LoggedIn) -> Result<Self> {
        client.socket.set_nonblocking(true)?;
        Ok(Self {
            key: client.key,
            socket: TcpStream::from_std(client.socket),
            records: client.records,
            received: 0,
            record: Vec::new(),
            frames: Frames::default(),
            unsent: Vec::new(),
            written: 0,
        })
    }

    /// Appends a frame to `out`, as a record of its own, for [`Self::write`].
    pub(crate) fn seal(&mut self, frame: &ClientFrame<'_>, out: &mut Vec<u8>) {
        match &mut self.records {
            None => frame.encode(out),
            Some(records) => records.seal(out, |out| frame.encode(out)),
        }
    }

    /// How many bytes wait for the socket to take them.
    pub(crate) fn backlog(&self) -> usize {
        self.unsent.len() - self.written
    }

    /// Writes sealed frames, as far as the socket takes them, and keeps the rest.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.flush()?;
        let mut rest = bytes;
        while self.backlog() == 0 && !rest.is_empty() {
            match offer(&mut self.socket, rest)? {
                0 => break,
                taken => rest = &rest[taken..],
            }
        }
        self.unsent.extend_from_slice(rest);
        Ok(())
    }

    /// Writes what was kept, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while self.backlog() > 0 {
            match offer(&mut self.socket, &self.unsent[self.written..])? {
                0 => return Ok(()),
                taken => self.written += taken,
            }
        }
        self.unsent.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads once, `limit` bytes at most, and hands on the frames that are whole.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        limit: usize,
        on_frame: &mut impl FnMut(&ServerFrame<'_>) -> Result<()>,
    ) -> Result<Progress> {
        let kept = self.record.len();
        let end = buffer.len().min(kept.saturating_add(limit));
        let filled = match self.socket.read(&mut buffer[kept..end]) {
            Ok(0) => bail!("the relay closed the connection of {:?}", self.key),
            Ok(read) => kept + read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Drained),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Progress::MaybeMore),
            Err(error) => return Err(error).context("reading from the relay"),
        };
        self.received += filled - kept;
        buffer[..kept].copy_from_slice(&self.record);
        self.record.clear();
        let mut rest = &mut buffer[..filled];
        let Some(records) = &mut self.records else {
            self.frames.take(rest, on_frame)?;
            return Ok(progress(filled, end));
        };
        while let Some(len) = record_len(rest) {
            ensure!(len <= MAX_RECORD_LEN, "a record of {len} bytes");
            if len > rest.len() {
                break;
            }
            let (record, behind) = mem::take(&mut rest).split_at_mut(len);
            self.frames.take(records.open(record)?, on_frame)?;
            rest = behind;
        }
        self.record.extend_from_slice(rest);
        Ok(progress(filled, end))
    }
}

/// How many bytes the socket took; 0 where it is full.
fn offer(socket: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
    loop {
        match socket.write(bytes) {
            Ok(taken) => return Ok(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("writing to the relay"),
        }
    }
}

/// A short read means that the socket is empty: asking once more would be a wasted call.
fn progress(filled: usize, end: usize) -> Progress {
    if filled < end {
        Progress::Drained
    } else {
        Progress::MaybeMore
    }
}

/// Finds frames in the stream, wherever its pieces begin and end.
#[derive(Debug, Default)]
struct Frames {
    /// The start of a frame, kept until its rest arrives.
    partial: Vec<u8>,
    scanner: Scanner<ServerSide>,
}

impl Frames {
    fn take(
        &mut self,
        piece: &[u8],
        on_frame: &mut impl FnMut(&ServerFrame<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.partial.is_empty() {
            let used = self.scan(piece, on_frame)?;
            self.partial.extend_from_slice(&piece[used..]);
            return Ok(());
        }
        let mut held = mem::take(&mut self.partial);
        held.extend_from_slice(piece);
        let used = self.scan(&held, on_frame)?;
        held.drain(..used);
        self.partial = held;
        Ok(())
    }

    /// Hands on all whole frames and tells where they end.
    fn scan(
        &mut self,
        bytes: &[u8],
        on_frame: &mut impl FnMut(&ServerFrame<'_>) -> Result<()>,
    ) -> Result<usize> {
        let mut at = 0;
        loop {
            match self.scanner.scan(&bytes[at..])? {
                Scanned::Frame { ty, body } => {
                    on_frame(&ServerFrame::parse(
                        ty,
                        &bytes[at + body.start..at + body.end],
                    )?)?;
                    at += body.end;
                }
                Scanned::Skipped { end, .. } | Scanned::Skipping { end } => at += end,
                Scanned::Partial { .. } => return Ok(at),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_a_full_socket_does_not_take_follows_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut relay, _) = listener.accept().unwrap();
        let key = NodePublic::from_bytes([1; 32]);
        let client = LoggedIn {
            key,
            socket,
            records: None,
        };
        let mut conn = Conn::new(client).unwrap();
        let mut sent = Vec::new();
        let mut next = 0_u8;
        // A few more after the first that stays, so that they have to wait behind it.
        let mut more = 3;
        while more > 0 {
            next = next.wrapping_add(1);
            let piece = vec![next; 10_007];
            conn.write(&piece).unwrap();
            sent.extend_from_slice(&piece);
            more -= i32::from(conn.backlog() > 0);
        }
        let mut got = vec![0; sent.len()];
        let mut filled = 0;
        while filled < got.len() {
            filled += relay.read(&mut got[filled..]).unwrap();
            conn.flush().unwrap();
        }
        assert!(got == sent, "other bytes arrived than were sent");
        assert_eq!(conn.backlog(), 0);
    }

    #[test]
    fn frames_are_found_wherever_the_pieces_of_the_stream_end() {
        let src = NodePublic::from_bytes([7; 32]);
        let mut wire = Vec::new();
        let sent: Vec<Vec<u8>> = (0..9_u8).map(|n| vec![n; usize::from(n) * 11]).collect();
        for packet in &sent {
            ServerFrame::RecvPacket { src, packet }.encode(&mut wire);
            ServerFrame::KeepAlive.encode(&mut wire);
        }
        for step in 1..=wire.len() {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for piece in wire.chunks(step) {
                let take = &mut |frame: &ServerFrame<'_>| {
                    if let ServerFrame::RecvPacket { packet, .. } = frame {
                        got.push(packet.to_vec());
                    }
                    Ok(())
                };
                frames.take(piece, take).unwrap();
            }
            assert_eq!(got, sent, "pieces of {step} bytes");
        }
    }
}
