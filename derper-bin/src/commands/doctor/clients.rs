//! Where do the clients of the relay that runs come from? Asked over its admin socket.

use std::net::SocketAddr;

use super::finding::Findings;
use crate::app::hidden_clients::{self, Seen};
use crate::commands::admin::Relay;
use crate::config::Config;
use crate::start::Start;

const CHECK: &str = "clients";

pub(super) fn look(start: &Start, config: &Config, findings: &mut Findings) {
    let Some(socket) = &config.listen.admin else {
        return;
    };
    // Where the relay does not run, that has been told.
    if !socket.exists() {
        return;
    }
    match Relay::of(start).and_then(|relay| relay.look()) {
        Ok(look) => {
            let addresses: Vec<Option<SocketAddr>> = look
                .clients
                .iter()
                .map(|client| client.address.as_deref()?.parse().ok())
                .collect();
            judge(&addresses, config.is_told_where_clients_are(), findings);
        }
        Err(err) => findings.warn(
            CHECK,
            format!("{err:#}"),
            "look as root, or as a user of the relay's group",
        ),
    }
}

fn judge(addresses: &[Option<SocketAddr>], is_told: bool, findings: &mut Findings) {
    let what = format!("{} are connected", addresses.len());
    if hidden_clients::judge(addresses) != Seen::AllHere {
        findings.ok(CHECK, what);
        return;
    }
    let what = format!("{what}, and all seem to be on this machine");
    if is_told {
        findings.warn(
            CHECK,
            what,
            "the proxy says so of all of them: does something in front of it hide the clients?",
        );
    } else {
        findings.problem(
            CHECK,
            what,
            "a proxy passes connections on without saying whose they are: /debug/ is open to \
             everybody then, and limits by network count nobody; have it send a PROXY header, and \
             set --proxy-protocol required and --proxy-protocol-from 127.0.0.1",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_proxy_that_hides_everybody_shows() {
        let near = "127.0.0.1:5".parse().ok();
        let mapped = "[::ffff:127.0.0.1]:5".parse().ok();
        let far = "192.0.2.1:5".parse().ok();
        for (addresses, is_told, level) in [
            (vec![], false, Level::Ok),
            (vec![near], false, Level::Ok),
            (vec![near, mapped], false, Level::Problem),
            (vec![near, mapped], true, Level::Warning),
            (vec![near, far], false, Level::Ok),
            // Unix sockets tell no address.
            (vec![None, None], false, Level::Ok),
        ] {
            let mut findings = Findings::default();
            judge(&addresses, is_told, &mut findings);
            assert_eq!(findings.only().0, level, "{addresses:?}");
        }
    }
}
