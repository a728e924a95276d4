//! Can the relay have its ports, or has it got them already?
//!
//! A port that is free is bound for a moment and never listened on, so that nobody can connect.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::finding::Findings;
use crate::commands::healthcheck;
use crate::config::{Config, Doorway, ListenAddr, Place};

const CHECK: &str = "ports";

/// Whether the relay of the configuration runs on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Running {
    Yes,
    No,
    /// Nobody can tell, as behind a proxy in another container.
    Unknown,
}

/// What has a port.
enum Holder {
    Nobody,
    Somebody,
    Refused(io::Error),
}

pub(super) async fn look(
    config: &Config,
    doorway: Option<Doorway>,
    findings: &mut Findings,
) -> Running {
    let is_taken = match config.listen.main() {
        Place::Tcp(address) => tcp(address, "-a", findings),
        Place::Unix(path) => Some(UnixStream::connect(path).is_ok()),
    };
    let answers = match (is_taken, doorway) {
        (Some(true), Some(doorway)) => {
            let asked = tokio::task::spawn_blocking(move || healthcheck::run(doorway)).await;
            Some(asked.unwrap_or_else(|err| Err(anyhow::Error::new(err))))
        }
        _ => None,
    };
    let running = match (is_taken, answers) {
        (Some(true), Some(Ok(_))) => {
            findings.ok(
                CHECK,
                format!("the relay answers on {}", config.listen.main()),
            );
            Running::Yes
        }
        (Some(true), Some(Err(err))) => {
            findings.problem(
                CHECK,
                format!(
                    "{} is taken, and not by a relay that answers: {err:#}",
                    config.listen.main()
                ),
                "if another program has it (ss -lntp shows which), stop that, let it pass on the \
                 relay's name (docs/sharing-port-443.md), or listen elsewhere with -a",
            );
            Running::Unknown
        }
        (Some(false), _) => {
            findings.warn(
                CHECK,
                format!(
                    "{} is free: the relay does not run here",
                    config.listen.main()
                ),
                "start it and look again, or name a relay that runs with --url",
            );
            Running::No
        }
        (None, _) => Running::No,
        (Some(true), None) => Running::Unknown,
    };
    let others = [
        (config.listen.http, "-http-port"),
        (config.listen.metrics, "--metrics-addr"),
    ];
    for (address, flag) in others {
        let Some(address) = address else { continue };
        let taken = tcp(address, flag, findings);
        tell(taken, running, &format!("TCP {address}"), flag, findings);
    }
    if let Some(stun) = config.stun {
        let taken = held(
            bind(stun.address, Type::DGRAM),
            &stun.address,
            "-stun-port",
            findings,
        );
        let what = format!("UDP {}", stun.address);
        tell(taken, running, &what, "-stun-port", findings);
    }
    running
}

/// A port beside the main one must be the relay's where that runs, and free where it does not.
fn tell(taken: Option<bool>, running: Running, what: &str, flag: &str, findings: &mut Findings) {
    match (taken, running) {
        (Some(true), Running::No) => findings.problem(
            CHECK,
            format!("{what} ({flag}) is taken by another program"),
            "ss -lnptu shows which; stop it, or give the relay another port",
        ),
        (Some(false), Running::Yes) => findings.problem(
            CHECK,
            format!("{what} ({flag}) is free, though the relay runs"),
            "it runs with another configuration than this one, or could not have the port when it \
             was started: its log says so; restart it",
        ),
        _ => {}
    }
}

/// Whether somebody has the port; `None` where the relay can never have it, which is told.
fn tcp(address: ListenAddr, flag: &str, findings: &mut Findings) -> Option<bool> {
    let holder = match bind(address, Type::STREAM) {
        // Whoever may not have the port can still see whether somebody has.
        Holder::Refused(err) if err.kind() == io::ErrorKind::PermissionDenied => {
            if answers(address.socket_addr()) {
                Holder::Somebody
            } else {
                Holder::Refused(err)
            }
        }
        holder => holder,
    };
    held(holder, &address, flag, findings)
}

fn answers(mut address: SocketAddr) -> bool {
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

fn held(holder: Holder, address: &ListenAddr, flag: &str, findings: &mut Findings) -> Option<bool> {
    let err = match holder {
        Holder::Nobody => return Some(false),
        Holder::Somebody => return Some(true),
        Holder::Refused(err) => err,
    };
    let remedy = match err.kind() {
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE, as the systemd \
             unit gives it (if the relay has it and this command has not, never mind)"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; name one of its own, or leave it out for all"
        }
        _ => "choose another address",
    };
    let what = format!("cannot listen on {address} ({flag}): {err}");
    findings.problem(CHECK, what, remedy);
    None
}

fn bind(address: ListenAddr, kind: Type) -> Holder {
    let tried = try_bind(address.socket_addr(), kind);
    // A machine without IPv6 still has IPv4.
    let tried = match (tried, address.ip) {
        (Err(err), None) if err.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
            try_bind(SocketAddr::from(([0, 0, 0, 0], address.port)), kind)
        }
        (tried, _) => tried,
    };
    match tried {
        Ok(()) => Holder::Nobody,
        Err(err) if err.kind() == io::ErrorKind::AddrInUse => Holder::Somebody,
        Err(err) => Holder::Refused(err),
    }
}

fn try_bind(address: SocketAddr, kind: Type) -> io::Result<()> {
    let protocol = if kind == Type::STREAM {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        // Connections that linger keep nobody from listening.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())
}
