//! Flows of numbered packets between clients, checked one by one as they arrive.

use anyhow::{Context, Result, ensure};
use derp_proto::{ClientFrame, NodePublic};

use crate::clients::{Clients, Receiver};
use crate::clock::Clock;
use crate::histogram::Histogram;
use crate::packet::{Label, MAX_LEN, MIN_LEN, Packets, next_random};

/// How long packets are, without keys and header.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sizes {
    /// All alike.
    Fixed(usize),
    /// Any length in this range, each as likely as the next.
    Mixed(usize, usize),
}

/// Packets from one client to another.
#[derive(Debug)]
struct Flow {
    from: usize,
    to: usize,
    src: NodePublic,
    dst: NodePublic,
    sent: u64,
    /// The number that comes next if nothing is lost.
    expected: u64,
    /// Whether it waits in [`Traffic::ready`].
    ready: bool,
}

impl Flow {
    fn outstanding(&self) -> u64 {
        self.sent - self.expected
    }
}

/// What has arrived since the last [`Traffic::restart_counting`].
#[derive(Debug)]
pub(crate) struct Arrivals {
    pub(crate) packets: u64,
    /// Without keys and headers.
    pub(crate) bytes: u64,
    /// From the call that sent a packet to the read that found it.
    pub(crate) ages: Histogram,
}

/// All flows of a run.
#[derive(Debug)]
pub(crate) struct Traffic {
    packets: Packets,
    sizes: Sizes,
    random: u64,
    flows: Vec<Flow>,
    /// Flows that received something, and so may send again.
    ready: Vec<usize>,
    clock: Clock,
    /// When the current read ended; none before its first packet.
    now: Option<u64>,
    pub(crate) arrivals: Arrivals,
    /// Packets that were overtaken by later ones: lost, since nothing may overtake.
    gaps: u64,
}

impl Traffic {
    pub(crate) fn new(clock: Clock, sizes: Sizes) -> Result<Self> {
        let (Sizes::Fixed(min) | Sizes::Mixed(min, _)) = sizes;
        let (Sizes::Fixed(max) | Sizes::Mixed(_, max)) = sizes;
        ensure!(
            MIN_LEN <= min && min <= max && max <= MAX_LEN,
            "packets have {MIN_LEN} to {MAX_LEN} bytes here"
        );
        Ok(Self {
            packets: Packets::new(),
            sizes,
            random: 0x5eed,
            flows: Vec::new(),
            ready: Vec::new(),
            clock,
            now: None,
            arrivals: Arrivals {
                packets: 0,
                bytes: 0,
                ages: Histogram::new(),
            },
            gaps: 0,
        })
    }

    /// Adds a flow and returns its number.
    pub(crate) fn add(&mut self, clients: &Clients, from: usize, to: usize) -> usize {
        let (src, dst) = (clients.key(from), clients.key(to));
        let flow = Flow {
            from,
            to,
            src,
            dst,
            sent: 0,
            expected: 0,
            ready: true,
        };
        self.flows.push(flow);
        self.ready.push(self.flows.len() - 1);
        self.flows.len() - 1
    }

    pub(crate) fn flows(&self) -> usize {
        self.flows.len()
    }

    /// Queues one packet of a flow; see [`Clients::queue`].
    pub(crate) fn send(&mut self, clients: &mut Clients, flow: usize) -> Result<()> {
        let len = match self.sizes {
            Sizes::Fixed(len) => len,
            Sizes::Mixed(min, max) => {
                let range = u64::try_from(max - min + 1).expect("lengths are small");
                let more = next_random(&mut self.random) % range;
                min + usize::try_from(more).expect("lengths are small")
            }
        };
        let number = u32::try_from(flow).expect("there are few flows");
        let flow = &mut self.flows[flow];
        let label = Label {
            flow: number,
            number: flow.sent,
            sent: self.clock.now(),
        };
        let packet = self.packets.write(label, len);
        clients.queue(
            flow.from,
            &ClientFrame::SendPacket {
                dst: flow.dst,
                packet,
            },
        )?;
        flow.sent += 1;
        Ok(())
    }

    /// Fills each flow's window again, where something arrived or nothing was sent yet.
    pub(crate) fn refill(&mut self, clients: &mut Clients, window: u64) -> Result<()> {
        while let Some(flow) = self.ready.pop() {
            self.flows[flow].ready = false;
            while self.flows[flow].outstanding() < window {
                self.send(clients, flow)?;
            }
        }
        Ok(())
    }

    /// Forgets what has arrived, and what was lost on the way.
    pub(crate) fn restart_counting(&mut self) {
        self.arrivals = Arrivals {
            packets: 0,
            bytes: 0,
            ages: Histogram::new(),
        };
    }

    /// How many packets of one flow are under way.
    pub(crate) fn outstanding_of(&self, flow: usize) -> u64 {
        self.flows[flow].outstanding()
    }

    /// How many packets are under way.
    pub(crate) fn outstanding(&self) -> u64 {
        self.flows.iter().map(Flow::outstanding).sum()
    }

    /// How many packets were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.flows.iter().map(|flow| flow.sent).sum()
    }

    /// How many packets of the whole run were lost, if nothing more arrives.
    pub(crate) fn lost(&self) -> u64 {
        self.gaps + self.outstanding()
    }
}

impl Receiver for Traffic {
    fn next_read(&mut self) {
        self.now = None;
    }

    fn packet(&mut self, client: usize, src: NodePublic, packet: &[u8]) -> Result<()> {
        let label = self.packets.check(packet)?;
        let number = usize::try_from(label.flow)?;
        let flow = self.flows.get_mut(number).context("a packet of no flow")?;
        ensure!(
            flow.src == src,
            "{label:?} is said to come from {src:?}, not {:?}",
            flow.src
        );
        ensure!(
            flow.to == client,
            "{label:?} came to client {client}, not {}",
            flow.to
        );
        ensure!(
            (flow.expected..flow.sent).contains(&label.number),
            "{label:?} was seen before, or was overtaken: {} comes next",
            flow.expected
        );
        self.gaps += label.number - flow.expected;
        flow.expected = label.number + 1;
        if !flow.ready {
            flow.ready = true;
            self.ready.push(number);
        }
        let now = *self.now.get_or_insert_with(|| self.clock.now());
        let arrivals = &mut self.arrivals;
        arrivals.packets += 1;
        arrivals.bytes += u64::try_from(packet.len())?;
        arrivals.ages.add(now.saturating_sub(label.sent));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: NodePublic = NodePublic::from_bytes([1; 32]);
    const DST: NodePublic = NodePublic::from_bytes([2; 32]);

    /// One flow from client 0 to client 1, and its first four packets as they were sent.
    fn four_sent() -> (Traffic, Vec<Vec<u8>>) {
        let mut traffic = Traffic::new(Clock::start(), Sizes::Fixed(100)).unwrap();
        let flow = Flow {
            from: 0,
            to: 1,
            src: SRC,
            dst: DST,
            sent: 4,
            expected: 0,
            ready: false,
        };
        traffic.flows.push(flow);
        let label = |number| Label {
            flow: 0,
            number,
            sent: 0,
        };
        let packets = (0..4)
            .map(|number| traffic.packets.write(label(number), 100).to_vec())
            .collect();
        (traffic, packets)
    }

    #[test]
    fn what_arrives_in_order_is_counted() {
        let (mut traffic, packets) = four_sent();
        for packet in &packets {
            traffic.packet(1, SRC, packet).unwrap();
        }
        assert_eq!(
            (
                traffic.arrivals.packets,
                traffic.arrivals.bytes,
                traffic.lost()
            ),
            (4, 400, 0)
        );
        assert_eq!(traffic.ready, [0]);
    }

    #[test]
    fn a_gap_and_what_never_came_are_lost() {
        let (mut traffic, packets) = four_sent();
        traffic.packet(1, SRC, &packets[2]).unwrap();
        assert_eq!((traffic.arrivals.packets, traffic.lost()), (1, 3));
    }

    #[test]
    fn whatever_a_relay_must_not_do_ends_the_run() {
        let refused = |client, src, order: &[usize]| {
            let (mut traffic, packets) = four_sent();
            order
                .iter()
                .map(|&at| traffic.packet(client, src, &packets[at]))
                .any(|it| it.is_err())
        };
        assert!(!refused(1, SRC, &[0, 1, 3]));
        assert!(refused(1, DST, &[0]), "another source");
        assert!(refused(0, SRC, &[0]), "another receiver");
        assert!(refused(1, SRC, &[0, 0]), "twice");
        assert!(refused(1, SRC, &[1, 0]), "overtaken");
        let (mut traffic, packets) = four_sent();
        traffic.flows[0].sent = 3;
        assert!(traffic.packet(1, SRC, &packets[3]).is_err(), "never sent");
    }
}
