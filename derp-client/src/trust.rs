//! TLS on a stream: by the roots that are trusted, and with the key that the certificates tell.

use std::sync::Arc;

use derp_proto::NodePublic;
use rustls::client::WebPkiServerVerifier;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use crate::budget::Budget;
use crate::error::{Fault, Stage};
use crate::link::BoxStream;
use crate::metacert;
use crate::tls::{self, CertCheck, Roots};
use crate::url::Host;

/// The roots that are trusted, made ready for use once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust {
    roots: Roots,
    /// Made of `roots` when it is first needed.
    chains: Arc<OnceCell<Arc<WebPkiServerVerifier>>>,
}

impl Trust {
    pub(crate) fn new(roots: Roots) -> Self {
        Self {
            roots,
            chains: Arc::default(),
        }
    }

    /// Speaks TLS on a stream to `host`.
    pub(crate) async fn secure(
        &self,
        host: &Host,
        check: CertCheck,
        stream: BoxStream,
        budget: &Budget,
    ) -> Result<Secured, Fault> {
        let chains = match check.needs_roots() {
            true => Some(self.chains().await?),
            false => None,
        };
        let connector = TlsConnector::from(Arc::new(tls::client_config(check, chains)));
        let handshake = connector.connect(host.server_name().clone(), stream);
        let stream = budget
            .spend(Stage::Tls, async { handshake.await.map_err(tls_fault) })
            .await?;
        let (_, session) = stream.get_ref();
        let version = session.protocol_version();
        let server_key = match version {
            // Before 1.3 anybody on the way could have put a certificate there.
            Some(rustls::ProtocolVersion::TLSv1_3) => {
                session.peer_certificates().and_then(metacert::server_key)
            }
            _ => None,
        };
        Ok(Secured {
            stream: Box::new(stream),
            version,
            server_key,
        })
    }

    async fn chains(&self) -> Result<Arc<WebPkiServerVerifier>, Fault> {
        let made = self.chains.get_or_try_init(|| async {
            let roots = self.roots.clone();
            // Files are read, and some systems have many.
            let loading = tokio::task::spawn_blocking(move || roots.load());
            tls::chain_verifier(loading.await.map_err(std::io::Error::other)??)
        });
        made.await.map(Arc::clone).map_err(Fault::Roots)
    }
}

/// A stream with TLS on it.
pub(crate) struct Secured {
    pub(crate) stream: BoxStream,
    pub(crate) version: Option<rustls::ProtocolVersion>,
    /// The DERP key that the certificates name.
    pub(crate) server_key: Option<NodePublic>,
}

/// Tells a certificate that is refused from everything else that can go wrong.
fn tls_fault(err: std::io::Error) -> Fault {
    match err
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(refused @ rustls::Error::InvalidCertificate(_)) => Fault::Certificate(refused.clone()),
        _ => Fault::Tls(err),
    }
}
