//! The head of a connection's first request, and what it asks for.
//!
//! Stricter than an HTTP server has to be, where no client of a relay needs the freedom and a
//! proxy in front could understand a request otherwise than the relay does: lines end in CRLF,
//! there is exactly one `Host`, and no header that decides anything comes twice. Whatever does
//! not ask for an upgrade is left to hyper, with all bytes; see [`super::serve_pages`].
//!
//! Pure: bytes in, a decision out.

use derp_proto::http::{
    DERP_PATH, FAST_START_HEADER, IDEAL_NODE_HEADER, UPGRADE_DERP, UPGRADE_WEBSOCKET,
    WEBSOCKET_PROTOCOL,
};
use http::StatusCode;
use http::header::{ALLOW, HeaderName, SEC_WEBSOCKET_VERSION};
use thiserror::Error;

use crate::websocket::AcceptKey;

/// How long a request head may be, in bytes, with the empty line that ends it.
pub(crate) const MAX_HEAD_LEN: usize = 8 * 1024;

/// How many headers a request may have.
pub(crate) const MAX_HEADERS: usize = 64;

/// A complete request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its length in bytes. What follows belongs to DERP, if this is an upgrade.
    pub(crate) len: usize,
    pub(crate) route: Route,
}

/// Who answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// The relay: the connection becomes a DERP client's.
    Upgrade(Upgrade),
    /// The pages.
    Other,
}

/// What a connection is to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// A byte stream of DERP frames.
    Derp(DerpUpgrade),
    /// WebSocket messages that carry such a stream.
    WebSocket {
        /// Proves to the client that the server understood it.
        accept: AcceptKey,
    },
}

/// A plain DERP upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DerpUpgrade {
    /// The client expects no HTTP response, and has sent its first frame already.
    pub(crate) fast_start: bool,
    /// The client would rather have reached another node of the region.
    pub(crate) ideal_node: bool,
}

/// Why a request is refused. The connection is closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum HeadError {
    /// More than [`MAX_HEAD_LEN`].
    #[error("request head too long")]
    TooLong,
    /// More than [`MAX_HEADERS`].
    #[error("too many headers")]
    TooManyHeaders,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("only HTTP/1.1 is spoken here")]
    Version,
    /// Not HTTP.
    #[error("malformed request")]
    Malformed,
    /// A line feed without a carriage return.
    #[error("lines must end in CRLF")]
    BareLineFeed,
    /// No `Host`, several, or one that names no host.
    #[error("exactly one valid Host header is required")]
    Host,
    /// A header that decides something came twice.
    #[error("duplicate header")]
    Duplicate,
    /// `Content-Length` is no number, or came with `Transfer-Encoding`.
    #[error("ambiguous body length")]
    BodyLength,
    /// An upgrade by another method than GET.
    #[error("a DERP upgrade needs GET")]
    UpgradeMethod,
    /// An upgrade with a body, which could be taken for DERP.
    #[error("a DERP upgrade must not have a body")]
    UpgradeBody,
    /// Another version of the WebSocket protocol than 13.
    #[error("only WebSocket version 13 is spoken here")]
    WebSocketVersion,
    /// `Sec-WebSocket-Key` is not the base64 form of 16 bytes.
    #[error("bad Sec-WebSocket-Key")]
    WebSocketKey,
}

impl HeadError {
    /// The status of the response.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::TooLong | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::UpgradeMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Malformed
            | Self::BareLineFeed
            | Self::Host
            | Self::Duplicate
            | Self::BodyLength
            | Self::UpgradeBody
            | Self::WebSocketKey => StatusCode::BAD_REQUEST,
        }
    }

    /// The header by which the response says what would be understood.
    pub(crate) fn hint(self) -> Option<(HeaderName, &'static str)> {
        match self {
            Self::UpgradeMethod => Some((ALLOW, "GET")),
            Self::WebSocketVersion => Some((SEC_WEBSOCKET_VERSION, "13")),
            _ => None,
        }
    }
}

/// Reads a head that comes in pieces. Only the end of a line can complete one, so that a head that
/// comes byte by byte is not read from its beginning for each of them.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    seen: usize,
}

impl HeadReader {
    /// Reads the head at the front of `buf`, which is what it was the last time and more behind it;
    /// `None` asks for more bytes.
    ///
    /// # Errors
    /// As [`read_head`].
    pub(crate) fn read(&mut self, buf: &[u8]) -> Result<Option<Head>, HeadError> {
        match self.is_worth_it(buf) {
            true => read_head(buf),
            false => Ok(None),
        }
    }

    fn is_worth_it(&mut self, buf: &[u8]) -> bool {
        // The first bytes tell whether it is HTTP at all.
        let is_first = self.seen == 0;
        let fresh = buf.get(self.seen..).unwrap_or_default();
        self.seen = buf.len();
        is_first || buf.len() >= MAX_HEAD_LEN || fresh.contains(&b'\n')
    }
}

/// Reads the request head at the front of `buf`; `None` asks for more bytes.
///
/// # Errors
/// Says what is wrong with it, as early as that is certain.
pub(crate) fn read_head(buf: &[u8]) -> Result<Option<Head>, HeadError> {
    // httparse skips empty lines before a request, and counts none of them as wrong.
    if matches!(buf.first(), Some(b'\r' | b'\n')) {
        return Err(HeadError::Malformed);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(buf) {
        Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD_LEN => len,
        Ok(httparse::Status::Partial) if buf.len() < MAX_HEAD_LEN => return Ok(None),
        Ok(_) => return Err(HeadError::TooLong),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyHeaders),
        Err(httparse::Error::Version) => return Err(HeadError::Version),
        Err(_) => return Err(HeadError::Malformed),
    };
    if has_bare_line_feed(&buf[..len]) {
        return Err(HeadError::BareLineFeed);
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(HeadError::Malformed);
    };
    let is_http11 = request.version == Some(1);
    let fields = request
        .headers
        .iter()
        .map(|header| (header.name, header.value));
    let fields = Fields::collect(fields, is_http11)?;
    let route = if path_of(target) == DERP_PATH {
        fields.route(method, is_http11)?
    } else {
        Route::Other
    };
    Ok(Some(Head { len, route }))
}

/// Decides on a request that hyper has parsed.
///
/// # Errors
/// As [`read_head`] for what hyper leaves to the application.
pub(crate) fn route<B>(request: &http::Request<B>) -> Result<Route, HeadError> {
    if request.uri().path() == DERP_PATH {
        return route_at_any_path(request);
    }
    fields_of(request).map(|_| Route::Other)
}

/// [`route`], for somebody who has chosen the path.
///
/// # Errors
/// As [`route`].
pub(crate) fn route_at_any_path<B>(request: &http::Request<B>) -> Result<Route, HeadError> {
    fields_of(request)?.route(request.method().as_str(), is_http11(request))
}

fn fields_of<B>(request: &http::Request<B>) -> Result<Fields<'_>, HeadError> {
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    Fields::collect(headers, is_http11(request))
}

fn is_http11<B>(request: &http::Request<B>) -> bool {
    request.version() == http::Version::HTTP_11
}

/// The headers that decide something.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    fast_start: Option<&'a [u8]>,
    ideal_node: bool,
    connection: Connection,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    websocket_key: Option<&'a [u8]>,
    websocket_version: Option<&'a [u8]>,
    websocket_protocol: Option<&'a [u8]>,
    websocket_extensions: Option<&'a [u8]>,
}

/// What the `Connection` headers say of an upgrade.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Connection {
    #[default]
    Absent,
    /// There is one, without the token `upgrade`.
    Silent,
    Upgrade,
}

impl<'a> Fields<'a> {
    fn collect(
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
        is_http11: bool,
    ) -> Result<Self, HeadError> {
        let mut fields = Self::default();
        for (name, value) in headers {
            fields.note(name, value)?;
        }
        fields.check(is_http11)?;
        Ok(fields)
    }

    fn note(&mut self, name: &str, value: &'a [u8]) -> Result<(), HeadError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let (field, error) = if is("Host") {
            (&mut self.host, HeadError::Host)
        } else if is("Upgrade") {
            (&mut self.upgrade, HeadError::Duplicate)
        } else if is(FAST_START_HEADER) {
            (&mut self.fast_start, HeadError::Duplicate)
        } else if is("Content-Length") {
            (&mut self.content_length, HeadError::BodyLength)
        } else if is("Transfer-Encoding") {
            (&mut self.transfer_encoding, HeadError::BodyLength)
        } else if is("Sec-WebSocket-Key") {
            (&mut self.websocket_key, HeadError::Duplicate)
        } else if is("Sec-WebSocket-Version") {
            (&mut self.websocket_version, HeadError::Duplicate)
        } else if is("Sec-WebSocket-Protocol") {
            (&mut self.websocket_protocol, HeadError::Duplicate)
        } else if is("Sec-WebSocket-Extensions") {
            (&mut self.websocket_extensions, HeadError::Duplicate)
        } else {
            if is(IDEAL_NODE_HEADER) {
                self.ideal_node |= !value.is_empty();
            } else if is("Connection") {
                self.note_connection(value);
            }
            return Ok(());
        };
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(error),
        }
    }

    fn note_connection(&mut self, value: &[u8]) {
        if tokens(value).any(|token| token.eq_ignore_ascii_case(b"upgrade")) {
            self.connection = Connection::Upgrade;
        } else if self.connection == Connection::Absent {
            self.connection = Connection::Silent;
        }
    }

    /// What holds for every request.
    fn check(&self, is_http11: bool) -> Result<(), HeadError> {
        match self.host {
            Some(host) if is_host(host) => {}
            None if !is_http11 => {}
            _ => return Err(HeadError::Host),
        }
        let Some(length) = self.content_length else {
            return Ok(());
        };
        let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
        if !is_number || self.transfer_encoding.is_some() {
            return Err(HeadError::BodyLength);
        }
        Ok(())
    }

    /// Decides on a request for [`DERP_PATH`].
    fn route(&self, method: &str, is_http11: bool) -> Result<Route, HeadError> {
        let asks_for = |protocol: &str| {
            self.upgrade
                .is_some_and(|value| value.eq_ignore_ascii_case(protocol.as_bytes()))
        };
        let is_websocket = asks_for(UPGRADE_WEBSOCKET);
        // RFC 9110, 7.8: HTTP/1.0 knows no upgrade. A proxy that names other things in
        // `Connection` than the upgrade may not know that the stream stops being HTTP; one that
        // sends none at all is common.
        let is_upgrade = (asks_for(UPGRADE_DERP) || is_websocket)
            && is_http11
            && self.connection != Connection::Silent;
        if !is_upgrade {
            return Ok(Route::Other);
        }
        if method != "GET" {
            return Err(HeadError::UpgradeMethod);
        }
        let has_length = self
            .content_length
            .is_some_and(|value| value.iter().any(|&b| b != b'0'));
        if has_length || self.transfer_encoding.is_some() {
            return Err(HeadError::UpgradeBody);
        }
        let offers_derp = self
            .websocket_protocol
            .is_some_and(|value| tokens(value).any(|token| token == WEBSOCKET_PROTOCOL.as_bytes()));
        let upgrade = if is_websocket && offers_derp {
            self.websocket()?
        } else {
            Upgrade::Derp(DerpUpgrade {
                fast_start: self.fast_start == Some(b"1"),
                ideal_node: self.ideal_node,
            })
        };
        Ok(Route::Upgrade(upgrade))
    }

    fn websocket(&self) -> Result<Upgrade, HeadError> {
        if self.websocket_version != Some(b"13") {
            return Err(HeadError::WebSocketVersion);
        }
        let key = self.websocket_key.ok_or(HeadError::WebSocketKey)?;
        let accept = AcceptKey::of(key).ok_or(HeadError::WebSocketKey)?;
        Ok(Upgrade::WebSocket { accept })
    }
}

/// The elements of a comma-separated list (RFC 9110, 5.6.1).
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii)
}

/// Whether these can be a host and a port (RFC 3986, 3.2.2). An empty one is legal.
fn is_host(value: &[u8]) -> bool {
    value
        .iter()
        .all(|&b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&b))
}

/// The path of a request target, which a proxy's client sends with scheme and authority.
fn path_of(target: &str) -> &str {
    let authority = ["http://", "https://"].into_iter().find_map(|scheme| {
        let (front, rest) = target.split_at_checked(scheme.len())?;
        front.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let path = match authority {
        Some(rest) => rest.find('/').map_or("/", |start| &rest[start..]),
        None => target,
    };
    path.split(['?', '#']).next().unwrap_or(path)
}

/// Whether a line ends in LF alone. The first byte is known to be no line end.
fn has_bare_line_feed(head: &[u8]) -> bool {
    head.windows(2)
        .any(|pair| pair[1] == b'\n' && pair[0] != b'\r')
}

#[cfg(test)]
mod tests;
