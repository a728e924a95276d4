//! Serves pages over a connection, until it ends or asks to become a DERP client's after all.

use std::error::Error as _;
use std::future::{poll_fn, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use derp_verify::ConnMeta;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::guarded::Guarded;
use super::head::{self, HeadError, MAX_HEAD_LEN, MAX_HEADERS, Route, Upgrade};
use super::line_ends::FirstBad;
use super::pages::{Connect, Pages, text};
use crate::forwarded::TrustedProxies;
use crate::tls_versions::TlsVersions;

/// How long the head of a request after the first may take, and how long a connection may be idle
/// before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How many requests are answered on one connection.
const MAX_REQUESTS: u32 = 100;

/// How long, and for how many bytes, the end of a connection waits for what the client still
/// sends. Closed earlier, the client might never see the response.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: u64 = 64 * 1024;

/// A connection that asked to become something else: for an upgrade after it had been served
/// pages, as a connection from a proxy's pool may, or for a tunnel. Nothing has been answered yet.
#[derive(Debug)]
pub(crate) struct Asked<IO> {
    pub(crate) stream: IO,
    /// What came behind the request.
    pub(crate) received: Bytes,
    pub(crate) wanted: Wanted,
    /// Where the request came from.
    pub(crate) conn: ConnMeta,
}

/// What a connection is to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A DERP client's.
    Upgrade(Upgrade),
    /// One to this host and port.
    Tunnel(String),
}

/// Serves pages on `stream`, of which `already_read` was read, and ends it; or returns it where
/// it is to become something else. After an answer it ends where `keeps` says no.
///
/// Dropping the future breaks the connection.
pub(crate) async fn serve_pages<IO: AsyncRead + AsyncWrite + Unpin>(
    stream: IO,
    already_read: Bytes,
    pages: Arc<Pages>,
    conn: ConnMeta,
    trusted: &TrustedProxies,
    versions: &TlsVersions,
    keeps: impl Fn() -> bool,
) -> Option<Asked<IO>> {
    let answer = |request: &Request<()>| {
        versions.count_request(conn.tls);
        let conn = trusted.conn_of(request, &conn);
        let wanted = match head::route(request) {
            Ok(Route::Upgrade(upgrade)) if pages.serves_derp() => Wanted::Upgrade(upgrade),
            Ok(_) if request.method() == Method::CONNECT => match pages.connect(request, &conn) {
                Connect::To(target) => Wanted::Tunnel(target),
                Connect::Off | Connect::Refused => return Ok(pages.respond(request, &conn)),
            },
            Ok(_) => return Ok(pages.respond(request, &conn)),
            Err(error) => return Ok(refusal(error)),
        };
        Err(AskedForMore {
            wanted,
            conn: Box::new(conn),
        })
    };
    serve(stream, already_read, answer, keeps).await
}

/// Serves what there is on port 80 beside a listener for TLS, and ends the stream; else as
/// [`serve_pages`].
///
/// Dropping the future breaks the connection.
pub(crate) async fn serve_port_80<IO: AsyncRead + AsyncWrite + Unpin>(
    stream: IO,
    already_read: Bytes,
    pages: Arc<Pages>,
    conn: ConnMeta,
    trusted: &TrustedProxies,
    keeps: impl Fn() -> bool,
) {
    let answer = |request: &Request<()>| {
        let conn = trusted.conn_of(request, &conn);
        Ok(pages.respond_on_port_80(request, &conn))
    };
    let asked = serve(stream, already_read, answer, keeps).await;
    debug_assert!(asked.is_none(), "only the other pages lead elsewhere");
}

/// Ends a connection so that the client gets to see what was sent last.
pub(crate) async fn close<IO: AsyncRead + AsyncWrite + Unpin>(mut stream: IO) {
    let linger = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whatever goes wrong here, the connection is over.
    let _ended = tokio::time::timeout(LINGER, linger).await;
}

async fn serve<IO, F>(
    stream: IO,
    already_read: Bytes,
    answer: F,
    keeps: impl Fn() -> bool,
) -> Option<Asked<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Fn(&Request<()>) -> Result<Response<Bytes>, AskedForMore> + Unpin,
{
    let requests = AtomicU32::new(0);
    let first_bad = Arc::new(FirstBad::default());
    let service = service_fn(|request: Request<Incoming>| {
        // No page takes a body. hyper reads what little of it has come; where it ends, a proxy in
        // front could understand otherwise, so that nothing behind it is taken for a request.
        let headers = request.headers();
        let has_body =
            headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
        let request = request.map(drop);
        let before = requests.fetch_add(1, Ordering::Relaxed);
        let response = match first_bad.is_at_most(before) {
            true => Ok(refusal(HeadError::BareLineFeed)),
            false => answer(&request),
        };
        let response = response.map(|mut response| {
            if has_body || before + 1 >= MAX_REQUESTS || !keeps() {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.map(Full::new)
        });
        ready(response)
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_LEN)
        .max_headers(MAX_HEADERS)
        .half_close(false)
        .title_case_headers(true)
        .serve_connection(
            TokioIo::new(Guarded::new(stream, already_read, Arc::clone(&first_bad))),
            service,
        );
    let served = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;

    let parts = connection.into_parts();
    let (stream, rest) = parts.io.into_inner().into_parts();
    match served.err().and_then(asked_for) {
        // No earlier response is lost with what hyper holds: it takes a request only when the
        // response before it has been flushed.
        Some(AskedForMore { wanted, conn }) => {
            let mut received = BytesMut::from(parts.read_buf);
            received.extend_from_slice(&rest);
            Some(Asked {
                stream,
                received: received.freeze(),
                wanted,
                conn: *conn,
            })
        }
        None => {
            close(stream).await;
            None
        }
    }
}

/// As [`super::refusal`], for hyper to send.
pub(super) fn refusal(error: HeadError) -> Response<Bytes> {
    let mut response = text(error.status(), format!("{error}\n"));
    if let Some((name, value)) = error.hint() {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// How a request gets past hyper, which would answer it: as the failure of its handler.
#[derive(Debug, Clone, Error)]
#[error("the client asked for an upgrade or a tunnel")]
struct AskedForMore {
    wanted: Wanted,
    conn: Box<ConnMeta>,
}

fn asked_for(error: hyper::Error) -> Option<AskedForMore> {
    let asked = error.source()?.downcast_ref::<AskedForMore>()?;
    Some(asked.clone())
}

#[cfg(test)]
mod tests;
