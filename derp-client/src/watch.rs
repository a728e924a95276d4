//! Follows which clients another relay of the region has, for as long as the process lives
//! (`derp/derphttp/mesh_client.go`).

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use derp_proto::{NodePublic, PeerGoneReason, PeerPresent};
use thiserror::Error;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Policy;
use crate::connector::Connector;
use crate::error::{CloseReason, PingError};
use crate::login::Login;
use crate::random;
use crate::received::Received;
use crate::reconnect::{Cause, Connect, Event, Reconnecting};
use crate::target::Target;
use crate::writer::ClientWriter;

/// The most clients of another relay that are followed; those beyond are not.
const MOST_PEERS: usize = 1 << 20;
/// How often the other relay is pinged: an idle link that leads nowhere any more would not be
/// noticed otherwise until its next keep-alive is overdue.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How many pings in a row may go unanswered.
const UNANSWERED_PINGS: u32 = 2;

/// A link to another relay that says which clients that relay has.
///
/// It connects again whenever the link ends, after five seconds each time, and pings the other
/// relay meanwhile. All this happens while [`next`](Self::next) is polled.
pub struct Watch {
    link: Reconnecting,
    /// The key of this relay, where the link must not lead back to it.
    own: Option<NodePublic>,
    /// The clients that the other relay has; [`Self::most_peers`] at most.
    peers: HashSet<NodePublic>,
    most_peers: usize,
    /// Clients that were one too many.
    ignored: u64,
    /// Pings the other relay while there is a link; ends when it doesn't answer.
    unanswered: Option<(ClientWriter, Unanswered)>,
    is_self: bool,
}

type Unanswered = Pin<Box<dyn Future<Output = ()> + Send>>;

/// News from a link.
#[derive(Debug)]
pub enum WatchEvent {
    /// There is a link, and the other relay has admitted this one; its clients follow, if it takes
    /// this one for a relay of its region: then this one is among them. Packets for them go through
    /// the writer, with [`ClientWriter::forward_packet`].
    Up(ClientWriter),
    /// The other relay has this client. It is told again for each connection of a client.
    Present(PeerPresent),
    /// The other relay has this client no longer.
    Gone {
        /// Which client.
        key: NodePublic,
        /// Why.
        reason: PeerGoneReason,
    },
    /// There is no link any more, or none came about.
    Down {
        /// Why.
        cause: Cause,
        /// The clients that were reached through it: none of them is, until it is told again.
        peers: HashSet<NodePublic>,
        /// When the next attempt follows.
        retry_in: Duration,
    },
}

/// The other relay is this one; there is nothing to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the relay at the other end is this one")]
pub struct SelfConnect;

impl Watch {
    /// A link to the relay at `target`. `own` is the key of this relay, with which the link ends
    /// for good if it leads back here; without it, it is a link like any other.
    #[must_use]
    pub fn new(
        connector: Connector,
        target: Target,
        login: Login,
        own: Option<NodePublic>,
    ) -> Self {
        let random = || u64::from_ne_bytes(random::bytes());
        Self::with_parts((connector, target), login, own, Policy::MESH, random)
    }

    /// The same with other ways to connect and to wait. `random` yields 64 uniform bits.
    #[must_use]
    pub fn with_parts(
        connect: impl Connect + 'static,
        login: Login,
        own: Option<NodePublic>,
        policy: Policy,
        random: impl FnMut() -> u64 + Send + 'static,
    ) -> Self {
        let login = Login {
            watch_conns: true,
            ..login
        };
        Self {
            link: Reconnecting::with_parts(connect, login, policy, random),
            own,
            peers: HashSet::new(),
            most_peers: MOST_PEERS,
            ignored: 0,
            unanswered: None,
            is_self: false,
        }
    }

    /// The next news.
    ///
    /// Cancel safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// [`SelfConnect`], and nothing else from then on.
    pub async fn next(&mut self) -> Result<WatchEvent, SelfConnect> {
        loop {
            if self.is_self {
                return Err(SelfConnect);
            }
            let event = match &mut self.unanswered {
                None => self.link.next().await,
                Some((writer, unanswered)) => tokio::select! {
                    // What has come tells more than a ping: a pong that waits to be read, or why
                    // the link has ended.
                    biased;
                    event = self.link.next() => event,
                    () = unanswered => {
                        writer.close_because(CloseReason::PingsUnanswered);
                        self.unanswered = None;
                        continue;
                    }
                },
            };
            if let Some(news) = self.on_event(event) {
                return Ok(news);
            }
        }
    }

    /// The clients that the other relay has.
    #[must_use]
    pub const fn peers(&self) -> &HashSet<NodePublic> {
        &self.peers
    }

    /// How many times the other relay told of a client that was one too many.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    fn on_event(&mut self, event: Event) -> Option<WatchEvent> {
        match event {
            Event::Connected(writer) => {
                if Some(writer.info().server_key) == self.own {
                    self.link.abandon();
                    self.is_self = true;
                }
                None
            }
            Event::Disconnected { cause, retry_in } => {
                self.unanswered = None;
                let peers = std::mem::take(&mut self.peers);
                Some(WatchEvent::Down {
                    cause,
                    peers,
                    retry_in,
                })
            }
            Event::Received(received) => self.on_received(received),
        }
    }

    fn on_received(&mut self, received: Received) -> Option<WatchEvent> {
        match received {
            Received::ServerInfo(_) => {
                let writer = self.link.writer().current()?;
                let pings = Box::pin(unanswered(writer.clone()));
                self.unanswered = Some((writer.clone(), pings));
                Some(WatchEvent::Up(writer))
            }
            Received::PeerPresent(present) => {
                if self.peers.len() >= self.most_peers && !self.peers.contains(&present.key) {
                    if self.ignored == 0 {
                        tracing::warn!(
                            limit = self.most_peers,
                            "a relay has more clients than are followed"
                        );
                    }
                    self.ignored += 1;
                    return None;
                }
                self.peers.insert(present.key);
                Some(WatchEvent::Present(present))
            }
            Received::PeerGone { key, reason } => self
                .peers
                .remove(&key)
                .then_some(WatchEvent::Gone { key, reason }),
            // Nobody sends packets to a relay's own key, or should be answered if so.
            _ => None,
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("link", &self.link)
            .field("peers", &self.peers.len())
            .field("ignored", &self.ignored)
            .finish_non_exhaustive()
    }
}

/// Pings until that is of no use any more.
async fn unanswered(writer: ClientWriter) {
    let mut in_a_row = 0;
    while in_a_row < UNANSWERED_PINGS {
        let begin = Instant::now();
        match writer.ping_within(PING_INTERVAL).await {
            Ok(_) => {
                in_a_row = 0;
                sleep_until(begin + PING_INTERVAL).await;
            }
            Err(PingError::Timeout(_)) => in_a_row += 1,
            // The link has ended, and whoever reads from it knows better why.
            Err(_) => return std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use derp_proto::{NodePrivate, PeerPresentFlags};

    use super::*;

    fn told(watch: &mut Watch, byte: u8) -> bool {
        let key = NodePublic::from_bytes([byte; 32]);
        let flags = PeerPresentFlags::REGULAR;
        let present = PeerPresent {
            key,
            addr: None,
            flags,
        };
        watch.on_received(Received::PeerPresent(present)).is_some()
    }

    #[tokio::test]
    async fn a_relay_cannot_make_us_remember_any_number_of_clients() {
        let target = Target::Url(crate::UrlTarget {
            url: "http://relay.test".parse().unwrap(),
            dial_host: None,
            check: crate::CertCheck::HostName,
        });
        let login = Login::new(NodePrivate::from_random([1; 32]));
        let watch = Watch::new(Connector::new(), target, login, None);
        let mut watch = Watch {
            most_peers: 2,
            ..watch
        };
        // Those that are known are told of again; others only when there is room.
        let story = [1, 2, 3, 2, 4].map(|byte| told(&mut watch, byte));
        assert_eq!(story, [true, true, false, true, false]);
        assert_eq!((watch.peers().len(), watch.ignored()), (2, 2));

        let key = NodePublic::from_bytes([1; 32]);
        let reason = PeerGoneReason::DISCONNECTED;
        assert!(
            watch
                .on_received(Received::PeerGone { key, reason })
                .is_some()
        );
        assert!(told(&mut watch, 3));
    }
}
