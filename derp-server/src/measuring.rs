//! What counts instructions, allocations and the like need of this crate: one worker that takes a
//! turn when it is told to, and clients that are connected to it by pairs of sockets. The code
//! that runs is the relay's own, from the poller to the socket, with nothing else in its thread.
//!
//! Only unpublished crates turn this on; nothing here is part of the library's interface.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use derp_proto::{ClientFrame, NodePrivate, NodePublic};
use derp_verify::AllowAll;
use rustls::CipherSuite;
use zeroize::Zeroizing;

use crate::admitted::{Admitted, Rest};
use crate::driver::{Driver, Running};
use crate::hub::Hub;
use crate::inbox::{Inbox, Message};
use crate::metrics::PacketCounts;
use crate::peer::{Identity, Owner, Peer};
use crate::registry;
use crate::tls13::{Opener, RECORD_HEADER, RECORD_TRAILER, Sealer};
use crate::tunables::Tunables;
use crate::tx::{Seal, Sink};
use crate::wire::Wire;

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Without TLS.
    Plain,
    /// TLS 1.3 with AES-128-GCM.
    Aes128Gcm,
    /// TLS 1.3 with ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Link {
    const fn suite(self) -> Option<CipherSuite> {
        match self {
            Self::Plain => None,
            Self::Aes128Gcm => Some(CipherSuite::TLS13_AES_128_GCM_SHA256),
            Self::ChaCha20Poly1305 => Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
        }
    }
}

/// A relay of one worker, which its owner drives.
pub struct Rig {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    running: Running,
}

/// A client, at the other end of its connection.
pub struct Client {
    socket: UnixStream,
    sealer: Option<Sealer>,
    peer: Arc<Peer>,
}

impl std::fmt::Debug for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rig").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Rig {
    /// A relay without clients.
    #[must_use]
    pub fn new() -> Self {
        let private = NodePrivate::from_random([0xee; 32]);
        let verifier = Arc::new(AllowAll);
        let hub = Hub::new(&private, Vec::new(), verifier, Tunables::default(), 1);
        let hub = Arc::new(hub);
        let driver = Driver::new().expect("the system has a poller");
        let inbox = Arc::clone(&driver.inbox);
        let totals = Arc::clone(hub.metrics.totals(1));
        let running = driver
            .start(Arc::clone(&hub), totals)
            .expect("a poller can be registered with");
        Self {
            hub,
            inbox,
            running,
        }
    }

    /// Lets a client in that is number `n`.
    pub fn connect(&mut self, n: u8, link: Link) -> Client {
        let (ours, socket) = UnixStream::pair().expect("the system has sockets");
        for end in [&ours, &socket] {
            end.set_nonblocking(true).expect("sockets need not block");
        }
        // A secret for each direction. They are nobody's.
        let known = "the suites are those of TLS 1.3";
        let sealer = |suite, n| Sealer::new(suite, secret(n), 0).expect(known);
        let opener = |suite, n| Opener::new(suite, secret(n), 0).expect(known);
        let suite = link.suite();
        let seal = suite.map_or(Seal::Plain, |suite| Seal::Tls13(Box::new(sealer(suite, 1))));
        let key = NodePrivate::from_random([n; 32]).public();
        let flags = registry::flags(false, false, true);
        let who = Identity::new(key, self.hub.next_conn(), flags);
        let owner = Owner::Worker {
            wire: Wire::Socket(ours.into()),
            inbox: Arc::clone(&self.inbox),
        };
        let budget = Arc::clone(&self.hub.queued);
        let peer = Arc::new(Peer::new(who, owner, Sink::Direct(seal), budget));
        self.inbox.load.fetch_add(1, Ordering::Relaxed);
        self.inbox.post(Message::Serve(Box::new(Admitted {
            peer: Arc::clone(&peer),
            server_info: vec![0x03, 0, 0, 0, 0],
            opener: suite.map(|suite| Box::new(opener(suite, 2))),
            rest: Rest::default(),
            terms: None,
            keep_alive: Duration::from_secs(3600),
        })));
        let mut client = Client {
            socket,
            sealer: suite.map(|suite| sealer(suite, 2)),
            peer,
        };
        self.turn();
        // The poller reports each new socket as writable once.
        self.turn();
        assert!(client.discard() > 0, "a new client is told that it is one");
        client
    }

    /// The worker does all that there is to do, and returns where its thread would wait.
    ///
    /// It is this function whose instructions are counted.
    #[inline(never)]
    pub fn turn(&mut self) {
        self.running
            .turn(Some(Duration::ZERO))
            .expect("the poller works");
    }

    /// What became of all packets so far.
    #[must_use]
    pub fn packets(&self) -> PacketCounts {
        self.hub.metrics.packets()
    }
}

impl Client {
    /// The client's key.
    #[must_use]
    pub fn key(&self) -> NodePublic {
        self.peer.key
    }

    /// Appends a packet of `size` bytes for `dst` to `out`, as it goes over the wire: where there
    /// is TLS, in a record of its own, as clients send them.
    pub fn append_packet(&mut self, dst: NodePublic, size: usize, out: &mut Vec<u8>) {
        let packet = vec![0x5a; size];
        let frame = ClientFrame::SendPacket {
            dst,
            packet: &packet,
        };
        let start = out.len();
        let Some(sealer) = &mut self.sealer else {
            frame.encode(out);
            return;
        };
        out.resize(start + RECORD_HEADER, 0);
        frame.encode(out);
        out.resize(out.len() + RECORD_TRAILER, 0);
        sealer.seal(&mut out[start..]);
    }

    /// Sends bytes, all of which the connection takes.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut socket = &self.socket;
        socket
            .write_all(bytes)
            .expect("the relay has read what came before");
    }

    /// Receives all that has come and forgets it; returns how many bytes it was.
    pub fn discard(&mut self) -> usize {
        let mut buf = [0; 64 << 10];
        let mut all = 0;
        loop {
            match self.socket.read(&mut buf) {
                Ok(0) => return all,
                Ok(n) => all += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
                Err(error) => unreachable!("the other end of a pair of sockets: {error}"),
            }
        }
    }

    /// Whether something waits for the client, because its connection takes no more.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.peer.held() > 0
    }
}

fn secret(n: u8) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![n; 32])
}
