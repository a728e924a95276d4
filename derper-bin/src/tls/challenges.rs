//! Answers to an authority's checks: pages on port 80, certificates on the port of DERP.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use derp_certs::{Challenge, Responder};
use derp_server::tls::AlpnChallenges;

/// Where the pages are (RFC 8555, 8.3).
pub const PATH: &str = "/.well-known/acme-challenge/";

/// What is answered now. Both are empty but for the seconds of an order.
#[derive(Debug, Default)]
pub struct Challenges {
    pages: RwLock<BTreeMap<String, String>>,
    certificates: AlpnChallenges,
}

impl Challenges {
    /// What the page at `path` says, if there is one.
    #[must_use]
    pub fn page(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PATH)?;
        self.pages
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
            .cloned()
    }

    /// For the TLS listener.
    #[must_use]
    pub const fn certificates(&self) -> &AlpnChallenges {
        &self.certificates
    }
}

impl Responder for Challenges {
    fn present(&self, challenge: &Challenge) {
        match challenge {
            Challenge::Page { token, content } => {
                self.pages
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(token.clone(), content.clone());
            }
            Challenge::Certificate {
                server_name,
                certificate,
            } => self.certificates.insert(server_name, certificate.clone()),
            _ => {}
        }
    }

    fn withdraw(&self, challenge: &Challenge) {
        match challenge {
            Challenge::Page { token, .. } => {
                self.pages
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(token);
            }
            Challenge::Certificate { server_name, .. } => self.certificates.remove(server_name),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_there_while_it_is_presented() {
        let challenges = Challenges::default();
        let challenge = Challenge::page("token", "token.thumb");
        let path = format!("{PATH}token");
        assert_eq!(challenges.page(&path), None);
        challenges.present(&challenge);
        assert_eq!(challenges.page(&path).as_deref(), Some("token.thumb"));
        assert_eq!(challenges.page(&format!("{PATH}other")), None);
        assert_eq!(challenges.page("/token"), None);
        challenges.withdraw(&challenge);
        assert_eq!(challenges.page(&path), None);
    }
}
