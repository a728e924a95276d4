//! The pages for whoever runs the relay: `/debug/` and what is below it.
//!
//! Who may see them is decided by [`DebugAccess`], for every request anew. Profiling pages of the
//! reference's runtime are not here, for there is no such runtime.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use bytes::Bytes;
use derp_ops::debug_access::{DebugAccess, DebugRequest};
use derp_ops::exposition;
use derp_ops::goflag::GoDuration;
use derp_proto::http::BOOTSTRAP_DNS_PATH;
use derp_server::{Connect, Extra};
use derp_verify::{ConnMeta, Tailscaled};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, LOCATION,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::runtime::Handle;

use super::admin::json_text;
use super::clients_page;
use super::go_verify;
use super::look_inside::look;
use super::numbers::Numbers;
use super::readiness::Readiness;
use super::vars;
use crate::ace;
use crate::args::PROGRAM;
use crate::bootstrap_dns::BootstrapDns;
use crate::clock;
use crate::config::Config;
use crate::tls::challenges::Challenges;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// What keeps browsers from doing more with these pages than to show them.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        STRICT_TRANSPORT_SECURITY,
        "max-age=63072000; includeSubDomains",
    ),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; \
         block-all-mixed-content; object-src 'none'; style-src 'self' 'unsafe-inline'",
    ),
    (X_FRAME_OPTIONS, "DENY"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CACHE_CONTROL, "no-store"),
];

/// Who is connected. It is on the listener for operators alone: behind a proxy that does not say
/// for whom it asks, everybody seems to be on this machine, and this is about other people.
const CLIENTS: (&str, &str) = ("/debug/clients", "Clients");

/// The pages below `/debug/`: path, what the index says of it.
const PAGES: [(&str, &str); 3] = [
    ("/debug/varz", "Metrics (Prometheus)"),
    ("/debug/vars", "Metrics (JSON, as Go's expvar)"),
    ("/debug/check", "Consistency check"),
];

/// Answers whoever runs the relay.
#[derive(Debug)]
pub(super) struct OperatorPages {
    access: RwLock<DebugAccess>,
    readiness: Arc<Readiness>,
    numbers: Arc<Numbers>,
    bootstrap_dns: Arc<BootstrapDns>,
    challenges: Arc<Challenges>,
    /// What `-verify-clients` asks. Locked while it is asked whether it answers.
    tailscaled: Option<Mutex<Tailscaled>>,
    host: String,
    has_mesh_key: bool,
    /// Whether CONNECT requests lead anywhere.
    is_ace: AtomicBool,
    /// Says more to whoever is refused: there are no strangers in development.
    is_dev: bool,
}

impl OperatorPages {
    pub(super) fn new(
        config: &Config,
        numbers: Arc<Numbers>,
        readiness: Arc<Readiness>,
        bootstrap_dns: Arc<BootstrapDns>,
        challenges: Arc<Challenges>,
    ) -> Self {
        Self {
            access: RwLock::new(config.debug.clone()),
            readiness,
            numbers,
            bootstrap_dns,
            challenges,
            tailscaled: go_verify::tailscaled(&config.admission.go).map(Mutex::new),
            host: config.host.to_string(),
            has_mesh_key: config.mesh.key.is_some(),
            is_ace: AtomicBool::new(config.pages.ace),
            is_dev: config.dev,
        }
    }

    /// Decides by these rules from now on who may see `/debug/`, and whether CONNECT requests lead
    /// anywhere.
    pub(super) fn set_rules(&self, access: DebugAccess, is_ace: bool) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = access;
        self.is_ace.store(is_ace, Ordering::Relaxed);
    }

    fn allows(&self, request: &DebugRequest<'_>) -> bool {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        access.allows(request)
    }

    /// Answers on the listener that is for operators alone. Whoever comes from `from` reaches it,
    /// and so may see metrics and health; the pages of `/debug/` keep their rules.
    pub(super) fn for_operators(&self, request: &Request<()>, from: SocketAddr) -> Response<Bytes> {
        let path = request.uri().path();
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            _ if !is_read => response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n"),
            "/metrics" => self.page("/debug/varz"),
            "/healthz" => response(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => self.ready(),
            "/" => response(
                StatusCode::OK,
                TEXT,
                "/metrics\n/healthz\n/readyz\n/debug/\n",
            ),
            path if path.starts_with("/debug/") => {
                let key = query(request, "debugkey");
                let asked = DebugRequest {
                    remote: from.ip(),
                    is_get: request.method() == Method::GET,
                    debug_key: key.as_deref(),
                    forwarded: request.headers().contains_key("x-forwarded-for"),
                };
                if !self.allows(&asked) {
                    return response(StatusCode::FORBIDDEN, TEXT, "debug access denied\n");
                }
                match path {
                    "/debug/" => response(StatusCode::OK, HTML, self.index(&[CLIENTS])),
                    path if path == CLIENTS.0 => self.clients(request),
                    path => self.page(path),
                }
            }
            _ => response(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
        }
    }

    fn ready(&self) -> Response<Bytes> {
        let problems = self.readiness.problems(&self.numbers, clock::wall());
        if problems.is_empty() {
            return response(StatusCode::OK, TEXT, "ready\n");
        }
        let text = problems.join("\n") + "\n";
        response(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
    }

    fn page(&self, path: &str) -> Response<Bytes> {
        match path {
            "/debug/" => response(StatusCode::OK, HTML, self.index(&[])),
            "/debug/varz" => response(
                StatusCode::OK,
                exposition::CONTENT_TYPE,
                self.numbers.text(clock::wall()),
            ),
            "/debug/vars" => {
                let vars = vars::json(&self.numbers.text(clock::wall()));
                response(StatusCode::OK, JSON, json_text(&vars))
            }
            "/debug/check" => self.check(),
            _ => response(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
        }
    }

    fn clients(&self, request: &Request<()>) -> Response<Bytes> {
        let Some(look) = look(&self.numbers, clock::wall()) else {
            return response(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "the relay is stopping\n",
            );
        };
        match query(request, "format").as_deref() {
            Some("json") => response(StatusCode::OK, JSON, json_text(&look)),
            _ => response(StatusCode::OK, HTML, clients_page::html(&look)),
        }
    }

    /// Counts clients in two ways, and asks the tailscaled by which they are verified about itself
    /// (`ConsistencyCheck` of `derp/derpserver/derpserver.go`).
    fn check(&self) -> Response<Bytes> {
        let counted = match self.numbers.server().map(|server| server.check()) {
            Some(Ok(())) => None,
            Some(Err(what)) => Some(what),
            None => Some("the relay is stopping".to_owned()),
        };
        let problems: Vec<String> = counted.into_iter().chain(self.ask_tailscaled()).collect();
        if problems.is_empty() {
            return response(StatusCode::OK, TEXT, "derp.Server ConsistencyCheck okay\n");
        }
        let text = problems.join(", ") + "\n";
        response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
    }

    fn ask_tailscaled(&self) -> Option<String> {
        let tailscaled = match self.tailscaled.as_ref()?.try_lock() {
            Ok(tailscaled) => tailscaled,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Some("tailscaled is being asked for another check".to_owned());
            }
        };
        // All other pages answer at once. This one waits at most once at a time, and what else the
        // thread has to do goes on elsewhere meanwhile.
        let ask = || Handle::current().block_on(go_verify::problem(&tailscaled));
        tokio::task::block_in_place(ask)
    }

    fn index(&self, more: &[(&str, &str)]) -> String {
        let uptime = Duration::from_secs(self.numbers.uptime(clock::wall()).as_secs());
        let facts = [
            ("Uptime", GoDuration::from(uptime).to_string()),
            ("Version", PROGRAM.to_string()),
            ("TLS hostname", self.host.clone()),
            ("Mesh key", self.has_mesh_key.to_string()),
        ];
        let mut page = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
                        <title>DERP debug</title></head>\n<body>\n<h1>DERP debug</h1>\n<ul>\n"
            .to_owned();
        for (name, value) in facts {
            page.push_str(&format!("<li><b>{name}:</b> {value}</li>\n"));
        }
        for (path, what) in PAGES.iter().chain(more) {
            page.push_str(&format!(
                "<li><a href=\"{path}\">{path}</a> ({what})</li>\n"
            ));
        }
        page.push_str("</ul>\n</body>\n</html>\n");
        page
    }
}

/// The pages, which the listener for operators has as well.
#[derive(Debug)]
pub(super) struct Public(pub(super) Arc<OperatorPages>);

impl Extra for Public {
    fn respond(&self, request: &Request<()>, conn: &ConnMeta) -> Option<Response<Bytes>> {
        self.0.respond(request, conn)
    }

    fn may_debug(&self, request: &Request<()>, conn: &ConnMeta) -> bool {
        self.0.may_debug(request, conn)
    }

    fn connect(&self, request: &Request<()>, _: &ConnMeta) -> Connect {
        if !self.0.is_ace.load(Ordering::Relaxed) {
            return Connect::Off;
        }
        let target = request.uri().authority();
        ace::connect(target.map_or("", |target| target.as_str()))
    }
}

impl OperatorPages {
    fn respond(&self, request: &Request<()>, conn: &ConnMeta) -> Option<Response<Bytes>> {
        let path = request.uri().path();
        if path == BOOTSTRAP_DNS_PATH {
            let (name, from) = (query(request, "q"), conn.client_addr());
            let from = from.map(|address| address.ip());
            let answer = self.bootstrap_dns.answer(name.as_deref(), from)?;
            return Some(for_one(answer));
        }
        if let Some(content) = self.challenges.page(path) {
            return Some(response(StatusCode::OK, TEXT, content));
        }
        if path == "/debug" {
            let mut redirect = response(StatusCode::TEMPORARY_REDIRECT, TEXT, "");
            redirect
                .headers_mut()
                .insert(LOCATION, HeaderValue::from_static("/debug/"));
            return Some(redirect);
        }
        if !path.starts_with("/debug/") {
            return None;
        }
        if self.may_debug(request, conn) {
            return Some(self.page(path));
        }
        let remote = conn.client_addr().map(|addr| addr.ip());
        let denied = match remote {
            Some(remote) if self.is_dev => format!("debug access denied for {remote}\n"),
            _ => "debug access denied\n".to_owned(),
        };
        Some(response(StatusCode::FORBIDDEN, TEXT, denied))
    }

    fn may_debug(&self, request: &Request<()>, conn: &ConnMeta) -> bool {
        // Without an address, as behind a Unix socket, there is nothing to trust.
        let Some(remote) = conn.client_addr() else {
            return false;
        };
        let key = query(request, "debugkey");
        self.allows(&DebugRequest {
            remote: remote.ip(),
            is_get: request.method() == Method::GET,
            debug_key: key.as_deref(),
            // What a trusted proxy says is in the address already.
            forwarded: conn.header_peer.is_none()
                && request.headers().contains_key("x-forwarded-for"),
        })
    }
}

/// An answer that is for whoever asked and nobody else.
fn for_one(document: Vec<u8>) -> Response<Bytes> {
    let mut answer = response(StatusCode::OK, JSON, document);
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

pub(super) fn response(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The first value of a query parameter, decoded.
fn query(request: &Request<()>, name: &str) -> Option<String> {
    let query = request.uri().query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, value) = pairs.find(|(key, _)| key == name)?;
    Some(value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_decoded() {
        let get = |uri: &str, name| query(&Request::get(uri).body(()).unwrap(), name);
        assert_eq!(
            get("/x?q=a.example.com", "q").as_deref(),
            Some("a.example.com")
        );
        assert_eq!(get("/x?a=1&q=a%2Eb+c&q=2", "q").as_deref(), Some("a.b c"));
        for uri in ["/x", "/x?", "/x?qq=1"] {
            assert_eq!(get(uri, "q"), None, "{uri}");
        }
    }
}
