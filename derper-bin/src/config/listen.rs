//! Ports: where the relay listens for connections and STUN requests.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use super::Manner;
use super::places::{self, ExtraPlace, Place};
use super::reader::Reader;
use crate::settings::{
    ADDRESS, ADMIN_SOCKET, DERP, EXTRA_LISTENERS, HTTP_PORT, METRICS_ADDRESS, STUN, STUN_ADDRESS,
    STUN_PORT, UNIX_MODE,
};
use crate::sources::Origin;

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddr {
    /// The address, or `None` for all of this machine's, IPv4 and IPv6.
    pub ip: Option<IpAddr>,
    /// The port; 0 for any free one.
    pub port: u16,
}

impl ListenAddr {
    /// The same address with another port.
    #[must_use]
    pub const fn with_port(self, port: u16) -> Self {
        Self { ip: self.ip, port }
    }

    /// The address to bind; for all addresses, the one that takes IPv4 as well.
    #[must_use]
    pub fn socket_addr(self) -> SocketAddr {
        SocketAddr::new(
            self.ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            self.port,
        )
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    /// Reads `:port`, `ip:port` or `[ip6]:port`, and `https` for a port, as Go does. A name is
    /// looked up, for the reference takes `localhost:8443`.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "write it like :443, 192.0.2.1:443 or [2001:db8::1]:443";
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("there is no port; {FORMS}"));
        };
        let port = match port {
            "https" => 443,
            "http" => 80,
            port => port
                .parse()
                .map_err(|_| format!("{port:?} is not a port; {FORMS}"))?,
        };
        if let Some(inner) = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            let ip = inner.parse::<Ipv6Addr>();
            let ip = ip.map_err(|_| format!("{inner:?} is not an IPv6 address; {FORMS}"))?;
            return Ok(Self {
                ip: Some(ip.into()),
                port,
            });
        }
        if host.is_empty() {
            return Ok(Self { ip: None, port });
        }
        if host.contains(':') {
            return Err(format!("an IPv6 address needs brackets; {FORMS}"));
        }
        if let Ok(ip) = host.parse() {
            return Ok(Self { ip: Some(ip), port });
        }
        let found: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(_) => {
                return Err(format!(
                    "{host:?} is not an address of this machine; {FORMS}"
                ));
            }
        };
        // Go listens on the first IPv4 address of a name.
        let first = found
            .iter()
            .find(|addr| addr.is_ipv4())
            .or_else(|| found.first());
        match first {
            Some(addr) => Ok(Self {
                ip: Some(addr.ip()),
                port,
            }),
            None => Err(format!("{host:?} has no address; {FORMS}")),
        }
    }
}

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
        let port = reader.int(&STUN_PORT, 0..=65_535, "a port from 0 to 65535");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_in_go() {
        let addr = |ip: &str, port| ListenAddr {
            ip: ip.parse().ok(),
            port,
        };
        let cases = [
            (":443", addr("", 443)),
            (":https", addr("", 443)),
            (":0", addr("", 0)),
            ("192.0.2.1:8443", addr("192.0.2.1", 8443)),
            ("0.0.0.0:443", addr("0.0.0.0", 443)),
            ("[::]:443", addr("::", 443)),
            ("[2001:db8::1]:443", addr("2001:db8::1", 443)),
            ("localhost:8010", addr("127.0.0.1", 8010)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!(addr("", 443).to_string(), ":443");
        assert_eq!(addr("2001:db8::1", 443).to_string(), "[2001:db8::1]:443");
        assert_eq!(addr("", 443).socket_addr().to_string(), "[::]:443");
    }

    #[test]
    fn what_is_no_address_says_how_one_looks() {
        let cases = [
            ("443", "there is no port"),
            (":", "\"\" is not a port"),
            (":99999", "\"99999\" is not a port"),
            (":-1", "\"-1\" is not a port"),
            ("2001:db8::1:443", "an IPv6 address needs brackets"),
            ("[192.0.2.1]:443", "\"192.0.2.1\" is not an IPv6 address"),
            (
                "256.0.2.1.invalid:443",
                "\"256.0.2.1.invalid\" is not an address of this machine",
            ),
        ];
        for (text, what) in cases {
            let forms = "write it like :443, 192.0.2.1:443 or [2001:db8::1]:443";
            assert_eq!(
                text.parse::<ListenAddr>(),
                Err(format!("{what}; {forms}")),
                "{text}"
            );
        }
    }
}
