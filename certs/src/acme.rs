//! An authority that speaks ACME, by the library `instant-acme`; what is here is what that leaves
//! to its users: HTTP, challenges, files, and words for operators.

mod account;
mod challenge;
mod order;
mod transport;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use instant_acme::{Account, CertificateIdentifier};
use rustls_pki_types::Der;
use thiserror::Error;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

pub use self::challenge::{Challenge, ChallengeKind, Responder};
use self::transport::Transport;
use crate::authority::{Authority, Failure, Issued, Wanted};
use crate::held::Held;
use crate::schedule::Window;
use crate::store::Store;

/// Let's Encrypt's directory.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Google Trust Services' directory (`cmd/derper/cert.go`).
pub const GOOGLE: &str = "https://dv.acme-v02.api.pki.goog/directory";

/// Which authority, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeOptions {
    /// The URL of its directory, `https` only.
    pub directory: String,
    /// A mail address for it.
    pub email: Option<String>,
    /// Binds the account to one that was made elsewhere.
    pub eab: Option<Eab>,
    /// A PEM file with the certificates that the authority's own chain may end in, in place of
    /// those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The checks that can succeed, the preferred one first.
    pub challenges: Vec<ChallengeKind>,
    /// What the relay calls itself to the authority.
    pub user_agent: String,
}

/// External Account Binding (RFC 8555, 7.3.4).
#[derive(Clone)]
pub struct Eab {
    /// The key's name.
    pub kid: String,
    key: Zeroizing<Vec<u8>>,
}

/// A key for External Account Binding that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not base64")]
pub struct EabError;

impl Eab {
    /// Takes a key as authorities give it: base64 for URLs without padding, or plain base64.
    ///
    /// # Errors
    /// It is neither.
    pub fn new(kid: &str, key: &str) -> Result<Self, EabError> {
        let key = key.trim();
        let bytes = BASE64URL_NOPAD
            .decode(key.as_bytes())
            .or_else(|_| BASE64.decode(key.as_bytes()))
            .map_err(|_| EabError)?;
        Ok(Self {
            kid: kid.to_owned(),
            key: Zeroizing::new(bytes),
        })
    }
}

impl PartialEq for Eab {
    fn eq(&self, other: &Self) -> bool {
        self.kid == other.kid && self.key == other.key
    }
}

impl Eq for Eab {}

impl fmt::Debug for Eab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eab")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// An authority that cannot be asked at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// The directory is none.
    #[error("{0:?} is not an https:// URL")]
    Directory(String),
    /// No trusted certificates could be read.
    #[error("cannot read trusted certificates{}: {reason}", in_file(file.as_ref()))]
    Roots {
        /// The file, or `None` for the system's.
        file: Option<PathBuf>,
        /// Why not.
        reason: String,
    },
}

fn in_file(path: Option<&PathBuf>) -> String {
    path.map(|path| format!(" in {}", path.display()))
        .unwrap_or_default()
}

/// An authority that speaks ACME.
pub struct Acme {
    options: AcmeOptions,
    store: Store,
    transport: Transport,
    responder: Arc<dyn Responder>,
    /// Kept from order to order, which saves requests. The lock lets one order run at a time:
    /// authorities count them, and two would answer one another's challenges.
    account: Mutex<Option<Account>>,
    host: String,
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme")
            .field("options", &self.options)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Acme {
    /// Asks nothing yet. The account is kept in `store`; `responder` answers checks.
    ///
    /// Blocks while files are read.
    ///
    /// # Errors
    /// See [`AcmeError`].
    pub fn new(
        options: AcmeOptions,
        store: Store,
        responder: Arc<dyn Responder>,
    ) -> Result<Self, AcmeError> {
        let bad = || AcmeError::Directory(options.directory.clone());
        let url: http::Uri = options.directory.parse().map_err(|_| bad())?;
        let (Some("https"), Some(host)) = (url.scheme_str(), url.host()) else {
            return Err(bad());
        };
        let host = host.to_owned();
        let transport =
            Transport::new(options.ca_file.as_deref(), &options.user_agent).map_err(|reason| {
                AcmeError::Roots {
                    file: options.ca_file.clone(),
                    reason,
                }
            })?;
        Ok(Self {
            options,
            store,
            transport,
            responder,
            account: Mutex::new(None),
            host,
        })
    }

    /// How many requests were sent.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.transport.requests()
    }

    /// What went wrong, in words for an operator.
    fn failure(&self, error: &instant_acme::Error) -> Failure {
        order::failure(error, &self.host, self.transport.take_retry_after())
    }
}

#[async_trait]
impl Authority for Acme {
    async fn obtain(&self, wanted: &Wanted<'_>) -> Result<Issued, Failure> {
        let mut account = self.account.lock().await;
        let result = self.order(&mut account, wanted).await;
        if let Err(failure) = &result
            && failure.message.contains("accountDoesNotExist")
        {
            // The authority has forgotten it: the next order makes another.
            *account = None;
        }
        result
    }

    async fn renewal_window(&self, held: &Held) -> Result<Option<(Window, Duration)>, Failure> {
        let Some((key, serial)) = held.renewal_id() else {
            return Ok(None);
        };
        let id = CertificateIdentifier::new(Der::from_slice(&key), Der::from_slice(&serial));
        let mut account = self.account.lock().await;
        let account = self.account(&mut account).await?;
        match account.renewal_info(&id).await {
            Ok((info, again)) => {
                let window = Window {
                    start: info.suggested_window.start.into(),
                    end: info.suggested_window.end.into(),
                };
                Ok(Some((window, again)))
            }
            Err(instant_acme::Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn name(&self) -> &str {
        &self.host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_keys_come_in_two_spellings() {
        let key = |text: &str| Eab::new("kid", text).map(|eab| eab.key.to_vec());
        assert_eq!(key("-_8"), Ok(vec![0xfb, 0xff]));
        assert_eq!(key("+/8="), Ok(vec![0xfb, 0xff]));
        assert_eq!(key("not base64!"), Err(EabError));
        let eab = Eab::new("kid", "c2VjcmV0").unwrap();
        assert_eq!(format!("{eab:?}"), "Eab { kid: \"kid\", .. }");
    }
}
