//! Connections to look at, and requests over them. Everything has one short deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use derp_ops::any_certificate;
use http::header::{CONNECTION, HOST};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::outside::Outside;

/// How long a step may take. Clients give up after ten seconds for all of them.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read; DERP maps have some dozens of KiB.
const LONGEST: usize = 4 << 20;

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A stream of any kind.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// Connects to the first address that takes a connection.
pub(super) async fn tcp(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in addresses {
        match within(TcpStream::connect(*address)).await {
            Ok(stream) => return Ok(stream),
            Err(err) => failed = io::Error::new(err.kind(), format!("{address}: {err}")),
        }
    }
    Err(failed)
}

/// Does the TLS handshake with whoever has any certificate and its key.
pub(super) async fn tls(
    tcp: TcpStream,
    name: ServerName<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::new(any_certificate::client_config()));
    within(connector.connect(name, tcp)).await
}

/// The certificates that the server showed.
pub(super) fn shown(stream: &TlsStream<TcpStream>) -> Vec<CertificateDer<'static>> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap_or_default().to_vec()
}

/// Asks the relay for `path` on its own port.
pub(super) async fn ask(
    outside: &Outside,
    addresses: &[SocketAddr],
    path: &str,
    header: Option<(&str, &str)>,
) -> anyhow::Result<Answer> {
    let stream = tcp(addresses).await.context("cannot connect")?;
    let stream: Box<dyn Io> = if outside.is_tls {
        let stream = tls(stream, outside.host.server_name()).await;
        Box::new(stream.context("the TLS handshake failed")?)
    } else {
        Box::new(stream)
    };
    get(stream, &outside.authority(), path, header).await
}

/// Sends one request over `stream`.
pub(super) async fn get(
    stream: impl Io + 'static,
    host: &str,
    path: &str,
    header: Option<(&str, &str)>,
) -> anyhow::Result<Answer> {
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request = Request::get(path)
            .header(HOST, host)
            .header(CONNECTION, "close");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LONGEST).collect().await;
        driver.abort();
        let body = body.map_err(|err| anyhow::anyhow!("the answer broke off: {err}"))?;
        anyhow::Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(answer) => answer,
        Err(_) => anyhow::bail!("no answer in {PATIENCE:?}"),
    }
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nothing came of it in {PATIENCE:?}"),
        )),
    }
}
