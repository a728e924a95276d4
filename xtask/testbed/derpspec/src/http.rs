//! HTTP by hand: requests as bytes, and responses as what came.

use crate::target::Target;

/// A response that was read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    /// Status line and headers, with the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        status(&self.head)
    }

    /// The value of the first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The status in a head, or 0 where there is none.
pub(crate) fn status(head: &str) -> u16 {
    head.strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// The value of the first header of this name in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// How the body of a response ends.
pub(crate) enum Framing {
    /// After so many bytes.
    Length(usize),
    Chunked,
    /// With the connection.
    Close,
}

/// How the body of the response with this head to a `method` request ends (RFC 9112, 6.3).
pub(crate) fn framing(head: &str, method: &str) -> Framing {
    let has_none = matches!(status(head), 100..=199 | 204 | 304);
    if method == "HEAD" || has_none {
        return Framing::Length(0);
    }
    if header(head, "Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        return Framing::Chunked;
    }
    match header(head, "Content-Length").and_then(|length| length.parse().ok()) {
        Some(length) => Framing::Length(length),
        None => Framing::Close,
    }
}

/// A request without a body; `headers` are whole lines.
pub(crate) fn request(target: &Target, method: &str, path: &str, headers: &str) -> String {
    let host = target.host_header();
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")
}

/// The request of Go's client for a DERP connection, with `headers` more.
pub(crate) fn upgrade(target: &Target, headers: &str) -> String {
    let fields = format!(
        "User-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n{headers}"
    );
    request(target, "GET", "/derp", &fields)
}

/// The `Sec-WebSocket-Key` of all requests, an example of RFC 6455.
pub(crate) const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A browser's request for a DERP connection, with `headers` more.
pub(crate) fn websocket(target: &Target, headers: &str) -> String {
    let fields = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {WEBSOCKET_KEY}\r\nSec-WebSocket-Protocol: derp\r\n{headers}"
    );
    request(target, "GET", "/derp", &fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are() {
        let head = "HTTP/1.1 204 No Content\r\nX-One:  a b \r\nx-one: c\r\n\r\n";
        assert_eq!(status(head), 204);
        assert_eq!(header(head, "x-ONE"), Some("a b"));
        assert_eq!(header(head, "x"), None);
        assert_eq!(status("HTTP/2 200\r\n"), 0);
        assert_eq!(status("\x01\0\0\0\x28"), 0);
    }

    #[test]
    fn bodies_end_as_their_heads_say() {
        let framed = |head, method| match framing(head, method) {
            Framing::Length(n) => format!("{n}"),
            Framing::Chunked => "chunked".to_owned(),
            Framing::Close => "close".to_owned(),
        };
        let with_length = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(framed(with_length, "GET"), "7");
        assert_eq!(framed(with_length, "HEAD"), "0");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(framed(chunked, "GET"), "chunked");
        assert_eq!(framed("HTTP/1.1 200 OK\r\n\r\n", "GET"), "close");
        assert_eq!(framed("HTTP/1.1 204 No\r\n\r\n", "GET"), "0");
    }
}
