//! Notices a proxy that passes connections on without saying whose they are.
//!
//! Every client seems to be on this machine then: `/debug/` is open to everybody, and limits by
//! network count nobody. A relay cannot tell such a proxy from clients that are here; but several
//! clients here and none elsewhere are worth a line in the log. One line, for it is nothing new.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);
/// So many clients on the relay's own machine are no coincidence.
const SEVERAL: usize = 2;

/// What the addresses of clients say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Too few to say anything.
    Nothing,
    /// Some are elsewhere, so connections do not hide where they come from.
    Elsewhere,
    /// There are several, and all seem to be here.
    AllHere,
}

/// Looks each minute at where clients are, and calls `warn` once if all seem to be here. It looks
/// no more once it knows.
pub(super) async fn watch(
    clients: impl Fn() -> Vec<Option<SocketAddr>>,
    warn: impl FnOnce(),
) -> Infallible {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        match judge(&clients()) {
            Seen::Nothing => {}
            Seen::Elsewhere => break,
            Seen::AllHere => {
                warn();
                break;
            }
        }
    }
    std::future::pending().await
}

/// Judges by the addresses of all clients; those over Unix sockets have none.
pub(crate) fn judge(clients: &[Option<SocketAddr>]) -> Seen {
    let known: Vec<_> = clients.iter().flatten().collect();
    if known
        .iter()
        .any(|address| !address.ip().to_canonical().is_loopback())
    {
        Seen::Elsewhere
    } else if known.len() < SEVERAL {
        Seen::Nothing
    } else {
        Seen::AllHere
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn address(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn several_clients_here_and_none_elsewhere_are_suspicious() {
        let (here, mapped) = (address("127.0.0.1:1"), address("[::ffff:127.0.0.1]:1"));
        let elsewhere = address("192.0.2.1:1");
        for (clients, seen) in [
            (vec![], Seen::Nothing),
            (vec![here], Seen::Nothing),
            // Unix sockets tell nothing.
            (vec![None, None, here], Seen::Nothing),
            (vec![here, mapped], Seen::AllHere),
            (vec![here, here, elsewhere], Seen::Elsewhere),
        ] {
            assert_eq!(judge(&clients), seen, "{clients:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_warning_comes_once_and_never_where_clients_were_seen_elsewhere() {
        let here = address("127.0.0.1:1");
        for (first, warnings) in [(address("192.0.2.1:1"), 0), (None, 1)] {
            let (looks, warned) = (Cell::new(0), Cell::new(0));
            let clients = || {
                looks.set(looks.get() + 1);
                match looks.get() {
                    1 => vec![first],
                    _ => vec![here, here],
                }
            };
            let watching = watch(clients, || warned.set(warned.get() + 1));
            let ended = tokio::time::timeout(EVERY * 5, watching).await;
            assert!(ended.is_err());
            assert_eq!(warned.get(), warnings);
            // It looked no more than it had to.
            assert_eq!(looks.get(), 1 + warnings);
        }
    }
}
