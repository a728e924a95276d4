//! Sockets that whoever started the relay has bound already (`sd_listen_fds(3)`): systemd, which
//! keeps them while the relay restarts, so that no connection is refused meanwhile.
//!
//! They go by their names (`FileDescriptorName=` of a socket unit): `derp`, `http`, `stun` and
//! `metrics`. Where they have none of these, the first TCP socket is the relay's, the second port
//! 80's, and the first UDP socket is STUN's.

use std::net::{TcpListener, UdpSocket};

use listenfd::ListenFd;

/// The sockets that are left.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    tcp: Vec<(String, TcpListener)>,
    udp: Vec<(String, UdpSocket)>,
}

const DERP: &str = "derp";
const HTTP: &str = "http";
const STUN: &str = "stun";
const METRICS: &str = "metrics";

impl Inherited {
    /// Takes what was handed to this process; at most once, for it is there once.
    pub(super) fn take() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut sockets = ListenFd::from_env();
        let mut taken = Self::default();
        for at in 0..sockets.len() {
            let name = names.next().unwrap_or_default();
            // What is no TCP socket may be a UDP one, and what is neither is of no use.
            if let Ok(Some(tcp)) = sockets.take_tcp_listener(at) {
                taken.tcp.push((name, tcp));
            } else if let Ok(Some(udp)) = sockets.take_udp_socket(at) {
                taken.udp.push((name, udp));
            } else {
                tracing::warn!(name, "a socket of the service manager is of no use");
            }
        }
        taken
    }

    /// The relay's own.
    pub(super) fn derp(&mut self) -> Option<TcpListener> {
        take(&mut self.tcp, DERP)
    }

    /// Port 80's.
    pub(super) fn http(&mut self) -> Option<TcpListener> {
        take(&mut self.tcp, HTTP)
    }

    /// The operators'.
    pub(super) fn metrics(&mut self) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|(name, _)| name == METRICS)?;
        Some(self.tcp.remove(at).1)
    }

    /// STUN's.
    pub(super) fn stun(&mut self) -> Option<UdpSocket> {
        take(&mut self.udp, STUN)
    }

    /// How many nobody wanted.
    pub(super) fn left(&self) -> usize {
        self.tcp.len() + self.udp.len()
    }
}

/// The socket of that name, or else the first that has none of ours.
fn take<T>(sockets: &mut Vec<(String, T)>, wanted: &str) -> Option<T> {
    let named = |name: &str| [DERP, HTTP, STUN, METRICS].contains(&name);
    let by_name = sockets.iter().position(|(name, _)| name == wanted);
    let at = by_name.or_else(|| sockets.iter().position(|(name, _)| !named(name)))?;
    Some(sockets.remove(at).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_by_their_names_and_else_by_their_order() {
        let sockets = |names: &[&str]| -> Vec<(String, usize)> {
            let named = names.iter().enumerate();
            named.map(|(at, name)| ((*name).to_owned(), at)).collect()
        };
        let mut by_order = sockets(&["derper.socket", "derper.socket"]);
        assert_eq!(take(&mut by_order, DERP), Some(0));
        assert_eq!(take(&mut by_order, HTTP), Some(1));
        assert_eq!(take(&mut by_order, HTTP), None);
        let mut by_name = sockets(&["http", "derp"]);
        assert_eq!(take(&mut by_name, DERP), Some(1));
        assert_eq!(take(&mut by_name, DERP), None);
        assert_eq!(take(&mut by_name, HTTP), Some(0));
        let mut mixed = sockets(&["metrics", "derper.socket"]);
        assert_eq!(take(&mut mixed, DERP), Some(1));
    }
}
