//! Ways to load one worker of the relay, each the same in every run: for `cargo xtask counts`,
//! which has their instructions counted, and for the test that counts allocations.
//!
//! Nothing here measures time, and nobody but the thread that calls takes part.

use derp_server::measuring::{Client, Link, Rig};

/// A way to load a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// What it is called in the table of counts.
    pub name: &'static str,
    link: Link,
    /// How many clients send, each as many packets a turn as `burst` says.
    sources: u8,
    burst: usize,
    /// How many clients receive, in turn.
    destinations: u8,
    /// Bytes of each packet.
    size: usize,
    receivers: Receivers,
}

/// What those do for whom the packets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receivers {
    /// They receive after each turn.
    Receive,
    /// They do not, so that packets wait and older ones are given up.
    Stall,
    /// They stall, and then receive: what waits is sent in the turn that is looked at.
    Resume,
}

/// One client sends to another, a burst at a time.
const PAIR: Shape = Shape {
    name: "",
    link: Link::Aes128Gcm,
    sources: 1,
    burst: 16,
    destinations: 1,
    size: 1280,
    receivers: Receivers::Receive,
};

/// All shapes.
pub const SHAPES: &[Shape] = &[
    Shape {
        name: "pair",
        ..PAIR
    },
    Shape {
        name: "pair-small",
        size: 64,
        ..PAIR
    },
    Shape {
        name: "pair-one-by-one",
        burst: 1,
        ..PAIR
    },
    Shape {
        name: "pair-chacha20",
        link: Link::ChaCha20Poly1305,
        ..PAIR
    },
    Shape {
        name: "pair-plain",
        link: Link::Plain,
        ..PAIR
    },
    Shape {
        name: "pair-plain-one-by-one",
        link: Link::Plain,
        burst: 1,
        ..PAIR
    },
    Shape {
        name: "fan-in",
        sources: 16,
        burst: 2,
        ..PAIR
    },
    Shape {
        name: "fan-out",
        destinations: 16,
        burst: 32,
        ..PAIR
    },
    Shape {
        name: "stalled",
        receivers: Receivers::Stall,
        ..PAIR
    },
    Shape {
        name: "resumed",
        receivers: Receivers::Resume,
        ..PAIR
    },
];

impl Shape {
    /// The shape that is called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        SHAPES.iter().find(|shape| shape.name == name).copied()
    }

    /// Whether no packet waits: then none is copied to memory of its own.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.receivers == Receivers::Receive
    }
}

/// A worker with its clients, loaded in one shape.
#[derive(Debug)]
pub struct Scene {
    shape: Shape,
    rig: Rig,
    sources: Vec<Client>,
    destinations: Vec<Client>,
    /// Whose turn it is to be sent something.
    next: usize,
    bytes: Vec<u8>,
}

impl Scene {
    /// Connects the clients, and has them exchange enough for everything to have its size.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let mut rig = Rig::new();
        let mut connect = |first: u8, count: u8| -> Vec<_> {
            let numbers = first..first + count;
            numbers.map(|n| rig.connect(n, shape.link)).collect()
        };
        let sources = connect(1, shape.sources);
        let destinations = connect(100, shape.destinations);
        let mut scene = Self {
            shape,
            rig,
            sources,
            destinations,
            next: 0,
            bytes: Vec::new(),
        };
        for _ in 0..32 {
            scene.prepare();
            scene.turn();
        }
        scene
    }

    /// Brings about what a turn will find: packets that have come, or receivers that take some.
    pub fn prepare(&mut self) {
        match self.shape.receivers {
            Receivers::Receive => {
                self.receive();
                self.send();
            }
            Receivers::Stall => {
                self.stall();
                self.send();
            }
            Receivers::Resume => {
                self.stall();
                // The lane is full after twice its length.
                for _ in 0..4 {
                    self.send();
                    self.rig.turn();
                }
                self.receive();
            }
        }
    }

    /// The worker's turn.
    pub fn turn(&mut self) {
        self.rig.turn();
    }

    /// How many packets were dealt with so far: sent, or given up.
    #[must_use]
    pub fn packets(&self) -> u64 {
        let packets = self.rig.packets();
        packets.sent + packets.dropped
    }

    fn send(&mut self) {
        for source in &mut self.sources {
            self.bytes.clear();
            for _ in 0..self.shape.burst {
                let destination = &self.destinations[self.next % self.destinations.len()];
                source.append_packet(destination.key(), self.shape.size, &mut self.bytes);
                self.next += 1;
            }
            source.send(&self.bytes);
        }
    }

    fn receive(&mut self) {
        for destination in &mut self.destinations {
            destination.discard();
        }
    }

    /// Sends until nobody takes anything any more.
    fn stall(&mut self) {
        while !self.destinations.iter().all(Client::is_waited_for) {
            self.send();
            self.rig.turn();
        }
    }
}
