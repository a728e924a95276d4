//! What the service answers over HTTP: the reference's paths (`cmd/derpprobe/derpprobe.go`), and
//! ours. The pages under `/debug/` are for those whom [`DebugAccess`] lets in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use derp_ops::debug_access::{DebugAccess, DebugRequest};
use derp_ops::exposition;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use super::board::Board;
use super::fleet::{Fleet, Probe};
use super::go_json::{ProbeInfo, Ran};
use super::metrics::{self, Whole};
use super::{page, status};
use crate::clock;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JSON: &str = "application/json";

/// What keeps browsers from doing more with these pages than to show them.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (X_FRAME_OPTIONS, "DENY"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// The pages below `/debug/`: path, what the index says of it.
const DEBUG_PAGES: [(&str, &str); 3] = [
    ("/debug/varz", "Metrics (Prometheus)"),
    ("/debug/probe-run", "Run a probe: ?name=NAME"),
    ("/debug/probe-all", "Run all configured probes"),
];

/// What is served.
#[derive(Debug)]
pub struct Site {
    pub(super) fleet: Arc<Fleet>,
    pub(super) board: Arc<Board>,
    pub(super) debug: DebugAccess,
    /// Where the map is, for people.
    pub(super) source: String,
    pub(super) started: SystemTime,
    /// Numbers of what is told to others.
    pub(super) posts: Arc<super::webhook::Posts>,
    pub(super) news: super::news::News,
}

impl Site {
    /// Answers a request that comes from `from`.
    pub async fn respond(&self, request: Request<()>, from: SocketAddr) -> Response<Bytes> {
        let path = request.uri().path();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n");
        }
        match path {
            "/healthz" => response(StatusCode::OK, TEXT, "ok\n"),
            "/metrics" => self.metrics(),
            "/status.json" => self.status_json(),
            "/style.css" => response(StatusCode::OK, CSS, page::STYLE),
            path if path.starts_with("/debug/") => self.debug(&request, from).await,
            path => self.page(path),
        }
    }

    /// The overview or a region's page; the reference shows its one page for whatever is asked.
    fn page(&self, path: &str) -> Response<Bytes> {
        let map_age = self.fleet.map_age();
        let html = self.board.look(|records| {
            let view = page::View {
                records,
                now: clock::wall(),
                started: self.started,
                source: &self.source,
                map_age,
            };
            match path.strip_prefix("/region/") {
                Some(code) => page::region_html(&view, &decoded(code)),
                None => Some(page::html(&view)),
            }
        });
        match html {
            Some(html) => response(StatusCode::OK, HTML, html),
            None => response(StatusCode::NOT_FOUND, TEXT, "there is no such region\n"),
        }
    }

    fn status_json(&self) -> Response<Bytes> {
        let map_age = self.fleet.map_age();
        let (now, started) = (clock::wall(), self.started);
        let status = self
            .board
            .look(|records| status::json(records, now, started, &self.source, map_age));
        response(StatusCode::OK, JSON, format!("{status:#}\n"))
    }

    fn metrics(&self) -> Response<Bytes> {
        use std::sync::atomic::Ordering::Relaxed;
        let posts = &self.posts;
        let whole = Whole {
            started: self.started,
            map_age: self.fleet.map_age(),
            posts: (
                posts.good.load(Relaxed),
                posts.bad.load(Relaxed),
                self.news.lost(),
            ),
        };
        let text = self
            .board
            .look(|records| metrics::text(records.iter(), &whole));
        response(StatusCode::OK, exposition::CONTENT_TYPE, text)
    }

    async fn debug(&self, request: &Request<()>, from: SocketAddr) -> Response<Bytes> {
        let query = query(request);
        let asked = DebugRequest {
            remote: from.ip(),
            is_get: request.method() == Method::GET,
            debug_key: query.first("debugkey"),
            forwarded: request.headers().contains_key("x-forwarded-for"),
        };
        if !self.debug.allows(&asked) {
            return response(StatusCode::FORBIDDEN, TEXT, "debug access denied\n");
        }
        match request.uri().path() {
            "/debug/" => response(StatusCode::OK, HTML, index()),
            "/debug/varz" => self.metrics(),
            "/debug/probe-run" => {
                let wants_json = request.headers().get(ACCEPT);
                let wants_json = wants_json.is_some_and(|value| value == JSON);
                self.run_one(query.first("name"), wants_json).await
            }
            "/debug/probe-all" => self.run_all(&query).await,
            _ => response(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
        }
    }

    async fn run_one(&self, name: Option<&str>, wants_json: bool) -> Response<Bytes> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return response(StatusCode::BAD_REQUEST, TEXT, "missing name parameter\n");
        };
        let Some(probe) = self.fleet.find(name) else {
            let words = format!("unknown probe {name:?}\n");
            return response(StatusCode::NOT_FOUND, TEXT, words);
        };
        let Some(ran) = run(&self.fleet, &self.board, &probe).await else {
            let words = "the probe is busy, or the map does not ask for it any more\n";
            return response(StatusCode::FAILED_DEPENDENCY, TEXT, words);
        };
        let status = status_of(ran.probe_info.is_good());
        if wants_json {
            return json_response(status, &ran);
        }
        response(status, TEXT, ran.probe_info.words())
    }

    async fn run_all(&self, query: &Query) -> Response<Bytes> {
        let mut running = JoinSet::new();
        for probe in self.fleet.probes() {
            if query.has("exclude", probe.name()) {
                continue;
            }
            let (fleet, board) = (Arc::clone(&self.fleet), Arc::clone(&self.board));
            running.spawn(async move {
                let ran = run(&fleet, &board, &probe).await;
                (probe.name().to_owned(), ran)
            });
        }
        let ran: BTreeMap<_, _> = running.join_all().await.into_iter().collect();
        let is_good = |ran: &Option<Ran>| ran.as_ref().is_some_and(|ran| ran.probe_info.is_good());
        let status = status_of(ran.values().all(is_good));
        json_response(status, &json!({ "Results": ran }))
    }
}

/// Runs a probe; `None` where it does not come to run.
async fn run(fleet: &Arc<Fleet>, board: &Board, probe: &Arc<Probe>) -> Option<Ran> {
    let info = || board.look_at(probe.name(), |record| ProbeInfo::of(probe.name(), record));
    let before = info();
    fleet.run(probe, probe.interval()).await.ok()?;
    Some(info()?.after(before.as_ref()))
}

const fn status_of(is_good: bool) -> StatusCode {
    if is_good {
        StatusCode::OK
    } else {
        StatusCode::FAILED_DEPENDENCY
    }
}

fn index() -> String {
    let mut page = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
                    <title>DERP prober debug</title></head>\n<body>\n<h1>DERP prober debug</h1>\n\
                    <ul>\n"
        .to_owned();
    for (path, what) in DEBUG_PAGES {
        page.push_str(&format!(
            "<li><a href=\"{path}\">{path}</a> ({what})</li>\n"
        ));
    }
    page.push_str("</ul>\n</body>\n</html>\n");
    page
}

fn json_response(status: StatusCode, value: &impl serde::Serialize) -> Response<Bytes> {
    // Maps with text for keys; there is nothing that could fail.
    let text = serde_json::to_string(value).unwrap_or_default();
    response(status, JSON, text + "\n")
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A request's query, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn first(&self, name: &str) -> Option<&str> {
        let mut all = self.0.iter();
        all.find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str, value: &str) -> bool {
        let mut all = self.0.iter();
        all.any(|(known, found)| known == name && found == value)
    }
}

fn query(request: &Request<()>) -> Query {
    let text = request.uri().query().unwrap_or_default();
    let pairs = form_urlencoded::parse(text.as_bytes());
    Query(pairs.into_owned().collect())
}

/// A piece of a path, decoded.
fn decoded(piece: &str) -> String {
    percent_encoding::percent_decode_str(piece)
        .decode_utf8_lossy()
        .into_owned()
}
