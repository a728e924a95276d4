//! A listener of its own for whoever runs the relay: metrics, health, and the pages of `/debug/`.
//!
//! Nothing of the relay itself is served here, so that it can listen where only operators are.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::pages::OperatorPages;

/// How many connections there are at most; others wait.
const MAX_CONNECTIONS: usize = 64;
/// How long a request may take to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a request is read; hyper takes no less.
const MAX_HEAD_LEN: usize = 8 << 10;
/// How long to wait after the system had no socket left.
const BREATH: Duration = Duration::from_millis(100);

/// Serves the pages for ever. Dropping the future ends all connections.
pub(super) async fn serve(listener: TcpListener, pages: Arc<OperatorPages>) -> Infallible {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            // It is never closed.
            return std::future::pending().await;
        };
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let pages = Arc::clone(&pages);
        connections.spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                // What follows the head is not read.
                let request = request.map(drop);
                let response = pages.for_operators(&request, from).map(Full::new);
                std::future::ready(Ok::<Response<Full<Bytes>>, Infallible>(response))
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD_LEN)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = served.await {
                tracing::debug!(%from, %error, "an operator's connection failed");
            }
            drop(place);
        });
    }
}
