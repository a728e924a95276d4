//! The region's clients, and what they hear of one another.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use derp_client::{Client, ClientWriter, Received};
use derp_proto::{NodePrivate, NodePublic, PeerGoneReason};
use tokio::time::sleep;

use crate::{now, seconds};

/// What packets have in front of their numbers.
const FILLING: [u8; 200] = [7; 200];
/// How long packets may be under way.
const UNDER_WAY: Duration = Duration::from_secs(3);
/// How many packets are under way to one client at most: a relay's queue has no room for more.
const AT_ONCE: usize = 16;

/// A client of one of the relays.
struct Member {
    at: usize,
    key: NodePublic,
    writer: ClientWriter,
    heard: Arc<Mutex<Heard>>,
}

/// What a client was sent.
#[derive(Default)]
struct Heard {
    /// How often each packet came, by source and number.
    packets: HashMap<(NodePublic, u64), u32>,
    /// Who was said not to be there.
    not_here: HashSet<NodePublic>,
}

impl Member {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(crate) struct Crowd {
    members: Vec<Member>,
    /// How many there were at each relay that was left.
    left: HashMap<usize, Vec<NodePublic>>,
    /// The number of the next packet.
    next: u64,
}

type Connected = Result<(NodePrivate, Client)>;

impl Crowd {
    pub(crate) async fn join(
        &mut self,
        at: usize,
        connecting: impl Future<Output = Connected>,
    ) -> Result<()> {
        let (key, client) = connecting.await?;
        let (mut reader, writer) = client.split();
        let heard = Arc::<Mutex<Heard>>::default();
        let told = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok(received) = reader.recv().await {
                let mut heard = told.lock().unwrap_or_else(PoisonError::into_inner);
                match received {
                    Received::Packet { src, packet } => {
                        if let Some(number) =
                            packet.strip_prefix(&FILLING).and_then(|n| n.first_chunk())
                        {
                            let number = u64::from_be_bytes(*number);
                            *heard.packets.entry((src, number)).or_default() += 1;
                        }
                    }
                    Received::PeerGone { key, reason } if reason == PeerGoneReason::NOT_HERE => {
                        heard.not_here.insert(key);
                    }
                    _ => {}
                }
            }
        });
        self.members.push(Member {
            at,
            key: key.public(),
            writer,
            heard,
        });
        Ok(())
    }

    /// The clients of a relay that has ended.
    pub(crate) fn leave(&mut self, at: usize) {
        let gone = self.members.extract_if(.., |member| member.at == at);
        self.left
            .insert(at, gone.map(|member| member.key).collect());
    }

    /// As many come to the relay as have left it.
    pub(crate) async fn rejoin<F: Future<Output = Connected>>(
        &mut self,
        at: usize,
        connect: impl Fn() -> F,
    ) -> Result<()> {
        for _ in self.left.remove(&at).unwrap_or_default() {
            self.join(at, connect()).await?;
        }
        Ok(())
    }

    /// Sends from members to members until everything arrives within a few seconds. `between`
    /// says which relays count.
    pub(crate) async fn converge(
        &mut self,
        within: Duration,
        between: impl Fn(usize, usize) -> bool,
    ) -> Result<String> {
        let start = now();
        loop {
            let begin = start.elapsed();
            // Each is heard of from one client of each relay.
            let step = self.members.len() / 3 + 1;
            let pairs = self.pairs(step, &between);
            let lost = self.exchange(&pairs, Duration::from_millis(500)).await?;
            if lost == 0 {
                return Ok(format!("{} of {} packets", seconds(begin), pairs.len()));
            }
            ensure!(
                begin < within,
                "after {} {lost} of {} packets are lost",
                seconds(begin),
                pairs.len()
            );
        }
    }

    /// Everybody sends to a good part of all others, of every relay, once.
    pub(crate) async fn everybody_once(&mut self) -> Result<String> {
        let step = self.members.len().div_ceil(AT_ONCE);
        let pairs = self.pairs(step, |_, _| true);
        let lost = self.exchange(&pairs, UNDER_WAY).await?;
        ensure!(lost == 0, "{lost} of {} packets are lost", pairs.len());
        let twice: usize = self
            .members
            .iter()
            .map(|member| {
                let heard = member.heard();
                heard.packets.values().filter(|times| **times != 1).count()
            })
            .sum();
        ensure!(twice == 0, "{twice} packets came more than once");
        Ok(format!("{} packets", pairs.len()))
    }

    /// Whom each member sends to: those that are a step further, two steps, and so on.
    fn pairs(&self, step: usize, between: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
        let count = self.members.len();
        let mut pairs = Vec::new();
        for from in 0..count {
            for distance in (1..count).step_by(step.max(1)) {
                let to = (from + distance) % count;
                if between(self.members[from].at, self.members[to].at) {
                    pairs.push((from, to));
                }
            }
        }
        pairs
    }

    /// Sends a packet for each pair, and returns how many have not arrived in time.
    async fn exchange(&mut self, pairs: &[(usize, usize)], within: Duration) -> Result<usize> {
        let mut expected = Vec::new();
        for &(from, to) in pairs {
            let number = self.next;
            self.next += 1;
            let (from, to) = (&self.members[from], &self.members[to]);
            let packet = [&FILLING[..], &number.to_be_bytes()].concat();
            from.writer
                .send(to.key, &packet)
                .await
                .context("a client lost its connection")?;
            expected.push((to, from.key, number));
        }
        let start = now();
        loop {
            expected.retain(|(to, src, number)| !to.heard().packets.contains_key(&(*src, *number)));
            if expected.is_empty() || start.elapsed() > within {
                return Ok(expected.len());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the members for whom `asks` holds, of some relay, are told that a client of
    /// relay `absent` is not there.
    pub(crate) async fn notice_absence(
        &self,
        absent: usize,
        asks: impl Fn(usize) -> bool,
        within: Duration,
    ) -> Result<String> {
        let known = self.members.iter().find(|member| member.at == absent);
        let key = match known {
            Some(member) => member.key,
            None => self.left[&absent][0],
        };
        let disco = [&b"TS\xf0\x9f\x92\xac"[..], &[5; 56]].concat();
        let start = now();
        loop {
            let mut waiting = 0;
            // One of each relay is enough: the relay knows, or it does not.
            let mut relays = HashSet::new();
            for member in &self.members {
                if member.at == absent || !asks(member.at) || !relays.insert(member.at) {
                    continue;
                }
                if !member.heard().not_here.contains(&key) {
                    waiting += 1;
                    member.writer.send(key, &disco).await?;
                }
            }
            if relays.is_empty() {
                bail!("nobody asks");
            }
            if waiting == 0 {
                return Ok(seconds(start.elapsed()));
            }
            ensure!(
                start.elapsed() < within,
                "{waiting} relays still have routes after {}",
                seconds(within)
            );
            sleep(Duration::from_millis(300)).await;
        }
    }
}
