//! The relay as it is at this moment, for its operators: brought together from its parts.

use std::cmp::Reverse;
use std::time::SystemTime;

use super::numbers::Numbers;
use crate::args::PROGRAM;
use crate::look::{Answers, Client, Look};

/// Looks around; `None` once the relay has stopped.
pub(super) fn look(numbers: &Numbers, now: SystemTime) -> Option<Look> {
    let server = numbers.server()?;
    let round_trips = numbers.round_trips();
    let mut clients: Vec<Client> = Vec::new();
    for snapshot in server.clients() {
        // Behind a proxy the connection's other end is the proxy, and nothing is found.
        let round_trip = snapshot.addr.and_then(|addr| round_trips.get(&addr));
        let mut client = Client::from(&snapshot);
        client.rtt_micros =
            round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        clients.push(client);
    }
    // By number besides, so that idle ones keep their places.
    clients.sort_by_key(|client| (Reverse(client.bytes()), client.id));
    Some(Look {
        version: PROGRAM.version.to_owned(),
        key: server.public_key().to_string(),
        uptime_seconds: numbers.uptime(now).as_secs(),
        clients,
        mesh: numbers.links(),
        verifiers: numbers.answers(),
    })
}

impl Answers {
    pub(super) fn of(counters: &derp_verify::VerifyCounters) -> Self {
        let results = counters.iter();
        Self {
            verifier: counters.name().to_owned(),
            results: results
                .map(|(result, count)| (result.label().to_owned(), count))
                .collect(),
        }
    }
}
