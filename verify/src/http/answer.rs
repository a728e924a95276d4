//! The head of an answer, read strictly: what two readers could take for different things is
//! refused.

use super::exchange::Fault;

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    #[cfg(feature = "tailscaled")]
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the stream can take another request.
    #[cfg(feature = "_tls")]
    pub(crate) reusable: bool,
}

#[cfg(feature = "tailscaled")]
impl Answer {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        values(&self.headers, name).next()
    }
}

/// What stands before an answer's body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    is_http_1_1: bool,
    headers: Vec<(String, String)>,
    pub(super) framing: Framing,
    pub(super) is_gzip: bool,
}

/// Where an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClosed,
}

impl Head {
    pub(super) fn keeps_open(&self) -> bool {
        let closes = values(&self.headers, "connection")
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case("close"));
        self.is_http_1_1 && !closes && self.framing != Framing::UntilClosed
    }

    #[cfg_attr(
        not(feature = "_tls"),
        expect(unused_variables, reason = "only pools reuse")
    )]
    pub(super) fn answer(self, body: Vec<u8>, reusable: bool) -> Answer {
        Answer {
            status: self.status,
            #[cfg(feature = "tailscaled")]
            headers: self.headers,
            body,
            #[cfg(feature = "_tls")]
            reusable,
        }
    }
}

/// The head at the front of `bytes` and its length; `None` where more bytes are needed.
pub(super) fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Fault> {
    let bad = |what: &str| Fault::Answer(what.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes);
    let parsed = parsed.map_err(|err| bad(&format!("not an HTTP answer: {err}")))?;
    let httparse::Status::Complete(len) = parsed else {
        if bytes.len() >= MAX_HEAD_LEN {
            return Err(bad("the head of the answer is too long"));
        }
        return Ok(None);
    };
    if len > MAX_HEAD_LEN {
        return Err(bad("the head of the answer is too long"));
    }
    let status = response.code.unwrap_or_default();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<_> = response
        .headers
        .iter()
        .map(|line| (line.name.to_owned(), text(line.value)))
        .collect();
    let head = Head {
        status,
        is_http_1_1: response.version == Some(1),
        framing: framing(status, &headers).map_err(bad)?,
        is_gzip: is_gzip(&headers).map_err(bad)?,
        headers,
    };
    Ok(Some((head, len)))
}

fn framing(status: u16, headers: &[(String, String)]) -> Result<Framing, &'static str> {
    if status < 200 || matches!(status, 204 | 304) {
        return Ok(Framing::Length(0));
    }
    let mut codings = values(headers, "transfer-encoding");
    let mut lengths = values(headers, "content-length");
    match (
        codings.next(),
        codings.next(),
        lengths.next(),
        lengths.next(),
    ) {
        (None, None, None, None) => Ok(Framing::UntilClosed),
        (Some(coding), None, None, None) if coding.eq_ignore_ascii_case("chunked") => {
            Ok(Framing::Chunked)
        }
        (None, None, Some(digits), None) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
            .parse()
            .map(Framing::Length)
            .map_err(|_| "Content-Length is no number"),
        (_, _, None, None) => Err("a Transfer-Encoding other than `chunked`"),
        _ => Err("the length of the answer is given in two ways, or is no number"),
    }
}

fn is_gzip(headers: &[(String, String)]) -> Result<bool, &'static str> {
    let mut codings = values(headers, "content-encoding");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if coding.eq_ignore_ascii_case("gzip") => Ok(true),
        (Some(coding), None) if coding.eq_ignore_ascii_case("identity") => Ok(false),
        _ => Err("a Content-Encoding that was not asked for"),
    }
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |(given, _)| given.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// The beginning of an answer's body, for a log.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..MAX_EXCERPT).unwrap_or(body));
    let shown = text.trim().escape_debug().to_string();
    if body.len() > MAX_EXCERPT {
        return format!("{shown}…");
    }
    shown
}

/// The longest head that is read, in bytes.
const MAX_HEAD_LEN: usize = 16 << 10;
/// The most header lines in it.
const MAX_HEADERS: usize = 64;
/// How many bytes of a body are quoted.
const MAX_EXCERPT: usize = 120;
