//! Fetches a document over HTTP/1.1: a DERP map, or a list of revoked certificates. Or posts one.
//!
//! What comes is bounded, in length and in redirects, and a redirect never leaves the scheme:
//! what was asked for over TLS is not taken from somebody on the way. No proxies, no cookies, no
//! compression, one connection a request.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::args::PROGRAM;
use crate::connect;
use crate::deadline::{Deadline, TimedOut};
use crate::trust::Trust;

/// Fetches documents. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Web {
    tls: Arc<ClientConfig>,
}

/// A document that did not come.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WebError {
    /// The operator's: not an address that can be fetched from.
    #[error("{0} is no http or https URL with a host")]
    Url(String),
    /// The network's or the server's: no TCP connection.
    #[error("cannot connect to {0}")]
    Tcp(Authority, #[source] io::Error),
    /// The server's: TLS did not come about, or its certificate is refused.
    #[error("no TLS with {0}")]
    Tls(Authority, #[source] io::Error),
    /// The server's: it does not speak HTTP.
    #[error("{0} does not answer in HTTP")]
    Http(Authority, #[source] hyper::Error),
    /// The server's: it answered with another status than 200.
    #[error("{url} answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// The server's: it sends us where we do not go.
    #[error("{url} redirects to {to:?}, which is not followed: {why}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where it led.
        to: String,
        /// The rule.
        why: &'static str,
    },
    /// The server's: the document is longer than any of its kind.
    #[error("{url} sends more than {limit} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The most bytes that are read.
        limit: usize,
    },
    /// The network's or the server's: the document broke off.
    #[error("the answer of {0} broke off")]
    BrokeOff(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

impl WebError {
    /// Whether the server was not reached, or not long enough. An answer is one, whatever it says.
    #[must_use]
    pub const fn is_transport(&self) -> bool {
        match self {
            Self::Tcp(..) | Self::Tls(..) | Self::Http(..) => true,
            Self::BrokeOff(..) | Self::TimedOut(_) => true,
            Self::Url(_) | Self::Status { .. } | Self::Redirect { .. } | Self::TooLong { .. } => {
                false
            }
        }
    }
}

impl Web {
    /// Fetches with these roots of trust.
    #[must_use]
    pub fn new(trust: &Trust) -> Self {
        Self {
            tls: Arc::new(trust.client_config()),
        }
    }

    /// Fetches `url`, of which there may be `limit` bytes.
    ///
    /// # Errors
    /// [`WebError`], by fault.
    pub async fn get(
        &self,
        url: &Uri,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Bytes, WebError> {
        let mut url = url.clone();
        let mut redirects = 0;
        loop {
            // Holds what drives the connection until the body is read.
            let mut drivers = JoinSet::new();
            let request = Request::get(path_of(&url)).body(Full::default());
            let request = request.map_err(|_| WebError::Url(url.to_string()))?;
            let response = self.request(&url, request, &mut drivers, deadline).await?;
            let status = response.status();
            let asked = url.to_string();
            if status.is_redirection() && response.headers().contains_key(LOCATION) {
                url = redirected(&url, &response)?;
                redirects += 1;
                if redirects > MOST_REDIRECTS {
                    let (to, why) = (url.to_string(), "there are too many");
                    return Err(WebError::Redirect {
                        url: asked,
                        to,
                        why,
                    });
                }
                continue;
            }
            if status != StatusCode::OK {
                return Err(WebError::Status { url: asked, status });
            }
            let body = Limited::new(response.into_body(), limit).collect();
            return match deadline.keep("reading the document", body).await? {
                Ok(body) => Ok(body.to_bytes()),
                Err(err) if err.is::<LengthLimitError>() => {
                    Err(WebError::TooLong { url: asked, limit })
                }
                Err(err) => Err(WebError::BrokeOff(asked, err)),
            };
        }
    }

    /// Sends a JSON document to `url`, with this authorization if there is one. What is answered is
    /// not read beyond its status, and redirects are not followed.
    ///
    /// # Errors
    /// [`WebError`], by fault; every status but those of success is one.
    pub async fn post(
        &self,
        url: &Uri,
        document: Bytes,
        authorization: Option<&HeaderValue>,
        deadline: Deadline,
    ) -> Result<(), WebError> {
        let mut request = Request::post(path_of(url)).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(document));
        let request = request.map_err(|_| WebError::Url(url.to_string()))?;
        let mut drivers = JoinSet::new();
        let response = self.request(url, request, &mut drivers, deadline).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let url = url.to_string();
        Err(WebError::Status { url, status })
    }

    /// Sends a request for the path of `url` to the server in it.
    async fn request(
        &self,
        url: &Uri,
        mut request: Request<Full<Bytes>>,
        drivers: &mut JoinSet<()>,
        deadline: Deadline,
    ) -> Result<Response<Incoming>, WebError> {
        let bad = || WebError::Url(url.to_string());
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            return Err(bad());
        };
        let tls = *scheme == Scheme::HTTPS;
        if (!tls && *scheme != Scheme::HTTP) || authority.as_str().contains('@') {
            return Err(bad());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let tcp = deadline.keep("connecting to the web server", connected(&host, port));
        let tcp = tcp
            .await?
            .map_err(|err| WebError::Tcp(authority.clone(), err))?;
        for (name, value) in [(HOST, authority.as_str()), (USER_AGENT, &user_agent())] {
            let value = HeaderValue::from_str(value).map_err(|_| bad())?;
            request.headers_mut().insert(name, value);
        }
        let exchange = async {
            if !tls {
                return exchange(tcp, request, drivers).await;
            }
            let name = ServerName::try_from(host).map_err(|err| hyper_io(&err));
            let refused = |err| Failed::Tls(err);
            let name = name.map_err(refused)?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            exchange(
                connector.connect(name, tcp).await.map_err(refused)?,
                request,
                drivers,
            )
            .await
        };
        let response = deadline
            .keep("waiting for the web server's answer", exchange)
            .await?;
        response.map_err(|failed| match failed {
            Failed::Tls(err) => WebError::Tls(authority.clone(), err),
            Failed::Http(err) => WebError::Http(authority.clone(), err),
        })
    }
}

async fn connected(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = lookup_host((host, port)).await?;
    let connected = connect::first(addresses.take(MOST_ADDRESSES)).await;
    connected.map_err(|fault| match fault {
        Some((_, err)) => err,
        None => io::Error::new(io::ErrorKind::NotFound, "it has no address"),
    })
}

fn path_of(url: &Uri) -> &str {
    url.path_and_query().map_or("/", |path| path.as_str())
}

/// At which step a request failed.
enum Failed {
    Tls(io::Error),
    Http(hyper::Error),
}

/// The name that servers' logs have of this program.
pub(crate) fn user_agent() -> String {
    format!("{}/{}", PROGRAM.program, PROGRAM.version)
}

fn hyper_io(err: &rustls_pki_types::InvalidDnsNameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, err.to_string())
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    drivers: &mut JoinSet<()>,
) -> Result<Response<Incoming>, Failed>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let sender = open(stream, drivers).await;
    let mut sender = sender.map_err(Failed::Http)?;
    sender.send_request(request).await.map_err(Failed::Http)
}

/// Begins HTTP on a connection, which lives as long as `drivers`.
pub(crate) async fn open<S, B>(
    stream: S,
    drivers: &mut JoinSet<()>,
) -> Result<SendRequest<B>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    drivers.spawn(async {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a web server ended");
        }
    });
    Ok(sender)
}

/// Where a redirect leads.
fn redirected(url: &Uri, response: &Response<Incoming>) -> Result<Uri, WebError> {
    let location = response
        .headers()
        .get(LOCATION)
        .map(|value| value.as_bytes());
    let text = String::from_utf8_lossy(location.unwrap_or_default()).into_owned();
    let refused = |why| {
        let to = text.chars().take(256).collect();
        WebError::Redirect {
            url: url.to_string(),
            to,
            why,
        }
    };
    let unread = "it is neither a URL nor an absolute path";
    let to: Uri = text.parse().map_err(|_| refused(unread))?;
    let mut parts = to.into_parts();
    match (&parts.scheme, &parts.authority) {
        (Some(scheme), Some(_)) if Some(scheme) == url.scheme() => {}
        (Some(_), Some(_)) => return Err(refused("the scheme is another one")),
        (None, None) if text.starts_with('/') && !text.starts_with("//") => {
            parts.scheme = url.scheme().cloned();
            parts.authority = url.authority().cloned();
        }
        _ => return Err(refused(unread)),
    }
    Uri::from_parts(parts).map_err(|_| refused(unread))
}

/// How often a server may say that the document is somewhere else.
const MOST_REDIRECTS: usize = 5;
/// How many addresses of a server are tried, whatever the resolver says.
const MOST_ADDRESSES: usize = 8;

#[cfg(test)]
pub(crate) mod script;
#[cfg(test)]
mod tests;
