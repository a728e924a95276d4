//! Ports: where the relay listens for connections and STUN requests.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

pub use derp_ops::listen_addr::ListenAddr;

use super::Manner;
use super::places::{self, ExtraPlace, Place};
use super::reader::Reader;
use crate::settings::{
    ADDRESS, ADMIN_SOCKET, DERP, EXTRA_LISTENERS, HTTP_PORT, METRICS_ADDRESS, STUN, STUN_ADDRESS,
    STUN_PORT, UNIX_MODE,
};
use crate::sources::Origin;

/// Where the relay listens for connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The main address. Where a Unix socket is in its place, this is what the other ports go by:
    /// all addresses, and the port that the proxy in front has, as far as can be guessed.
    pub address: ListenAddr,
    /// The Unix socket in place of the main address.
    pub unix: Option<PathBuf>,
    /// Further listeners.
    pub extra: Vec<ExtraPlace>,
    /// Who may connect to Unix sockets.
    pub unix_mode: u32,
    /// The port for captive portal checks beside TLS.
    pub http: Option<ListenAddr>,
    /// Where metrics and health are served to operators.
    pub metrics: Option<ListenAddr>,
    /// The Unix socket for looking inside.
    pub admin: Option<PathBuf>,
    /// Whether there is a relay at all.
    pub derp: bool,
    /// Whether the port is the one of HTTPS, which decides on TLS in [`Manner::Go`]; `None` where
    /// the address is a mistake.
    pub(super) is_https_port: Option<bool>,
}

impl Listen {
    pub(super) fn read(reader: &mut Reader<'_>, dev: bool) -> Self {
        let given = reader.given(&ADDRESS).is_some();
        let read = reader.optional(&ADDRESS, Place::from_str);
        let is_mistake = given && read.is_none();
        let by_default = || ADDRESS.default.parse().expect("the default is an address");
        let (address, unix) = match read {
            _ if dev => {
                let (ip, port) = (None, 3340);
                (ListenAddr { ip, port }, None)
            }
            Some(Place::Tcp(address)) => (address, None),
            Some(Place::Unix(path)) => (by_default(), Some(path)),
            None => (by_default(), None),
        };
        let is_https_port = (!is_mistake).then_some(unix.is_none() && address.port == 443);
        let mut extra = Vec::new();
        for text in reader.list(&EXTRA_LISTENERS) {
            match text.parse() {
                Ok(place) => extra.push(place),
                Err(what) => {
                    let what: String = what;
                    reader.reject(&EXTRA_LISTENERS, format!("{text:?}: {what}"));
                }
            }
        }
        let unix_mode = reader.value(&UNIX_MODE, places::mode);
        let hint = "a port from 0 to 65535, or -1 for none";
        let http_port: i64 = reader.int(&HTTP_PORT, i64::MIN..=65_535, hint);
        let http = u16::try_from(http_port)
            .ok()
            .map(|port| address.with_port(port));
        let derp = reader.switch(&DERP);
        let metrics = reader.optional(&METRICS_ADDRESS, ListenAddr::from_str);
        let admin = admin_socket(reader);
        Self {
            address,
            unix,
            extra,
            unix_mode,
            http,
            metrics,
            admin,
            derp,
            is_https_port,
        }
    }

    /// Where the main listener is.
    #[must_use]
    pub fn main(&self) -> Place {
        match &self.unix {
            Some(path) => Place::Unix(path.clone()),
            None => Place::Tcp(self.address),
        }
    }

    /// Where clients are served.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let extra = self.extra.iter().map(|extra| extra.place.clone());
        std::iter::once(self.main()).chain(extra)
    }

    /// The second listener is for what must not be asked over TLS; without TLS the first does it.
    pub(super) fn with_tls(self, tls: bool) -> Self {
        Self {
            http: self.http.filter(|_| tls),
            ..self
        }
    }
}

/// The Unix socket for looking inside.
pub(super) fn admin_socket(reader: &mut Reader<'_>) -> Option<PathBuf> {
    reader.optional(&ADMIN_SOCKET, |text| {
        if text.starts_with('/') {
            Ok(PathBuf::from(text))
        } else {
            Err("write an absolute path, such as /run/derper/admin.sock".to_owned())
        }
    })
}

/// The STUN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stun {
    /// Where it listens.
    pub address: ListenAddr,
    /// What happens when it cannot.
    pub on_bind_failure: OnBindFailure,
}

/// What happens when a port cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBindFailure {
    /// The relay does not start.
    Stop,
    /// The relay starts without, with a warning, as the reference does.
    Warn,
    /// Another port is taken, and the operator told.
    AnyPort,
}

impl Stun {
    pub(super) fn read(reader: &mut Reader<'_>, listen: &Listen) -> Option<Self> {
        let enabled = reader.switch(&STUN);
        let hint = "a port from 0 to 65535, or -1 for none";
        let port: i64 = reader.int(&STUN_PORT, i64::MIN..=65_535, hint);
        let given = reader.given(&STUN_PORT).map(|given| given.origin);
        let on_bind_failure = match (given, reader.manner()) {
            (Some(Origin::Preset(_)), _) => OnBindFailure::AnyPort,
            (_, Manner::Go) => OnBindFailure::Warn,
            (_, Manner::Ours) => OnBindFailure::Stop,
        };
        let own = reader.optional(&STUN_ADDRESS, |text| {
            let ip = text.parse::<IpAddr>();
            ip.map_err(|_| "write an IP address, or :: for all addresses".to_owned())
        });
        let port = u16::try_from(port).ok()?;
        let address = match own {
            // All of both families, or of IPv4 alone where there is no other.
            Some(ip) if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => ListenAddr { ip: None, port },
            Some(ip) => ListenAddr { ip: Some(ip), port },
            None => listen.address.with_port(port),
        };
        enabled.then_some(Self {
            address,
            on_bind_failure,
        })
    }
}
