//! Binding ports, and what to say where one cannot be had.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use derp_ops::listen_addr::{BindError, bind_tcp, no_such_family};
use derp_server::Listener;
use derp_stun::StunServer;
use tokio::net::{TcpListener, UnixListener};

use super::inherited::Inherited;
use super::unix_socket::{self, SocketFile};
use crate::config::{Config, ListenAddr, OnBindFailure, Place, Stun};

/// The relay's user and group may look inside.
const ADMIN_MODE: u32 = 0o660;

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
    /// Where clients come to by TCP.
    pub(super) fn tcp_addresses(&self) -> Vec<SocketAddr> {
        let extra = self.extra.iter().map(|(listener, _)| listener);
        let all = std::iter::once(&self.main).chain(extra);
        all.filter_map(Listener::local_addr).collect()
    }

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
                None => Ok(Some(bind_tcp(address, flag)?)),
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
        Place::Tcp(address) => Ok(bind_tcp(*address, flag)?.into()),
        Place::Unix(path) => {
            let (listener, file) = unix_socket::bind(path, mode)?;
            files.push(file);
            Ok(listener.into())
        }
    }
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
