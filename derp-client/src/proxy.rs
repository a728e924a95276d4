//! The way through an HTTP proxy: `CONNECT` (RFC 9110, 9.3.6).

use std::fmt;
use std::str::FromStr;

use bytes::BytesMut;
use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::response::{Head, HeadError};
use crate::url::{Host, split_port};

mod environment;

pub use environment::ProxyEnvironment;

/// An HTTP proxy that opens tunnels.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    tls: bool,
    host: Host,
    port: u16,
    /// The value of the `Proxy-Authorization` header; a secret.
    authorization: Option<String>,
}

impl Proxy {
    /// Whether the proxy itself is spoken to by TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Asks for a tunnel to `target`, which is `host:port`. When it is open, `io` leads there.
    pub(crate) async fn open_tunnel(
        &self,
        io: &mut (impl AsyncRead + AsyncWrite + Unpin),
        target: &str,
    ) -> Result<(), ProxyError> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(value) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(value);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        io.write_all(request.as_bytes())
            .await
            .map_err(HeadError::Io)?;
        io.flush().await.map_err(HeadError::Io)?;

        let mut buf = BytesMut::new();
        let head = Head::read(io, &mut buf).await?;
        if head.status != 200 {
            return Err(ProxyError::Refused {
                status: head.status,
            });
        }
        // Behind the tunnel the client speaks first: this is from nobody who is meant.
        if !buf.is_empty() {
            return Err(ProxyError::SpokeFirst);
        }
        Ok(())
    }
}

impl fmt::Display for Proxy {
    /// As a URL, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host.with_port(self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = if self.authorization.is_some() {
            ", with a password"
        } else {
            ""
        };
        write!(f, "Proxy({self}{secret})")
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    /// Reads `[http://|https://][user[:password]@]host[:port][/]`.
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return Err(ProxyError::Url),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        let (host, port) = split_port(authority).ok_or(ProxyError::Url)?;
        let authorization = match user {
            Some(user) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                let mut plain: Vec<u8> = percent_decode_str(name).collect();
                plain.push(b':');
                plain.extend(percent_decode_str(password));
                Some(format!("Basic {}", BASE64.encode(&plain)))
            }
            None => None,
        };
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        let host = host.parse().map_err(|_| ProxyError::Url)?;
        Ok(Self {
            tls,
            host,
            port,
            authorization,
        })
    }
}

/// A proxy that does not lead anywhere.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The operator's: not the URL of an HTTP proxy. It isn't shown, as it may hold a password.
    #[error("not the URL of an HTTP proxy")]
    Url,
    /// The proxy's: it declines.
    #[error("the proxy answers with HTTP status {status}")]
    Refused {
        /// The status.
        status: u16,
    },
    /// The proxy's: bytes came through the tunnel before anything was asked.
    #[error("bytes came through the tunnel before anything was asked")]
    SpokeFirst,
    /// What the proxy answers is no HTTP response.
    #[error(transparent)]
    Head(#[from] HeadError),
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[test]
    fn proxies_are_urls_or_hosts() {
        let shown = |text: &str| text.parse::<Proxy>().unwrap().to_string();
        assert_eq!(shown("proxy.test"), "http://proxy.test:80");
        assert_eq!(shown("proxy.test:3128"), "http://proxy.test:3128");
        assert_eq!(shown("HTTP://proxy.test:3128/"), "http://proxy.test:3128");
        assert_eq!(shown("https://[::1]"), "https://[::1]:443");
        for text in [
            "",
            "socks5://proxy.test",
            "http://",
            "http://a b",
            "http://x/y",
            "a:0",
        ] {
            assert!(text.parse::<Proxy>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_is_decoded_and_not_printed() {
        let proxy: Proxy = "http://user:p%40ss%3A@proxy.test".parse().unwrap();
        let value = format!("Basic {}", BASE64.encode(b"user:p@ss:"));
        assert_eq!(proxy.authorization, Some(value));
        let printed = format!("{proxy} {proxy:?}");
        assert_eq!(
            printed,
            "http://proxy.test:80 Proxy(http://proxy.test:80, with a password)"
        );
        // What is no escape is itself: a password may be a percent sign that nobody escaped.
        let proxy: Proxy = "http://u:%4@proxy.test".parse().unwrap();
        let value = format!("Basic {}", BASE64.encode(b"u:%4"));
        assert_eq!(proxy.authorization, Some(value));
    }

    /// What the proxy reads, and what comes of its answer.
    async fn tunnel(proxy: &str, answer: &[u8]) -> (String, Result<(), ProxyError>) {
        let proxy: Proxy = proxy.parse().unwrap();
        let (mut ours, mut theirs) = duplex(4096);
        theirs.write_all(answer).await.unwrap();
        let result = proxy.open_tunnel(&mut ours, "derp.test:8443").await;
        drop(ours);
        let mut request = String::new();
        theirs.read_to_string(&mut request).await.unwrap();
        (request, result)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_with_the_relays_port() {
        let ok = b"HTTP/1.1 200 Connection established\r\n\r\n";
        let (request, result) = tunnel("proxy.test", ok).await;
        let head = "CONNECT derp.test:8443 HTTP/1.1\r\nHost: derp.test:8443\r\n";
        assert_eq!(request, format!("{head}\r\n"));
        assert!(result.is_ok());
        let (request, _) = tunnel("u:p@proxy.test", ok).await;
        assert_eq!(
            request,
            format!("{head}Proxy-Authorization: Basic dTpw\r\n\r\n")
        );
    }

    #[tokio::test]
    async fn only_200_and_silence_is_a_tunnel() {
        let (_, result) = tunnel("proxy.test", b"HTTP/1.1 407 No\r\n\r\n").await;
        assert!(matches!(result, Err(ProxyError::Refused { status: 407 })));
        let (_, result) = tunnel("proxy.test", b"HTTP/1.1 204 No\r\n\r\n").await;
        assert!(matches!(result, Err(ProxyError::Refused { status: 204 })));
        let (_, result) = tunnel("proxy.test", b"HTTP/1.1 200 OK\r\n\r\nx").await;
        assert!(matches!(result, Err(ProxyError::SpokeFirst)));
    }
}
