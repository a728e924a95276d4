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
use tokio_io_timeout::TimeoutStream;

/// How many connections there are at most; others wait.
const MAX_CONNECTIONS: usize = 64;
/// How long the other side may take no byte of an answer.
const WRITE_STALL: Duration = Duration::from_secs(30);
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

/// Answers the requests of one connection until it ends. Whoever takes none of an answer for half a
/// minute is left.
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
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_STALL));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_LEN)
        .serve_connection(TokioIo::new(Box::pin(stream)), answer)
        .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_that_do_not_read_make_room_for_those_that_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // More than sockets take that nobody reads from.
        let large = Bytes::from(vec![0; 16 << 20]);
        let respond = move |request: Request<()>, _| {
            let large = large.clone();
            async move {
                Response::new(match request.uri().path() {
                    "/healthz" => Bytes::from_static(b"ok"),
                    _ => large,
                })
            }
        };
        let serving = tokio::spawn(async move { match serve(listener, respond).await {} });
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream
        };
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(ask("/large").await);
        }
        let mut answer = String::new();
        let mut patient = ask("/healthz").await;
        let answered = timeout(2 * WRITE_STALL, patient.read_to_string(&mut answer));
        answered.await.expect("there is room").unwrap();
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        serving.abort();
    }
}
