//! What a packet costs other processors: the locks it takes and the memory it writes that they
//! use as well. More processors relay more only as long as that depends on neither their number
//! nor that of the clients.

use crate::shared::{Shared, count};
use crate::sim::{ClientOptions, LINKS, Link, Sim, SimClient, key};
use crate::tunables::Tunables;

/// Its destination's lock; and the number of those who hold the destination, until it is sent.
const ONE_BATCH: Shared = Shared {
    locks: 1,
    writes: 1,
};
/// That, and the lock of a shard of the registry; and the sender is one more who holds what it
/// found there.
const ONE_BATCH_ELSEWHERE: Shared = Shared {
    locks: 2,
    writes: 2,
};

const SIZES: [(usize, u8); 4] = [(1, 2), (1, 200), (2, 20), (16, 200)];

/// A relay whose clients are spread over its workers, so that neighbours have different ones.
struct Crowd {
    sim: Sim,
    clients: Vec<SimClient>,
}

impl Crowd {
    fn new(workers: usize, clients: u8, link: Link) -> Self {
        let mut sim = Sim::with_workers(workers, Tunables::default());
        let options = ClientOptions {
            link,
            ..ClientOptions::default()
        };
        let clients = (0..clients)
            .map(|n| sim.admit(usize::from(n) % workers, key(n), &options))
            .collect();
        sim.run();
        Self { sim, clients }
    }

    /// Lets each client in turn send `packets` to the one that is `step` places on, and returns
    /// what the workers did for each of the senders.
    fn round(&mut self, step: usize, packets: usize) -> Vec<Shared> {
        let all = self.clients.len();
        let mut costs = Vec::new();
        for n in 0..all {
            let to = self.clients[(n + step) % all].key;
            for _ in 0..packets {
                self.clients[n].send_packet(to, b"packet");
            }
            let workers = self.sim.workers.len();
            let before = self.sim.packets().sent;
            costs.push(count(|| {
                self.sim.step(n % workers);
            }));
            assert_eq!(self.sim.packets().sent - before, packets as u64);
        }
        costs
    }
}

fn in_crowds_of_every_size(story: impl Fn(&mut Crowd)) {
    for link in [LINKS[0], LINKS[1]] {
        for (workers, clients) in SIZES {
            let mut crowd = Crowd::new(workers, clients, link);
            // Whom a client sends to first is looked up, and remembered for its departure.
            crowd.round(1, 1);
            story(&mut crowd);
        }
    }
}

#[test]
fn a_packet_takes_one_lock_however_many_clients_and_workers_there_are() {
    in_crowds_of_every_size(|crowd| {
        let costs = crowd.round(1, 1);
        assert_eq!(costs, vec![ONE_BATCH; crowd.clients.len()]);
    });
}

#[test]
fn packets_that_come_together_take_that_lock_together() {
    in_crowds_of_every_size(|crowd| {
        let costs = crowd.round(1, 40);
        assert_eq!(costs, vec![ONE_BATCH; crowd.clients.len()]);
    });
}

#[test]
fn a_packet_for_somebody_else_than_the_last_takes_one_more() {
    in_crowds_of_every_size(|crowd| {
        // With two clients, each sends to the other and to itself by turns.
        crowd.round(2, 1);
        crowd.round(1, 1);
        let costs = crowd.round(2, 1);
        assert_eq!(costs, vec![ONE_BATCH_ELSEWHERE; crowd.clients.len()]);
    });
}
