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
use tokio::io::{AsyncRead, AsyncWrite};
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
pub(super) const BREATH: Duration = Duration::from_millis(100);

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
            let respond = move |request| std::future::ready(pages.for_operators(&request, from));
            if let Err(error) = converse(stream, respond).await {
                tracing::debug!(%from, %error, "an operator's connection failed");
            }
            drop(place);
        });
    }
}

/// Answers the requests of one connection until it ends.
pub(super) async fn converse<S, R>(
    stream: S,
    respond: impl Fn(Request<()>) -> R,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: Future<Output = Response<Bytes>>,
{
    let answer = service_fn(|request: Request<Incoming>| {
        // What follows the head is not read.
        let response = respond(request.map(drop));
        async { Ok::<_, Infallible>(response.await.map(Full::new)) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_LEN)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}
