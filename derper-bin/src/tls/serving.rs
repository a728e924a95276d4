//! What one TLS listener serves, certificate by certificate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use derp_proto::NodePublic;
use derp_server::tls::{AlpnChallenges, ServedCertificate, ServerTls, TlsError};

/// A TLS configuration of several places for certificates, each of which may still be empty.
#[derive(Debug)]
pub struct Serving {
    tls: Arc<ServerTls>,
    places: Mutex<Vec<Option<ServedCertificate>>>,
}

impl Serving {
    /// `places` in order of preference. `challenges` are answered as well.
    ///
    /// # Errors
    /// See [`ServerTls::new`].
    pub fn new(
        key: NodePublic,
        places: Vec<Option<ServedCertificate>>,
        challenges: &AlpnChallenges,
        now: SystemTime,
    ) -> Result<Self, TlsError> {
        let tls = ServerTls::new(key, filled(&places), now)?;
        tls.set_challenges(challenges.clone());
        Ok(Self {
            tls: Arc::new(tls),
            places: Mutex::new(places),
        })
    }

    /// For a listener.
    #[must_use]
    pub const fn tls(&self) -> &Arc<ServerTls> {
        &self.tls
    }

    /// Serves `certificate` in place number `place` from the next handshake on.
    ///
    /// # Errors
    /// See [`ServerTls::set_certificates`]; then the old one stays.
    pub fn set(
        &self,
        place: usize,
        certificate: ServedCertificate,
        now: SystemTime,
    ) -> Result<(), TlsError> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = places.clone();
        if new.len() <= place {
            new.resize(place + 1, None);
        }
        new[place] = Some(certificate);
        self.tls.set_certificates(filled(&new), now)?;
        *places = new;
        Ok(())
    }

    /// Serves these and no others from the next handshake on.
    ///
    /// # Errors
    /// See [`ServerTls::set_certificates`]; then the old ones stay.
    pub fn set_all(
        &self,
        places: Vec<Option<ServedCertificate>>,
        now: SystemTime,
    ) -> Result<(), TlsError> {
        let mut current = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        self.tls.set_certificates(filled(&places), now)?;
        *current = places;
        Ok(())
    }

    /// What is served in place number `place`.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<ServedCertificate> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(place).cloned().flatten()
    }
}

fn filled(places: &[Option<ServedCertificate>]) -> Vec<ServedCertificate> {
    places.iter().flatten().cloned().collect()
}
