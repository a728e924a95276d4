//! A new connection to the server: TCP or a Unix socket, with TLS where the URL says so.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use super::exchange::{Request, exchange_head};
use super::target::{Place, Target};

/// A stream of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to `target`, through `proxy` if there is one. `tls` is there if the target needs it.
pub(super) async fn connect(
    target: &Target,
    proxy: Option<&Target>,
    tls: Option<&Arc<ClientConfig>>,
) -> io::Result<Box<dyn Stream>> {
    let (host, port) = match &target.place {
        Place::Unix(socket) => return Ok(Box::new(UnixStream::connect(socket).await?)),
        Place::Tcp { host, port, .. } => (host, *port),
    };
    let tcp = match proxy.map(|proxy| (&proxy.place, proxy)) {
        Some((
            Place::Tcp {
                host: via,
                port: via_port,
                ..
            },
            proxy,
        )) => {
            let mut tcp = dial(via, *via_port).await?;
            tunnel(&mut tcp, host, port, proxy).await?;
            tcp
        }
        _ => dial(host, port).await?,
    };
    let Some(config) = tls else {
        return Ok(Box::new(tcp));
    };
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let tls = TlsConnector::from(Arc::clone(config));
    Ok(Box::new(tls.connect(name, tcp).await?))
}

/// Tells a proxy to pass everything on.
async fn tunnel(tcp: &mut TcpStream, host: &str, port: u16, proxy: &Target) -> io::Result<()> {
    let bracketed = host.contains(':');
    let to = if bracketed {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let authorization = proxy.authorization.as_deref();
    let lines: Vec<_> = authorization
        .map(|value| ("Proxy-Authorization", value))
        .into_iter()
        .collect();
    let request = Request {
        method: "CONNECT",
        target: &to,
        host: &to,
        lines: &lines,
        body: None,
        max_body: 0,
    };
    let status = exchange_head(tcp, request)
        .await
        .map_err(io::Error::other)?;
    if status != 200 {
        let what = format!("the proxy {proxy} answered with status {status}");
        return Err(io::Error::other(what));
    }
    Ok(())
}

/// Connects to whichever of a host's addresses answers first. They are tried in the resolver's
/// order, each with a head start over the next, so that a dead one costs a moment.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let found = tokio::net::lookup_host((host, port)).await?;
    let found: Vec<SocketAddr> = found.take(MOST_ADDRESSES).collect();
    let mut untried = found.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(addr) = untried.next() {
            attempts.spawn(TcpStream::connect(addr));
        }
        let more = !untried.as_slice().is_empty();
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = sleep(NEXT_ADDRESS), if more => continue,
        };
        match ended {
            Some(Ok(Ok(stream))) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Some(Ok(Err(err))) => last = err,
            Some(Err(err)) => last = io::Error::other(err),
            None => return Err(last),
        }
    }
}

/// How long an address has before the next one is tried as well (RFC 8305, 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// How many addresses are tried, whatever the resolver says.
const MOST_ADDRESSES: usize = 8;
