//! The client's address as a proxy that ends TLS tells it, in a header of each request.
//!
//! Only the one header that the operator names is read: a proxy replaces or extends that one, and
//! passes the others on as a stranger wrote them. In a list, what the trusted proxies added stands
//! on the right, so the client is the rightmost address that is none of theirs; what stands to the
//! left of it is the client's own claim.

use std::net::{IpAddr, SocketAddr};

use derp_verify::ConnMeta;
use ipnet::IpNet;

use crate::http::head::MAX_HEADERS;
use crate::network::contains;

/// Which proxies are believed about the addresses of their clients. The default is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TrustedProxies {
    /// Where they are.
    pub networks: Vec<IpNet>,
    /// Whether everybody is one who connects to a Unix socket, where there are no addresses.
    pub on_unix_sockets: bool,
    /// The header that they set.
    pub header: ForwardedHeader,
}

/// The header by which a proxy tells its client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, a list of addresses.
    #[default]
    XForwardedFor,
    /// `X-Real-IP`, one address.
    XRealIp,
    /// `Forwarded` (RFC 7239), of which the `for` parameters are read.
    Forwarded,
}

impl ForwardedHeader {
    const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::XRealIp => "x-real-ip",
            Self::Forwarded => "forwarded",
        }
    }
}

/// What a request says of where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Nothing: it is the proxy's own.
    Unsaid,
    /// From this client.
    Client(IpAddr),
    /// From a client whose address cannot be known.
    Unknown,
}

impl TrustedProxies {
    /// Whether the other end of the connection is believed.
    pub(crate) fn are_at(&self, conn: &ConnMeta) -> bool {
        match conn.proxy_peer.or(conn.socket_peer) {
            Some(peer) => contains(&self.networks, peer.ip()),
            None => self.on_unix_sockets && conn.is_unix,
        }
    }

    /// Writes down what the request whose head begins `bytes` says, and which is its
    /// connection's last.
    pub(crate) fn note_head(&self, bytes: &[u8], conn: &mut ConnMeta) {
        if !self.are_at(conn) {
            return;
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        // A head that is none is refused elsewhere.
        if request.parse(bytes).is_ok() {
            let headers = request.headers.iter();
            self.note(headers.map(|header| (header.name, header.value)), conn);
        }
    }

    /// The connection as it looks to a request that hyper has parsed: a proxy may send several
    /// clients' requests over one connection.
    pub(crate) fn conn_of<B>(&self, request: &http::Request<B>, conn: &ConnMeta) -> ConnMeta {
        let mut conn = conn.clone();
        if self.are_at(&conn) {
            let headers = request.headers().iter();
            let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
            self.note(headers, &mut conn);
        }
        conn
    }

    fn note<'a>(&self, headers: impl Iterator<Item = (&'a str, &'a [u8])>, conn: &mut ConnMeta) {
        match self.origin(headers) {
            Origin::Unsaid => {}
            Origin::Client(ip) => conn.header_peer = Some(ip),
            Origin::Unknown => {
                // The proxy's address must not stand for its client's: it may open doors.
                conn.socket_peer = None;
                conn.proxy_peer = None;
                conn.is_unix = false;
            }
        }
    }

    fn origin<'a>(&self, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Origin {
        let name = self.header.name();
        let values: Vec<&[u8]> = headers
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect();
        if self.header == ForwardedHeader::XRealIp {
            return match values[..] {
                [] => Origin::Unsaid,
                [value] => address(value).map_or(Origin::Unknown, Origin::Client),
                _ => Origin::Unknown,
            };
        }
        // Several fields of one name are one list (RFC 9110, 5.3).
        let hops = values
            .iter()
            .rev()
            .flat_map(|value| value.rsplit(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|hop| !hop.is_empty());
        let mut origin = Origin::Unsaid;
        for hop in hops {
            let hop = match self.header {
                ForwardedHeader::Forwarded => for_parameter(hop).and_then(address),
                ForwardedHeader::XForwardedFor | ForwardedHeader::XRealIp => address(hop),
            };
            let Some(ip) = hop else {
                return Origin::Unknown;
            };
            origin = Origin::Client(ip);
            if !contains(&self.networks, ip) {
                break;
            }
        }
        origin
    }
}

/// The value of the `for` parameter of an element of `Forwarded`, without quotes.
///
/// Commas in quotes are no business of addresses: an element that was cut there has none.
fn for_parameter(element: &[u8]) -> Option<&[u8]> {
    let mut values = element.split(|&byte| byte == b';').filter_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    });
    let value = values.next()?;
    // The parameter comes once (RFC 7239, 4).
    if values.next().is_some() {
        return None;
    }
    match value.strip_prefix(b"\"") {
        Some(quoted) => quoted.strip_suffix(b"\""),
        None => Some(value),
    }
}

/// An address, perhaps with a port, as proxies write them: IPv6 in brackets where there is a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let ip = match text.parse() {
        Ok(ip) => Some(ip),
        Err(_) => match text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(ip) => ip.parse().ok().map(IpAddr::V6),
            None => text.parse().ok().map(|addr: SocketAddr| addr.ip()),
        },
    };
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests;
