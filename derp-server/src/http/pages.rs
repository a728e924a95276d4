//! Everything that the relay's HTTP listener answers and is not DERP.
//!
//! Requests in, responses out; no I/O. The paths are those of `cmd/derper/derper.go`. What an
//! operator alone may see, such as `/debug/`, the embedding program mounts by [`Extra`].

use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use derp_proto::http::{
    BOOTSTRAP_DNS_PATH, CHALLENGE_HEADER, DERP_PATH, GENERATE_204_PATH, LATENCY_CHECK_PATH,
    PROBE_PATH, RESPONSE_HEADER, UPGRADE_DERP, is_valid_challenge,
};
use derp_verify::ConnMeta;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HOST, HeaderName, LOCATION, STRICT_TRANSPORT_SECURITY, UPGRADE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::home::{Home, HomePage};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

const ROBOTS_TXT_PATH: &str = "/robots.txt";
const DEBUG_PATH: &str = "/debug";
const ACME_CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// What browsers are told to be careful about (`tsweb.AddBrowserHeaders`).
const BROWSER_HEADERS: [(HeaderName, &str); 4] = [
    (
        STRICT_TRANSPORT_SECURITY,
        "max-age=63072000; includeSubDomains",
    ),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; \
         block-all-mixed-content; object-src 'none'",
    ),
    (X_FRAME_OPTIONS, "DENY"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// Pages that the embedding program adds.
pub trait Extra: Debug + Send + Sync + 'static {
    /// Answers the request, or leaves it to the relay. Asked before the relay's own pages, and
    /// never about [`DERP_PATH`] and the paths by which clients measure.
    ///
    /// Whether the connection stays open is up to the response's `Connection` header.
    fn respond(&self, request: &Request<()>, conn: &ConnMeta) -> Option<Response<Bytes>>;

    /// Whether the home page links to `/debug/` for this requester.
    fn may_debug(&self, request: &Request<()>, conn: &ConnMeta) -> bool;

    /// What becomes of a CONNECT request that came over TLS. The relay is no proxy unless this
    /// says so.
    fn connect(&self, _request: &Request<()>, _conn: &ConnMeta) -> Connect {
        Connect::Off
    }
}

/// What becomes of a CONNECT request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connect {
    /// This is no proxy.
    Off,
    /// It is one, and does not lead there.
    Refused,
    /// It leads to this host and port: the relay connects, and carries bytes both ways.
    To(String),
}

/// No pages of one's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoExtra;

impl Extra for NoExtra {
    fn respond(&self, _: &Request<()>, _: &ConnMeta) -> Option<Response<Bytes>> {
        None
    }

    fn may_debug(&self, _: &Request<()>, _: &ConnMeta) -> bool {
        false
    }
}

/// How the pages answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PagesConfig {
    /// The relay's name, to which port 80 redirects. Where it is empty, port 80 redirects to
    /// whatever host was asked for.
    pub hostname: String,
    /// Whether clients may connect at all.
    pub serves_derp: bool,
    /// What is served at `/`.
    pub home: Home,
    /// What is served where nothing is.
    pub unknown_paths: UnknownPaths,
}

impl Default for PagesConfig {
    fn default() -> Self {
        Self {
            hostname: String::new(),
            serves_derp: true,
            home: Home::default(),
            unknown_paths: UnknownPaths::default(),
        }
    }
}

/// What is served where nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownPaths {
    /// The home page, with status 200: derper's way.
    #[default]
    Home,
    /// An error, with status 404.
    NotFound,
}

/// The relay's pages.
#[derive(Debug)]
pub struct Pages {
    config: RwLock<Arc<PagesConfig>>,
    bootstrap_dns: RwLock<Bytes>,
    extra: Box<dyn Extra>,
    /// Room for those who use the relay as a proxy.
    tunnels: Semaphore,
}

/// How many connections lead through the relay to elsewhere, at most.
const MAX_TUNNELS: usize = 1024;

impl Default for Pages {
    fn default() -> Self {
        Self::new(PagesConfig::default(), NoExtra)
    }
}

impl Pages {
    /// Pages as `config` says, with `extra` before them.
    #[must_use]
    pub fn new(config: PagesConfig, extra: impl Extra) -> Self {
        Self {
            config: RwLock::new(Arc::new(config)),
            bootstrap_dns: RwLock::default(),
            extra: Box::new(extra),
            tunnels: Semaphore::new(MAX_TUNNELS),
        }
    }

    /// What becomes of a CONNECT request, which must have come over TLS (`cmd/derper/ace.go`).
    pub(super) fn connect(&self, request: &Request<()>, conn: &ConnMeta) -> Connect {
        match conn.tls {
            Some(_) => self.extra.connect(request, conn),
            None => Connect::Off,
        }
    }

    /// A place for a connection to elsewhere, for as long as it is held.
    pub(crate) fn tunnel_place(&self) -> Option<SemaphorePermit<'_>> {
        self.tunnels.try_acquire().ok()
    }

    /// Whether clients may connect.
    #[must_use]
    pub fn serves_derp(&self) -> bool {
        self.config().serves_derp
    }

    /// Answers as `config` says from now on.
    pub fn set_config(&self, config: PagesConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    fn config(&self) -> Arc<PagesConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers `/bootstrap-dns` with this JSON document from now on.
    pub fn set_bootstrap_dns(&self, document: Bytes) {
        *self
            .bootstrap_dns
            .write()
            .unwrap_or_else(PoisonError::into_inner) = document;
    }

    /// Answers a request on the listener that serves DERP.
    #[must_use]
    pub fn respond(&self, request: &Request<()>, conn: &ConnMeta) -> Response<Bytes> {
        if request.method() == Method::CONNECT {
            return text(
                StatusCode::FORBIDDEN,
                match self.connect(request, conn) {
                    Connect::Refused => "Invalid CONNECT target\n",
                    // Where it leads elsewhere, it has not come so far; see `serve_pages`.
                    Connect::Off | Connect::To(_) => "CONNECT not enabled\n",
                },
            );
        }
        match request.uri().path() {
            DERP_PATH => return self.derp_without_upgrade(),
            PROBE_PATH | LATENCY_CHECK_PATH => return probe(request.method()),
            GENERATE_204_PATH => return generate_204(request),
            _ => {}
        }
        if let Some(response) = self.extra.respond(request, conn) {
            return response;
        }
        match request.uri().path() {
            BOOTSTRAP_DNS_PATH => self.bootstrap_dns(),
            ROBOTS_TXT_PATH => for_browsers(text(StatusCode::OK, "User-agent: *\nDisallow: /\n")),
            path if path == "/" || self.config().unknown_paths == UnknownPaths::Home => {
                self.home(request, conn)
            }
            _ => for_browsers(text(StatusCode::NOT_FOUND, "not found\n")),
        }
    }

    /// Answers a request on port 80, beside a listener for TLS: nothing but what must work
    /// without TLS, and a redirect for everything else.
    #[must_use]
    pub fn respond_on_port_80(&self, request: &Request<()>, conn: &ConnMeta) -> Response<Bytes> {
        let path = request.uri().path();
        if path == GENERATE_204_PATH {
            return generate_204(request);
        }
        let is_extra = path.starts_with(DEBUG_PATH) || path.starts_with(ACME_CHALLENGE_PATH);
        if is_extra && let Some(response) = self.extra.respond(request, conn) {
            return response;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::BAD_REQUEST, "Use HTTPS\n");
        }
        let config = self.config();
        let Some(host) = redirect_host(&config, request) else {
            return text(StatusCode::BAD_REQUEST, "no host to redirect to\n");
        };
        let target = match request.uri().path_and_query() {
            Some(target) if target == "/" && self.extra.may_debug(request, conn) => "/debug/",
            Some(target) => target.as_str(),
            None => "/",
        };
        match HeaderValue::try_from(format!("https://{host}{target}")) {
            Ok(location) => redirect(location),
            Err(_) => text(StatusCode::BAD_REQUEST, "no such address\n"),
        }
    }

    fn derp_without_upgrade(&self) -> Response<Bytes> {
        if !self.config().serves_derp {
            return text(StatusCode::NOT_FOUND, "derp server disabled\n");
        }
        upgrade_required()
    }

    fn bootstrap_dns(&self) -> Response<Bytes> {
        let document = self
            .bootstrap_dns
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for_browsers(page(StatusCode::OK, JSON, document))
    }

    fn home(&self, request: &Request<()>, conn: &ConnMeta) -> Response<Bytes> {
        let config = self.config();
        for_browsers(match &config.home {
            Home::Default => {
                let home = HomePage {
                    hostname: &config.hostname,
                    is_derp_enabled: config.serves_derp,
                    has_debug_link: self.extra.may_debug(request, conn),
                };
                page(StatusCode::OK, HTML, home.render())
            }
            Home::Blank => page(StatusCode::OK, HTML, ""),
            Home::Redirect(url) => redirect(url.clone()),
        })
    }
}

fn redirect_host<'a>(config: &'a PagesConfig, request: &'a Request<()>) -> Option<&'a str> {
    if !config.hostname.is_empty() {
        return Some(&config.hostname);
    }
    let host = request.headers().get(HOST)?.to_str().ok()?;
    // Nothing by which the rest of the URL could be made part of the host, or the other way
    // round.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    (!host.is_empty() && host.bytes().all(is_plain)).then_some(host)
}

/// Tells somebody who asked for DERP without an upgrade what is missing.
pub(super) fn upgrade_required() -> Response<Bytes> {
    let mut response = text(
        StatusCode::UPGRADE_REQUIRED,
        "DERP requires connection upgrade\n",
    );
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static(UPGRADE_DERP));
    // RFC 9110, 7.8: whoever sends `Upgrade` names it here as well.
    headers.insert(CONNECTION, HeaderValue::from_static("close, upgrade"));
    response
}

/// Answers whoever measures how long an answer takes.
pub(super) fn probe(method: &Method) -> Response<Bytes> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "bogus probe method\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(Bytes::new());
    response
        .headers_mut()
        .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Answers whoever looks for a captive portal, which could answer 204 as well, but would not
/// repeat a challenge.
fn generate_204(request: &Request<()>) -> Response<Bytes> {
    const NEVER_CACHE: &str = "no-cache, no-store, must-revalidate, no-transform, max-age=0";
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(NEVER_CACHE));
    let challenge = request
        .headers()
        .get(CHALLENGE_HEADER)
        .map(HeaderValue::as_bytes);
    if let Some(challenge) = challenge.filter(|challenge| is_valid_challenge(challenge)) {
        let answer = HeaderValue::from_bytes(&[b"response ", challenge].concat())
            .expect("a valid challenge is plain ASCII");
        headers.insert(RESPONSE_HEADER, answer);
    }
    response
}

/// A page after which the connection is closed: nobody asks for a second one soon.
fn page(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CONNECTION, CLOSE);
    response
}

/// A line of text that no browser takes for anything else.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = page(status, TEXT, body);
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn redirect(location: HeaderValue) -> Response<Bytes> {
    let mut response = page(StatusCode::FOUND, TEXT, "Found\n");
    response.headers_mut().insert(LOCATION, location);
    response
}

fn for_browsers(mut response: Response<Bytes>) -> Response<Bytes> {
    for (name, value) in BROWSER_HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
