//! Binding ports, and what to say where one cannot be had.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use derp_server::Listener;
use derp_stun::StunServer;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

use super::inherited::Inherited;
use super::unix_socket::{self, SocketFile};
use crate::config::{Config, ListenAddr, OnBindFailure, Place, Stun};

/// Connections that wait to be accepted; what the reference's listeners get from Linux.
const BACKLOG: i32 = 4096;
/// The relay's user and group may look inside.
const ADMIN_MODE: u32 = 0o660;

/// A port that cannot be had. `Display` says what to do.
#[derive(Debug, Error)]
#[error("cannot listen on {protocol} {address} ({flag}){}", remedy(source, address.port()))]
pub struct BindError {
    protocol: &'static str,
    address: SocketAddr,
    flag: &'static str,
    source: io::Error,
}

fn remedy(err: &io::Error, port: u16) -> String {
    match err.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; another program has the port: ss -lnptu 'sport = :{port}' shows which")
        }
        io::ErrorKind::PermissionDenied if port < 1024 => {
            "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address".to_owned(),
        _ => String::new(),
    }
}

/// All sockets of a relay, bound.
pub(super) struct Sockets {
    pub(super) main: Listener,
    /// Further ones, and whether they speak plain HTTP where the main one speaks TLS.
    pub(super) extra: Vec<(Listener, bool)>,
    pub(super) http: Option<TcpListener>,
    /// For operators alone.
    pub(super) metrics: Option<TcpListener>,
    /// For looking inside.
    pub(super) admin: Option<UnixListener>,
    pub(super) stun: Option<StunServer>,
    /// STUN was wanted, and its port is taken.
    pub(super) has_stun_failed: bool,
    /// The names of Unix sockets, which go with the relay.
    pub(super) files: Vec<SocketFile>,
}

impl Sockets {
    /// Takes over what a service manager has bound, and binds the rest.
    pub(super) fn bind(config: &Config) -> anyhow::Result<Self> {
        let (mut inherited, listen) = (Inherited::take(), &config.listen);
        let (mut files, mode) = (Vec::new(), listen.unix_mode);
        let main = match inherited.derp() {
            Some(socket) => adopt(socket)?.into(),
            None => place(&listen.main(), "-a", mode, &mut files)?,
        };
        let mut extra = Vec::new();
        for other in &listen.extra {
            let listener = place(&other.place, "listen.extra", mode, &mut files)?;
            extra.push((listener, other.is_plain));
        }
        let port = |address: Option<ListenAddr>, inherited: Option<_>, flag| match address {
            None => Ok(None),
            Some(address) => match inherited {
                Some(socket) => adopt(socket).map(Some).map_err(anyhow::Error::new),
                None => Ok(Some(tcp(address, flag)?)),
            },
        };
        let metrics = port(listen.metrics, inherited.metrics(), "--metrics-addr")?;
        let http = port(listen.http, inherited.http(), "-http-port")?;
        let stun_server = match (config.stun, inherited.stun()) {
            (None, _) => None,
            (Some(_), Some(socket)) => Some(StunServer::from_std(socket)?),
            (Some(address), None) => stun(address)?,
        };
        let mut admin = None;
        if let Some(path) = &listen.admin {
            let (listener, file) = unix_socket::bind(path, ADMIN_MODE)?;
            files.push(file);
            admin = Some(listener);
        }
        if inherited.left() > 0 {
            let sockets = inherited.left();
            tracing::warn!(sockets, "sockets of the service manager are not used");
        }
        Ok(Self {
            main,
            extra,
            http,
            metrics,
            admin,
            has_stun_failed: config.stun.is_some() && stun_server.is_none(),
            stun: stun_server,
            files,
        })
    }
}

/// Takes over a socket that is bound already.
fn adopt(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Binds a port or a Unix socket; `flag` chooses it. The names of sockets go to `files`.
fn place(
    place: &Place,
    flag: &'static str,
    mode: u32,
    files: &mut Vec<SocketFile>,
) -> anyhow::Result<Listener> {
    match place {
        Place::Tcp(address) => Ok(tcp(*address, flag)?.into()),
        Place::Unix(path) => {
            let (listener, file) = unix_socket::bind(path, mode)?;
            files.push(file);
            Ok(listener.into())
        }
    }
}

/// Binds a TCP port; `flag` is the one that chooses it.
fn tcp(address: ListenAddr, flag: &'static str) -> Result<TcpListener, BindError> {
    let bound = bind_tcp(address.socket_addr()).or_else(|err| match address.ip {
        // A machine without IPv6 still has IPv4.
        None if err.raw_os_error() == Some(no_such_family()) => bind_tcp(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            address.port,
        )),
        _ => Err(err),
    });
    bound.map_err(|source| BindError {
        protocol: "TCP",
        address: address.socket_addr(),
        flag,
        source,
    })
}

fn no_such_family() -> i32 {
    rustix::io::Errno::AFNOSUPPORT.raw_os_error()
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // A relay that restarts finds its port full of connections that linger.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Binds STUN's port, or does what is to be done where that fails: `Ok(None)` is a relay without.
fn stun(stun: Stun) -> Result<Option<StunServer>, BindError> {
    let failed = |err: derp_stun::BindError| BindError {
        protocol: "UDP",
        address: err.addr,
        flag: "-stun-port",
        source: err.source,
    };
    let address = stun.address;
    let err = match bind_stun(address) {
        Ok(server) => return Ok(Some(server)),
        Err(err) => failed(err),
    };
    match stun.on_bind_failure {
        OnBindFailure::Stop => Err(err),
        OnBindFailure::Warn => {
            tracing::warn!("STUN is off, and clients will take this relay for slow: {err}");
            Ok(None)
        }
        OnBindFailure::AnyPort => {
            let server = bind_stun(address.with_port(0)).map_err(failed)?;
            let port = server.local_addr().port();
            tracing::warn!("STUN is on UDP port {port} for now: {err}");
            Ok(Some(server))
        }
    }
}

fn bind_stun(address: ListenAddr) -> Result<StunServer, derp_stun::BindError> {
    StunServer::bind(address.socket_addr()).or_else(|err| match address.ip {
        None if err.source.raw_os_error() == Some(no_such_family()) => {
            StunServer::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port))
        }
        _ => Err(err),
    })
}

/// The port of a TCP listener.
pub(super) fn port(listener: &Listener) -> u16 {
    listener.local_addr().map_or(0, |address| address.port())
}
