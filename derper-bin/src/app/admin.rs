//! The admin socket: a Unix socket over which whoever runs the relay looks inside, closes
//! connections, and has the configuration read again. HTTP/1.1, answers in JSON.
//!
//! The file's mode says who may; nothing else is asked, and no browser can be led here by a page.
//! That is why things are changed here alone, and not over the listener for operators.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use derp_ops::operators::{BREATH, converse};
use derp_proto::NodePublic;
use http::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::look_inside::look;
use super::numbers::Numbers;
use super::pages::{JSON, response};
use crate::clock;
use crate::problem::Mistakes;
use crate::start::Start;
use crate::{service_manager, signals};

/// How many connections there are at most; others wait.
const MAX_CONNECTIONS: usize = 16;

/// A configuration that somebody asked to have read, and who waits to hear how that went.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) news: signals::Reload,
    pub(super) done: oneshot::Sender<Result<(), Mistakes>>,
}

/// What the socket's requests come to.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) numbers: Arc<Numbers>,
    /// What the relay was started with; without it, nothing can be read again.
    pub(super) start: Option<Start>,
    pub(super) reloads: mpsc::Sender<Asked>,
}

/// Serves the socket for ever. Dropping the future ends all connections.
pub(super) async fn serve(listener: UnixListener, admin: Arc<Admin>) -> Infallible {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            // It is never closed.
            return std::future::pending().await;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let admin = Arc::clone(&admin);
        connections.spawn(async move {
            let respond = move |request| {
                let admin = Arc::clone(&admin);
                async move { admin.respond(&request).await }
            };
            if let Err(error) = converse(stream, respond).await {
                tracing::debug!(%error, "a connection of the admin socket failed");
            }
            drop(place);
        });
    }
}

impl Admin {
    async fn respond(&self, request: &Request<()>) -> Response<Bytes> {
        let path = request.uri().path();
        let closed = path
            .strip_prefix("/clients/")
            .and_then(|rest| rest.strip_suffix("/close"));
        let (wanted, is_known) = match path {
            "/status" | "/clients" => (Method::GET, true),
            "/reload" => (Method::POST, true),
            _ => (Method::POST, closed.is_some()),
        };
        if !is_known {
            let paths = "there are GET /status, GET /clients, POST /clients/KEY/close and \
                         POST /reload";
            return failure(StatusCode::NOT_FOUND, paths);
        }
        if request.method() != wanted {
            let what = format!("{path} wants {wanted}");
            return failure(StatusCode::METHOD_NOT_ALLOWED, &what);
        }
        match closed {
            Some(key) => self.close(key),
            None if path == "/reload" => self.reload().await,
            None => self.look(path),
        }
    }

    fn look(&self, path: &str) -> Response<Bytes> {
        let Some(look) = look(&self.numbers, clock::wall()) else {
            return stopping();
        };
        if path == "/clients" {
            return answer(StatusCode::OK, &json!({ "clients": look.clients }));
        }
        answer(StatusCode::OK, &look)
    }

    fn close(&self, key: &str) -> Response<Bytes> {
        let Ok(key) = key.parse::<NodePublic>() else {
            let what = "a key is written nodekey: and 64 hexadecimal digits";
            return failure(StatusCode::BAD_REQUEST, what);
        };
        let Some(server) = self.numbers.server() else {
            return stopping();
        };
        match server.close_client(&key, "an operator said so") {
            0 => failure(
                StatusCode::NOT_FOUND,
                "no client with this key is connected",
            ),
            closed => answer(StatusCode::OK, &json!({ "closed": closed })),
        }
    }

    async fn reload(&self) -> Response<Bytes> {
        let Some(start) = self.start.clone() else {
            let what = "this relay was not started from a command line";
            return failure(StatusCode::NOT_IMPLEMENTED, what);
        };
        service_manager::reloading();
        // Files are read, and names may be looked up.
        let read = tokio::task::spawn_blocking(move || signals::read(&start));
        let Ok(news) = read.await else {
            service_manager::ready();
            let what = "the configuration could not be read";
            return failure(StatusCode::INTERNAL_SERVER_ERROR, what);
        };
        let (done, outcome) = oneshot::channel();
        if self.reloads.send(Asked { news, done }).await.is_err() {
            return stopping();
        }
        match outcome.await {
            Ok(Ok(())) => answer(StatusCode::OK, &json!({ "reloaded": true })),
            Ok(Err(mistakes)) => {
                let mistakes: Vec<String> = mistakes.iter().collect();
                let what = json!({
                    "error": "the configuration has mistakes, and the old one holds",
                    "mistakes": mistakes,
                });
                answer(StatusCode::UNPROCESSABLE_ENTITY, &what)
            }
            Err(_) => stopping(),
        }
    }
}

fn stopping() -> Response<Bytes> {
    failure(StatusCode::SERVICE_UNAVAILABLE, "the relay is stopping")
}

fn failure(status: StatusCode, what: &str) -> Response<Bytes> {
    answer(status, &json!({ "error": what }))
}

fn answer(status: StatusCode, what: &impl Serialize) -> Response<Bytes> {
    response(status, JSON, json_text(what))
}

/// A line of JSON.
pub(super) fn json_text(what: &impl Serialize) -> String {
    let mut text = serde_json::to_string(what).expect("texts and numbers are JSON");
    text.push('\n');
    text
}
