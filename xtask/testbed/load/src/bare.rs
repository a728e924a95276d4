//! The least that a relay can be, to tell what of a relay's cost is the kernel's and the cipher's.
//!
//! It receives, opens a record, finds the destination, overwrites the frame's type and key, seals
//! the record where it lies, and sends. What is not here is everything that makes a relay: no
//! handshake (a client says its key, and the keys of its records follow from that, so nothing is
//! secret), no other frames, no queues, timers, limits or counters; one thread. A socket that is
//! full ends it, so it is only for loads that fill none.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use derp_proto::{FrameHeader, FrameType, HEADER_LEN, KEY_LEN, NodePublic};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::args::on_loopback;
use crate::records::{RECORD_HEADER_LEN, Records, record_len};

const LISTENER: Token = Token(usize::MAX);
/// How many bytes are read at once.
const READ_LEN: usize = 64 << 10;
/// How long a new client may take to say its key.
const GREETING: Duration = Duration::from_secs(5);

/// Serves until the process is ended.
pub(crate) fn serve(addr: SocketAddr) -> Result<Infallible> {
    on_loopback(addr.ip())?;
    let mut listener = TcpListener::bind(addr)?;
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut relay = Relay {
        conns: Vec::new(),
        numbers: HashMap::new(),
    };
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; READ_LEN];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                relay.accept(&listener, &poll)?;
            } else if event.is_readable() {
                relay.receive(event.token().0, &mut buffer)?;
            }
        }
    }
}

struct Relay {
    conns: Vec<Conn>,
    numbers: HashMap<NodePublic, usize>,
}

struct Conn {
    key: NodePublic,
    socket: TcpStream,
    records: Records,
    /// The start of a record whose rest has not come.
    rest: Vec<u8>,
    /// Whom the last packet went to, and that client's number.
    last: Option<(NodePublic, usize)>,
}

impl Relay {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> Result<()> {
        loop {
            let socket = match listener.accept() {
                Ok((socket, _)) => std::net::TcpStream::from(socket),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            // Whoever only looks whether this listens is no client.
            let Ok(key) = greet(&socket) else { continue };
            let mut socket = TcpStream::from_std(socket);
            let number = self.conns.len();
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut socket, Token(number), interest)?;
            // The client may send as soon as it has read its key back.
            (&socket).write_all(key.as_bytes())?;
            self.numbers.insert(key, number);
            self.conns.push(Conn {
                key,
                socket,
                records: Records::of_bare_relay(&key)?,
                rest: Vec::new(),
                last: None,
            });
        }
    }

    /// Reads until the socket is empty, and sends on what was read.
    fn receive(&mut self, number: usize, buffer: &mut [u8]) -> Result<()> {
        loop {
            let conn = &mut self.conns[number];
            let kept = conn.rest.len();
            let filled = match conn.socket.read(&mut buffer[kept..]) {
                Ok(0) => return Ok(()),
                Ok(read) => kept + read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            buffer[..kept].copy_from_slice(&conn.rest);
            conn.rest.clear();
            self.relay(number, &mut buffer[..filled])?;
            if filled < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Turns each whole record into one for its destination. Those that go to the same client lie
    /// behind each other and are sent by one call.
    fn relay(&mut self, from: usize, bytes: &mut [u8]) -> Result<()> {
        let (mut start, mut at, mut to) = (0, 0, None);
        while let Some(len) = record_len(&bytes[at..]).filter(|len| at + len <= bytes.len()) {
            let next = self.rewrite(from, &mut bytes[at..at + len])?;
            if to != Some(next) {
                self.send(to, &bytes[start..at])?;
                (start, to) = (at, Some(next));
            }
            at += len;
        }
        self.send(to, &bytes[start..at])?;
        self.conns[from].rest.extend_from_slice(&bytes[at..]);
        Ok(())
    }

    /// Makes a record of a client's SendPacket frame one of a RecvPacket frame, which is just as
    /// long, and returns whom it is for.
    fn rewrite(&mut self, from: usize, record: &mut [u8]) -> Result<usize> {
        let conn = &mut self.conns[from];
        let plain = conn.records.open(record)?.len();
        let src = conn.key;
        let frame = &mut record[RECORD_HEADER_LEN..RECORD_HEADER_LEN + plain];
        let read = FrameHeader::parse(frame).context("a record without a frame")?;
        ensure!(
            read.ty == FrameType::SEND_PACKET && usize::try_from(read.len)? + HEADER_LEN == plain,
            "only packets, each in a record of its own"
        );
        let key: &mut [u8; KEY_LEN] = frame[HEADER_LEN..]
            .first_chunk_mut()
            .context("a packet without a key")?;
        let dst = NodePublic::from_bytes(mem::replace(key, *src.as_bytes()));
        frame[0] = FrameType::RECV_PACKET.0;
        let to = match conn.last {
            Some((last, number)) if last == dst => number,
            _ => *self.numbers.get(&dst).context("a packet to nobody")?,
        };
        conn.last = Some((dst, to));
        self.conns[to].records.seal_again(record);
        Ok(to)
    }

    fn send(&mut self, to: Option<usize>, bytes: &[u8]) -> Result<()> {
        let Some(to) = to else { return Ok(()) };
        let sent = self.conns[to].socket.write(bytes)?;
        if sent < bytes.len() {
            bail!("a client takes too little: there are no queues here");
        }
        Ok(())
    }
}

/// Reads the key of a new client.
fn greet(mut socket: &std::net::TcpStream) -> Result<NodePublic> {
    socket.set_nodelay(true)?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(GREETING))?;
    let mut key = [0; KEY_LEN];
    socket.read_exact(&mut key)?;
    socket.set_nonblocking(true)?;
    Ok(NodePublic::from_bytes(key))
}
