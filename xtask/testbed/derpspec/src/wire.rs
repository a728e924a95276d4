//! A connection's bytes: TCP, or TLS over it, by a hello that a case can choose.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::client::{Tls13ClientSessionValue, danger::ServerCertVerifier};
use rustls::crypto::SupportedKxGroup;
use rustls::{
    CipherSuite, ClientConfig, NamedGroup, ProtocolVersion, SupportedProtocolVersion, version,
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::target::Target;
use crate::trust::{Verifier, provider};

/// Versions of TLS that a client may know.
pub(crate) type Versions = &'static [&'static SupportedProtocolVersion];

pub(crate) static TLS13: Versions = &[&version::TLS13];
pub(crate) static TLS12: Versions = &[&version::TLS12];
static BOTH: Versions = &[&version::TLS13, &version::TLS12];

/// How a client opens TLS.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    pub(crate) versions: Versions,
    pub(crate) protocols: &'static [&'static str],
    /// The name that it sends, where that is not the URL's.
    pub(crate) name: Option<&'static str>,
    /// Whether it sends the URL's name in capitals.
    pub(crate) in_capitals: bool,
    /// The only cipher suite that it knows.
    pub(crate) suite: Option<CipherSuite>,
    /// The only key exchange that it knows.
    pub(crate) group: Option<&'static dyn SupportedKxGroup>,
    /// The size of its records in bytes.
    pub(crate) record_len: Option<usize>,
    /// Whether each byte is a write of its own, until the handshake is over.
    pub(crate) drips: bool,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            versions: BOTH,
            protocols: &[],
            name: None,
            in_capitals: false,
            suite: None,
            group: None,
            record_len: None,
            drips: false,
        }
    }
}

/// What a TLS handshake led to.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) protocol: Option<Vec<u8>>,
    pub(crate) group: Option<NamedGroup>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Grows with each ticket or session that the server gives.
    pub(crate) tickets: Arc<Tickets>,
}

/// Why there is no TLS.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// The server's alert, if it sent one.
    pub(crate) alert: Option<u8>,
    pub(crate) text: String,
}

/// A stream to the server.
pub(crate) enum Wire {
    Tcp(Drip),
    Tls(Box<TlsStream<Drip>>),
}

impl Wire {
    /// Speaks TLS over `tcp`.
    pub(crate) async fn tls(
        tcp: TcpStream,
        target: &Target,
        hello: &Hello,
    ) -> Result<(Self, Handshake), Refused> {
        let no_name = |_| Refused {
            alert: None,
            text: format!("{} is no server name", target.host),
        };
        let name = ServerName::try_from(target.host.clone()).map_err(no_name)?;
        let tickets = Arc::new(Tickets::default());
        let verifier = Arc::new(Verifier {
            trust: Arc::clone(&target.trust),
            name: name.clone(),
        });
        let config = config(hello, verifier, Arc::clone(&tickets)).map_err(|err| Refused {
            alert: None,
            text: err.to_string(),
        })?;
        let name = match hello.name {
            Some(other) => ServerName::try_from(other).map_err(no_name)?,
            None if hello.in_capitals => {
                ServerName::try_from(target.host.to_uppercase()).map_err(no_name)?
            }
            None => name,
        };
        let drip = Drip {
            tcp,
            drips: hello.drips,
        };
        let connected = TlsConnector::from(Arc::new(config)).connect(name, drip);
        let mut stream = connected.await.map_err(|err| refused(&err))?;
        stream.get_mut().0.drips = false;
        let session = stream.get_ref().1;
        let handshake = Handshake {
            version: session.protocol_version(),
            protocol: session.alpn_protocol().map(<[u8]>::to_vec),
            group: session
                .negotiated_key_exchange_group()
                .map(|group| group.name()),
            chain: session
                .peer_certificates()
                .map(|chain| chain.iter().map(|der| der.clone().into_owned()).collect())
                .unwrap_or_default(),
            tickets,
        };
        Ok((Self::Tls(Box::new(stream)), handshake))
    }

    /// The socket under it.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(drip) => &drip.tcp,
            Self::Tls(stream) => &stream.get_ref().0.tcp,
        }
    }

    /// The TLS session, if there is one.
    pub(crate) fn session(&mut self) -> Option<&mut rustls::ClientConnection> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(stream) => Some(stream.get_mut().1),
        }
    }
}

fn config(
    hello: &Hello,
    verifier: Arc<dyn ServerCertVerifier>,
    tickets: Arc<Tickets>,
) -> Result<ClientConfig, rustls::Error> {
    let mut provider = provider();
    if let Some(suite) = hello.suite {
        provider
            .cipher_suites
            .retain(|known| known.suite() == suite);
    }
    if let Some(group) = hello.group {
        provider.kx_groups = vec![group];
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(hello.versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = hello
        .protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    config.max_fragment_size = hello.record_len;
    config.resumption = Resumption::store(tickets);
    Ok(config)
}

fn refused(err: &io::Error) -> Refused {
    let alert = match err
        .get_ref()
        .and_then(|source| source.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::AlertReceived(alert)) => Some(u8::from(*alert)),
        _ => None,
    };
    Refused {
        alert,
        text: err.to_string(),
    }
}

/// Counts what a server gives for later sessions, and uses none of it.
#[derive(Debug, Default)]
pub(crate) struct Tickets(AtomicUsize);

impl Tickets {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _server_name: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(
        &self,
        _server_name: ServerName<'static>,
        _value: Tls12ClientSessionValue,
    ) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {}

    fn insert_tls13_ticket(
        &self,
        _server_name: ServerName<'static>,
        _value: Tls13ClientSessionValue,
    ) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn take_tls13_ticket(
        &self,
        _server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// A socket that can be made to send one byte at a time.
pub(crate) struct Drip {
    pub(crate) tcp: TcpStream,
    pub(crate) drips: bool,
}

impl AsyncRead for Drip {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Drip {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let part = if self.drips {
            &buf[..buf.len().min(1)]
        } else {
            buf
        };
        Pin::new(&mut self.tcp).poll_write(cx, part)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
