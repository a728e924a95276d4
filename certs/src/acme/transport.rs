//! HTTPS to an authority: one connection for each request, no redirects, no proxies, everything
//! bounded.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::held::roots;

/// For everything from the name's address to the answer's last byte.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Certificate chains have a few kilobytes.
const MAX_BODY: usize = 256 * 1024;
const HTTPS: u16 = 443;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Sends requests. Cloning gives another handle of the same.
#[derive(Clone)]
pub(super) struct Transport(Arc<Inner>);

struct Inner {
    tls: Arc<ClientConfig>,
    user_agent: HeaderValue,
    requests: AtomicU64,
    retry_after: Mutex<Option<Duration>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl Transport {
    /// Trusts the certificates in `ca_file` and no others, or those that the system trusts.
    pub(super) fn new(ca_file: Option<&Path>, user_agent: &str) -> Result<Self, String> {
        let roots = match ca_file {
            Some(path) => roots(&std::fs::read(path).map_err(|err| err.to_string())?)?,
            None => system_roots()?,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|err| err.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.resumption = Resumption::disabled();
        let user_agent = HeaderValue::from_str(user_agent).map_err(|err| err.to_string())?;
        Ok(Self(Arc::new(Inner {
            tls: Arc::new(tls),
            user_agent,
            requests: AtomicU64::new(0),
            retry_after: Mutex::new(None),
        })))
    }

    pub(super) fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// How long the authority last wanted to be left alone, if it did.
    pub(super) fn take_retry_after(&self) -> Option<Duration> {
        self.0
            .retry_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.requests.fetch_add(1, Ordering::Relaxed);
            match timeout(TIMEOUT, inner.exchange(request)).await {
                Ok(Ok(response)) => Ok(response.into()),
                Ok(Err(fault)) => Err(instant_acme::Error::Other(fault)),
                Err(_) => Err(instant_acme::Error::Other(
                    format!("no answer within {} seconds", TIMEOUT.as_secs()).into(),
                )),
            }
        })
    }
}

impl Inner {
    async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, Fault> {
        let (mut parts, body) = request.into_parts();
        let uri = std::mem::take(&mut parts.uri);
        let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("{uri} is not an https:// URL").into());
        };
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())?;
        let tcp = dial(host, authority.port_u16().unwrap_or(HTTPS)).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(Arc::clone(&self.tls));
        let tls = tls.connect(name, tcp).await?;

        parts.headers.insert(HOST, authority.as_str().parse()?);
        parts.headers.insert(USER_AGENT, self.user_agent.clone());
        parts.uri = match uri.path_and_query() {
            Some(path) => Uri::try_from(path.as_str())?,
            None => Uri::from_static("/"),
        };
        let body = BodyExt::collect(body)
            .await
            .unwrap_or_else(|never| match never {})
            .to_bytes();
        let request = Request::from_parts(parts, Full::new(body));
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
        self.note_retry_after(&parts);
        Ok(Response::from_parts(parts, Full::new(body)))
    }

    /// Only of answers that refuse: others say by this header when to look again, which the
    /// library does.
    fn note_retry_after(&self, parts: &http::response::Parts) {
        if !matches!(parts.status.as_u16(), 429 | 503) {
            return;
        }
        let seconds = parts
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut noted = self
            .retry_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *noted = seconds.map(Duration::from_secs);
    }
}

/// Connects to whichever of a host's addresses answers first.
async fn dial(host: &str, port: u16) -> Result<TcpStream, Fault> {
    const MOST_ADDRESSES: usize = 8;
    const HEAD_START: Duration = Duration::from_millis(250);
    let found = tokio::net::lookup_host((host, port)).await?;
    let mut untried = found.take(MOST_ADDRESSES);
    let mut attempts = JoinSet::new();
    let mut last: Fault = format!("{host} has no address").into();
    loop {
        let more = match untried.next() {
            Some(addr) => {
                attempts.spawn(TcpStream::connect(addr));
                true
            }
            None => false,
        };
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = tokio::time::sleep(HEAD_START), if more => continue,
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(err))) => last = err.into(),
            Some(Err(err)) => last = err.into(),
            None => return Err(last),
        }
    }
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Systems hold roots that nobody can use any more; the others still count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first();
        return Err(why.map_or_else(|| "there are none".to_owned(), ToString::to_string));
    }
    Ok(roots)
}
