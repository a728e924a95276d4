//! HTTP for whoever runs a program: a listener of its own for metrics, health and pages, where only
//! operators are. What is on the pages is the program's affair.

use std::convert::Infallible;
use std::net::SocketAddr;
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

/// How many connections there are at most; others wait.
const MAX_CONNECTIONS: usize = 64;
/// How long a request may take to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a request is read; hyper takes no less.
const MAX_HEAD_LEN: usize = 8 << 10;
/// How long to wait after the system had no socket left.
pub const BREATH: Duration = Duration::from_millis(100);

/// Answers requests for ever: `respond` is given each with the address that it comes from. Dropping
/// the future ends all connections.
pub async fn serve<R>(
    listener: TcpListener,
    respond: impl Fn(Request<()>, SocketAddr) -> R + Clone + Send + Sync + 'static,
) -> Infallible
where
    R: Future<Output = Response<Bytes>> + Send + 'static,
{
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
        let respond = respond.clone();
        connections.spawn(async move {
            if let Err(error) = converse(stream, |request| respond(request, from)).await {
                tracing::debug!(%from, %error, "an operator's connection failed");
            }
            drop(place);
        });
    }
}

/// Answers the requests of one connection until it ends.
///
/// # Errors
/// The other side does not speak HTTP, or went away.
pub async fn converse<S, R>(stream: S, respond: impl Fn(Request<()>) -> R) -> hyper::Result<()>
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
