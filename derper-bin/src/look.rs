//! What a relay tells of itself over its admin socket: who is connected, the links of its mesh, and
//! how its verifiers answer. The relay writes it as JSON, and commands such as `derper top` read it.
//!
//! Names of fields are for other people's scripts too, so they stay.

use std::collections::BTreeMap;
use std::fmt;

use derp_mesh::LinkStatus;
use derp_proto::PeerPresentFlags;
use derp_server::ClientSnapshot;
use serde::{Deserialize, Serialize};

/// The relay, as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The program's version.
    pub version: String,
    /// The key that clients know the relay by.
    pub key: String,
    /// Seconds since it was started.
    pub uptime_seconds: u64,
    /// Who is connected, those with the most traffic first.
    pub clients: Vec<Client>,
    /// The links to the region's other relays.
    pub mesh: Vec<Link>,
    /// Whom the relay asks about clients.
    pub verifiers: Vec<Answers>,
}

/// A connection of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The connection's number, which the log has as well.
    pub id: u64,
    /// The client's key, as `nodekey:…`.
    pub key: String,
    /// Where it connects from; nothing where that is not known, as behind a Unix socket.
    pub address: Option<String>,
    /// `client`, `mesh` for another relay, or `prober`.
    pub kind: String,
    /// Whether it calls this relay its home.
    pub home: bool,
    /// How long it has been here.
    pub connected_seconds: u64,
    /// Packets that came from it.
    pub packets_received: u64,
    /// Bytes of these packets.
    pub bytes_received: u64,
    /// Packets that were written to it.
    pub packets_sent: u64,
    /// Bytes of these packets.
    pub bytes_sent: u64,
    /// Bytes that wait for it.
    pub bytes_waiting: u64,
    /// How long its connection's packets take there and back, in microseconds; nothing where the
    /// kernel does not tell, or knows of a proxy alone.
    #[serde(default)]
    pub rtt_micros: Option<u64>,
}

/// A link to another relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The other relay, as it was named.
    pub peer: String,
    /// Whether it is connected.
    pub up: bool,
    /// Why it is not.
    pub problem: Option<String>,
    /// How many clients it has.
    pub clients: usize,
    /// Packets that were queued for it.
    pub forwarded: u64,
    /// Packets that there was no room for, or that its connection took with it.
    pub dropped: u64,
    /// How many times the connection ended or did not come about.
    pub failures: u64,
}

/// How often a verifier gave which answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The verifier's name, as in the log and the metrics.
    pub verifier: String,
    /// Counts by answer.
    pub results: BTreeMap<String, u64>,
}

impl Client {
    /// Bytes both ways.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes_received.saturating_add(self.bytes_sent)
    }
}

impl From<&ClientSnapshot> for Client {
    fn from(client: &ClientSnapshot) -> Self {
        let kind = if client.flags.contains(PeerPresentFlags::MESH_PEER) {
            "mesh"
        } else if client.flags.contains(PeerPresentFlags::PROBER) {
            "prober"
        } else {
            "client"
        };
        Self {
            id: client.id.0,
            key: client.key.to_string(),
            address: client.addr.map(|address| address.to_string()),
            kind: kind.to_owned(),
            home: client.is_home,
            connected_seconds: client.connected_for.as_secs(),
            packets_received: client.packets_received,
            bytes_received: client.bytes_received,
            packets_sent: client.packets_sent,
            bytes_sent: client.bytes_sent,
            bytes_waiting: client.bytes_waiting as u64,
            rtt_micros: None,
        }
    }
}

impl From<&LinkStatus> for Link {
    fn from(link: &LinkStatus) -> Self {
        Self {
            peer: link.name.clone(),
            up: link.is_up(),
            problem: link.problem.clone(),
            clients: link.clients,
            forwarded: link.forwarded,
            dropped: link.dropped,
            failures: link.failures,
        }
    }
}

/// Bytes as people read them, with three digits or so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        // In tenths, so that nothing is rounded before the end.
        let mut tenths = u128::from(self.0) * 10 / 1024;
        let mut unit = UNITS[0];
        for next in &UNITS[1..] {
            if tenths < 10_240 {
                break;
            }
            tenths /= 1024;
            unit = next;
        }
        f.pad(&format!("{}.{} {unit}", tenths / 10, tenths % 10))
    }
}

/// A round-trip time in microseconds as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip(pub Option<u64>);

impl fmt::Display for RoundTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self.0 {
            None => "-".to_owned(),
            Some(micros) if micros < 10_000 => {
                format!("{}.{} ms", micros / 1000, micros / 100 % 10)
            }
            Some(micros) => format!("{} ms", micros / 1000),
        })
    }
}

/// A time in seconds as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(pub u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours) = (self.0 / 86_400, self.0 / 3600 % 24);
        let (minutes, seconds) = (self.0 / 60 % 60, self.0 % 60);
        f.pad(&match (days, hours, minutes) {
            (0, 0, 0) => format!("{seconds}s"),
            (0, 0, _) => format!("{minutes}m{seconds:02}s"),
            (0, _, _) => format!("{hours}h{minutes:02}m"),
            _ => format!("{days}d{hours:02}h"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_times_are_short() {
        let bytes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (count, text) in bytes {
            assert_eq!(Bytes(count).to_string(), text);
        }
        let ages = [
            (0, "0s"),
            (61, "1m01s"),
            (3_600, "1h00m"),
            (90_061, "1d01h"),
        ];
        for (seconds, text) in ages {
            assert_eq!(Age(seconds).to_string(), text);
        }
        let round_trips = [
            (None, "-"),
            (Some(99), "0.0 ms"),
            (Some(9_999), "9.9 ms"),
            (Some(10_000), "10 ms"),
        ];
        for (micros, text) in round_trips {
            assert_eq!(RoundTrip(micros).to_string(), text);
        }
        assert_eq!(
            format!("{:>9}|{:<5}|", Bytes(1024), Age(1)),
            "  1.0 KiB|1s   |"
        );
    }
}
