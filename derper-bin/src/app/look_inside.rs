//! The relay as it is at this moment, for its operators: brought together from its parts.

use std::cmp::Reverse;
use std::time::SystemTime;

use super::numbers::Numbers;
use crate::args::PROGRAM;
use crate::look::{Answers, Client, Look};

/// Looks around; `None` once the relay has stopped.
pub(super) fn look(numbers: &Numbers, now: SystemTime) -> Option<Look> {
    let server = numbers.server()?;
    let mut clients: Vec<Client> = server.clients().iter().map(Client::from).collect();
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
