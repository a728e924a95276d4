//! Two clients of the probe's own, each admitted by a relay of the same region.

use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
use std::time::Duration;

use derp_client::{
    Client, ConnectError, Fault, Login, PingError, Received, RecvError, SendError, Target,
};
use derp_proto::{ClientInfo, DISCO_MIN_LEN, DerpNode, NodePrivate, NodePublic, ServerInfo};
use rustls::{CertificateError, Error as TlsError, OtherError};
use thiserror::Error;
use zeroize::Zeroizing;

use super::Prober;
use crate::deadline::{Deadline, TimedOut};
use crate::plan::Pair;

/// A relay that does not take a client, or loses it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectionFault {
    /// The connection did not come about.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The relay's certificate is refused because of its pin.
    #[error("cannot connect to {0}: {1}")]
    Pin(String, OtherError),
    /// The relay does not want the client.
    #[error(
        "relay {0} closed the connection instead of admitting the probe; if it verifies \
             clients, give the mesh key with -mesh-psk-file"
    )]
    NotAdmitted(String),
    /// The connection ended, or what came over it made no sense.
    #[error("the connection to relay {0} ended")]
    Ended(String, #[source] RecvError),
    /// Nothing could be sent.
    #[error("cannot send through relay {0}")]
    Send(String, #[source] SendError),
    /// A ping was not answered.
    #[error("relay {0} does not answer a ping")]
    NoPong(String, #[source] PingError),
    /// It took too long.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

impl ConnectionFault {
    /// The connection to the relay `node` has ended.
    ///
    /// Relays end connections without TLS's goodbye, which says nothing but that they ended them.
    pub(super) fn ended(node: &str, err: RecvError) -> Self {
        let is_close = matches!(&err, RecvError::Io(io)
            if matches!(io.kind(), UnexpectedEof | ConnectionReset));
        Self::Ended(
            node.to_owned(),
            if is_close {
                RecvError::ServerClosed
            } else {
                err
            },
        )
    }
}

/// What a client says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guise {
    /// A prober, for which relays log what they do where they are told to.
    Prober,
    /// A client like others, so that relays do not log each of many packets.
    Plain,
    /// A client like others that does not know the mesh key.
    Stranger,
}

/// A client that was admitted.
#[derive(Debug)]
pub(super) struct End {
    /// The node's name.
    pub(super) node: String,
    /// The client's key, made for this probe.
    pub(super) key: NodePublic,
    /// The connection.
    pub(super) client: Client,
    /// What the relay said when it admitted the client.
    pub(super) greeting: ServerInfo,
}

/// Both ends of the way of a probe's packets.
#[derive(Debug)]
pub(super) struct Ends {
    /// The client that sends.
    pub(super) from: End,
    /// The client that receives.
    pub(super) to: End,
    /// What is sent first of all.
    pub(super) first: FirstPackets,
}

/// The packets that show whether any get through. Each probe has its own.
#[derive(Debug, Clone)]
pub(super) struct FirstPackets {
    /// Random bytes, which are to arrive.
    pub(super) packet: [u8; 8],
    /// What relays take for a message of path discovery. They answer where they do not know to
    /// whom it is sent, which they do with no other packet.
    pub(super) question: Vec<u8>,
}

impl FirstPackets {
    pub(super) fn new() -> Self {
        let random_rest = random::<{ DISCO_MIN_LEN - PATH_DISCOVERY.len() }>();
        Self {
            packet: random(),
            question: [PATH_DISCOVERY, &random_rest].concat(),
        }
    }

    /// Whether this is one of them.
    pub(super) fn contains(&self, packet: &[u8]) -> bool {
        packet == self.packet || packet == self.question
    }
}

impl Ends {
    /// The keys in their short form, as relays' logs have them.
    pub(super) fn keys(&self) -> String {
        format!("[{}] -> [{}]", self.from.key.short(), self.to.key.short())
    }
}

/// Connects to both nodes at once, and waits until both relays admit the probe.
pub(super) async fn connect(
    prober: &Prober,
    pair: &Pair,
    guise: Guise,
    deadline: Deadline,
) -> Result<Ends, ConnectionFault> {
    let from = admitted(prober, &pair.from, guise, deadline);
    let to = admitted(prober, &pair.to, guise, deadline);
    let (from, to) = tokio::try_join!(from, to)?;
    if from.node != to.node {
        // Relays tell each other of their clients; this long the reference gives them.
        tokio::time::sleep(NEWS_OF_CLIENTS).await;
    }
    Ok(Ends {
        from,
        to,
        first: FirstPackets::new(),
    })
}

/// Connects to a node, and waits until the relay admits the probe.
pub(super) async fn admitted(
    prober: &Prober,
    node: &DerpNode,
    guise: Guise,
    deadline: Deadline,
) -> Result<End, ConnectionFault> {
    let private = new_key();
    let login = Login {
        info: ClientInfo {
            is_prober: guise == Guise::Prober,
            mesh_key: prober.mesh_key.clone().filter(|_| guise != Guise::Stranger),
            ..ClientInfo::plain()
        },
        ..Login::new(private.clone())
    };
    let target = Target::Node(node.clone());
    let connecting = prober.connector.connect(&target, &login);
    let connected = deadline.keep("connecting to the relay", connecting).await?;
    let mut client = connected.map_err(not_connected)?;
    let name = node.name.clone();
    match deadline
        .keep("waiting for the relay to admit the probe", client.recv())
        .await?
    {
        // Nothing else can be the first.
        Ok(Received::ServerInfo(greeting)) => Ok(End {
            node: name,
            key: private.public(),
            client,
            greeting,
        }),
        Ok(_) => Err(ConnectionFault::NotAdmitted(name)),
        Err(err) => Err(match ConnectionFault::ended(&name, err) {
            ConnectionFault::Ended(_, RecvError::ServerClosed) => {
                ConnectionFault::NotAdmitted(name)
            }
            fault => fault,
        }),
    }
}

fn not_connected(err: ConnectError) -> ConnectionFault {
    match err.fault() {
        Fault::Certificate(TlsError::InvalidCertificate(CertificateError::Other(pin))) => {
            ConnectionFault::Pin(err.server().to_owned(), pin.clone())
        }
        _ => ConnectionFault::Connect(err),
    }
}

/// A key that nobody has seen before.
fn new_key() -> NodePrivate {
    NodePrivate::from_random(*Zeroizing::new(random()))
}

/// This many random bytes.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Keys and packets that could be guessed would prove nothing.
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// How messages of path discovery begin (`disco/disco.go`).
const PATH_DISCOVERY: &[u8] = "TS💬".as_bytes();
/// How long relays have to tell each other of a client (`prober/derp.go`).
const NEWS_OF_CLIENTS: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_take_the_question_for_path_discovery_and_the_packet_for_none() {
        let first = FirstPackets::new();
        assert!(derp_proto::is_disco(&first.question));
        assert!(!derp_proto::is_disco(&first.packet));
        assert_ne!(FirstPackets::new().packet, first.packet);
    }
}
