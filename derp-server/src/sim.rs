//! A worker in a world without sockets and clocks: pipes in memory, and time that passes when a
//! test says so. What runs is the fast path itself.

#![cfg_attr(
    not(test),
    expect(dead_code, reason = "stories need more than fuzz targets do")
)]

mod chaos;
#[cfg(test)]
mod chaos_tests;
mod checks;
mod choices;
mod limits;
mod link;
mod mark;
mod memory_wire;
mod mesh_acts;
mod player;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use derp_proto::{
    ClientFrame, FrameDecoder, NodePrivate, NodePublic, OwnedFrame, ServerFrame, ServerSide,
};
use derp_verify::{AllowAll, RateLimit};
use rustls::CipherSuite;
use zeroize::Zeroizing;

use crate::admitted::{Admitted, Rest};
use crate::clock;
use crate::hub::Hub;
use crate::inbox::{Inbox, Message};
use crate::limiter::Terms;
use crate::metrics::PacketCounts;
use crate::peer::{ConnId, Identity, Owner, Peer};
use crate::registry;
use crate::tls13::{
    MAX_CONTENT, Opened, Opener, RECORD_HEADER, RECORD_TRAILER, Sealer, record_len,
};
use crate::tunables::Tunables;
use crate::tx::{Seal, Sink};
use crate::wire::Wire;
use crate::worker::Worker;

#[cfg(feature = "fuzzing")]
pub(crate) use chaos::run;
#[cfg(feature = "fuzzing")]
pub(crate) use choices::Choices;
pub(crate) use memory_wire::MemoryWire;

/// How a client of the simulation is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Plain,
    Tls(CipherSuite),
}

/// All kinds of links that a worker serves.
pub(crate) const LINKS: [Link; 4] = [
    Link::Plain,
    Link::Tls(CipherSuite::TLS13_AES_128_GCM_SHA256),
    Link::Tls(CipherSuite::TLS13_AES_256_GCM_SHA384),
    Link::Tls(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
];

/// A relay, and the time it lives in.
pub(crate) struct Sim {
    pub(crate) hub: Arc<Hub>,
    pub(crate) workers: Vec<SimWorker>,
    pub(crate) now: Instant,
}

/// A worker, and what would wake it.
pub(crate) struct SimWorker {
    pub(crate) worker: Worker,
    pub(crate) inbox: Arc<Inbox>,
    woken: Arc<AtomicBool>,
}

/// A client, and the network between it and the relay.
pub(crate) struct SimClient {
    pub(crate) key: NodePublic,
    pub(crate) id: ConnId,
    pub(crate) wire: Arc<MemoryWire>,
    tls: Option<(Sealer, Opener)>,
    sealed: Vec<u8>,
    received: BytesMut,
    decoder: FrameDecoder<ServerSide>,
}

pub(crate) struct ClientOptions {
    pub(crate) link: Link,
    pub(crate) is_mesh_peer: bool,
    pub(crate) rate: Option<RateLimit>,
    pub(crate) group: Option<&'static str>,
    /// How many bytes the network takes before it is full.
    pub(crate) room: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            link: Link::Plain,
            is_mesh_peer: false,
            rate: None,
            group: None,
            room: 1 << 20,
        }
    }
}

pub(crate) fn key(n: u8) -> NodePublic {
    NodePrivate::from_random([n; 32]).public()
}

/// The key of the relay itself.
pub(crate) const SERVER: u8 = 0xee;

impl Sim {
    pub(crate) fn new(tunables: Tunables) -> Self {
        Self::with_workers(1, tunables)
    }

    pub(crate) fn with_workers(workers: usize, tunables: Tunables) -> Self {
        let private = NodePrivate::from_random([SERVER; 32]);
        let hub = Arc::new(Hub::new(
            &private,
            Vec::new(),
            Arc::new(AllowAll),
            tunables,
            workers,
        ));
        let now = clock::now();
        let worker = |n| {
            let woken = Arc::new(AtomicBool::new(false));
            let wake = Arc::clone(&woken);
            let inbox = Arc::new(Inbox::new(move || wake.store(true, Relaxed)));
            let totals = Arc::clone(hub.metrics.totals(n));
            let worker = Worker::new(Arc::clone(&hub), totals, Arc::clone(&inbox), None, now);
            SimWorker {
                worker,
                inbox,
                woken,
            }
        };
        Self {
            workers: (1..=workers).map(worker).collect(),
            hub,
            now,
        }
    }

    /// The worker, where there is but one.
    pub(crate) fn worker(&self) -> &Worker {
        &self.workers[0].worker
    }

    /// A client logs in, and is served before anything else happens.
    pub(crate) fn connect(&mut self, key: NodePublic, options: &ClientOptions) -> SimClient {
        let mut client = self.admit(0, key, options);
        self.run();
        let first = client.receive();
        assert_eq!(
            first[0].as_server(),
            Ok(ServerFrame::ServerInfo(&[7])),
            "first of all"
        );
        client
    }

    /// A client has logged in; the worker will hear of it.
    pub(crate) fn admit(
        &self,
        worker: usize,
        key: NodePublic,
        options: &ClientOptions,
    ) -> SimClient {
        let inbox = &self.workers[worker].inbox;
        let wire = MemoryWire::new(options.room);
        let (seal, opener, tls) = match options.link {
            Link::Plain => (Seal::Plain, None, None),
            Link::Tls(suite) => {
                let len = if suite == CipherSuite::TLS13_AES_256_GCM_SHA384 {
                    48
                } else {
                    32
                };
                let known = "the suites are those of TLS 1.3";
                let secret = |n: u8| Zeroizing::new(vec![n; len]);
                let seal = |n| Sealer::new(suite, secret(n), 0).expect(known);
                let open = |n| Opener::new(suite, secret(n), 0).expect(known);
                let ours = (Seal::Tls13(Box::new(seal(1))), Some(Box::new(open(2))));
                (ours.0, ours.1, Some((seal(2), open(1))))
            }
        };
        let id = self.hub.next_conn();
        let flags = registry::flags(options.is_mesh_peer, false, true);
        let who = Identity::new(key, id, flags);
        let owner = Owner::Worker {
            wire: Wire::Memory(Arc::clone(&wire)),
            inbox: Arc::clone(inbox),
        };
        let peer = Peer::new(who, owner, Sink::Direct(seal), Arc::clone(&self.hub.queued));
        inbox.load.fetch_add(1, Relaxed);
        inbox.post(Message::Serve(Box::new(Admitted {
            peer: Arc::new(peer),
            server_info: vec![0x03, 0, 0, 0, 1, 7],
            opener,
            rest: Rest::default(),
            terms: Some(Box::new(Terms {
                rate: options.rate,
                group: options
                    .group
                    .map(|name| self.hub.rates.group(name, self.now)),
            })),
            keep_alive: Duration::from_secs(60),
        })));
        SimClient {
            key,
            id,
            wire,
            tls,
            sealed: Vec::new(),
            received: BytesMut::new(),
            decoder: FrameDecoder::new(),
        }
    }

    pub(crate) fn plain(&mut self, n: u8) -> SimClient {
        self.connect(key(n), &ClientOptions::default())
    }

    /// Lets the workers do all that they can do now, and have them look where they need not.
    ///
    /// It ends when they look twice and have nothing left to do, and after 50 rounds at the latest.
    pub(crate) fn run(&mut self) {
        let mut idle_rounds = 0;
        for _ in 0..50 {
            for SimWorker { worker, woken, .. } in &mut self.workers {
                worker.set_now(self.now);
                woken.store(false, Relaxed);
                worker.on_messages();
                worker.on_timers();
                worker.on_everything();
                worker.run_ready();
            }
            idle_rounds = if self.has_work() { 0 } else { idle_rounds + 1 };
            if idle_rounds == 2 {
                break;
            }
        }
    }

    /// Whether a worker would go on by itself, without time passing.
    fn has_work(&self) -> bool {
        self.workers.iter().any(|SimWorker { worker, woken, .. }| {
            let timer = worker.next_timer();
            woken.load(Relaxed) || worker.has_ready() || timer.is_some_and(|next| next <= self.now)
        })
    }

    /// One round of a worker's loop, as its driver has it. Says whether there was anything to do.
    pub(crate) fn step(&mut self, worker: usize) -> bool {
        let SimWorker { worker, woken, .. } = &mut self.workers[worker];
        worker.set_now(self.now);
        let mut any = worker.on_events();
        if woken.swap(false, Relaxed) {
            any = true;
            worker.on_messages();
        }
        any |= worker.next_timer().is_some_and(|next| next <= self.now);
        worker.on_timers();
        any |= worker.has_ready();
        worker.run_ready();
        any
    }

    /// Lets time pass, with the workers awake whenever they want to be.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        while let Some(next) = self.next_timer().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.run();
        }
        self.now = end;
        self.run();
    }

    /// Lets time pass, with each worker awake only when something wakes it.
    #[cfg(test)]
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        self.rest();
        while let Some(next) = self.next_timer().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.rest();
        }
        self.now = end;
        self.rest();
    }

    /// The workers do all that something wakes them for.
    #[cfg(test)]
    pub(crate) fn rest(&mut self) {
        let workers = self.workers.len();
        for _ in 0..1000 {
            let steps = (0..workers).filter(|worker| self.step(*worker));
            if steps.count() == 0 {
                return;
            }
        }
        panic!("the workers do not come to rest");
    }

    /// A worker does what it was asked to do, and nothing else.
    pub(crate) fn serve(&mut self, worker: usize) {
        let SimWorker { worker, woken, .. } = &mut self.workers[worker];
        worker.set_now(self.now);
        if woken.swap(false, Relaxed) {
            worker.on_messages();
        }
    }

    /// When a worker wants to be awake without being woken.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let timers = self.workers.iter().map(|worker| worker.worker.next_timer());
        timers.flatten().min()
    }

    /// What clients have not finished, counted anew.
    pub(crate) fn held_unfinished(&self) -> usize {
        let workers = self.workers.iter();
        workers.map(|worker| worker.worker.held_unfinished()).sum()
    }

    pub(crate) fn worker_inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.workers[0].inbox)
    }

    /// What became of all packets. Those that wait are none of the three.
    pub(crate) fn packets(&self) -> PacketCounts {
        self.hub.metrics.packets()
    }

    /// Each packet was sent, forwarded or dropped.
    pub(crate) fn assert_ledger_balances(&self) {
        let counts = self.packets();
        assert_eq!(
            counts.received,
            counts.sent + counts.forwarded + counts.dropped,
            "{counts:?}"
        );
    }
}

impl SimClient {
    /// Sends bytes, as one TLS record where there is TLS (or several where they do not fit).
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let protected = self.protect(bytes, MAX_CONTENT);
        self.wire.deliver(&protected);
    }

    /// What goes over the wire for `bytes`: themselves, or TLS records of so much content.
    pub(crate) fn protect(&mut self, bytes: &[u8], content: usize) -> Vec<u8> {
        let Some((sealer, _)) = &mut self.tls else {
            return bytes.to_vec();
        };
        let mut protected = Vec::new();
        for content in bytes.chunks(content) {
            let mut record = [&[0; RECORD_HEADER], content, &[0; RECORD_TRAILER]].concat();
            sealer.seal(&mut record);
            protected.append(&mut record);
        }
        protected
    }

    /// What goes over the wire before the client uses its next key; nothing without TLS.
    pub(crate) fn update_key(&mut self) -> Vec<u8> {
        let mut record = Vec::new();
        if let Some((sealer, _)) = &mut self.tls {
            sealer
                .key_update(&mut record)
                .expect("keys have successors");
        }
        record
    }

    /// What goes over the wire when the client says goodbye; nothing without TLS.
    pub(crate) fn goodbye(&mut self) -> Vec<u8> {
        let mut record = Vec::new();
        if let Some((sealer, _)) = &mut self.tls {
            sealer.close_notify(&mut record);
        }
        record
    }

    pub(crate) fn send(&mut self, frame: &ClientFrame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_packet(&mut self, dst: NodePublic, packet: &[u8]) {
        self.send(&ClientFrame::SendPacket { dst, packet });
    }

    /// All that has come.
    pub(crate) fn receive(&mut self) -> Vec<OwnedFrame> {
        self.receive_some(usize::MAX)
    }

    /// What comes when the network takes at most `max` bytes.
    pub(crate) fn receive_some(&mut self, max: usize) -> Vec<OwnedFrame> {
        let bytes = self.wire.take(max);
        match &mut self.tls {
            None => self.received.extend_from_slice(&bytes),
            Some((_, opener)) => {
                self.sealed.extend_from_slice(&bytes);
                let mut at = 0;
                while let Some(len) = record_len(&self.sealed[at..]).expect("we send records")
                    && let Some(record) = self.sealed.get_mut(at..at + len)
                {
                    if let Opened::Data(content) = opener.open(record).expect("we seal them right")
                    {
                        self.received
                            .extend_from_slice(&record[RECORD_HEADER..][..content]);
                    }
                    at += len;
                }
                self.sealed.drain(..at);
            }
        }
        let decoder = &mut self.decoder;
        let received = &mut self.received;
        std::iter::from_fn(|| decoder.decode(received).expect("we send frames")).collect()
    }

    /// The packets that have come: who sent them, and what they are.
    pub(crate) fn packets(&mut self) -> Vec<(NodePublic, Vec<u8>)> {
        self.receive()
            .iter()
            .filter_map(|frame| match frame.as_server().expect("it is a server's") {
                ServerFrame::RecvPacket { src, packet } => Some((src, packet.to_vec())),
                _ => None,
            })
            .collect()
    }

    /// The client hangs up.
    pub(crate) fn hang_up(&self) {
        self.wire.hang_up();
    }

    /// How many hold the relay's end of the connection.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.wire) - 1
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.wire.is_shut()
    }
}
