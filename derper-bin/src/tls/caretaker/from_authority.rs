//! Certificates that an authority gives, by ACME.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context;
use derp_certs::{Acme, Authority, Held, Keeper, Responder, Store, Subject};
use derp_proto::NodePublic;
use derp_server::tls::{ConfigFor, ServedCertificate, SniPolicy};
use rustls_pki_types::ServerName;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;

use super::expiry::warn_of_expiry;
use crate::clock;
use crate::config;
use crate::problem::chain;
use crate::tls::by_address::ByAddress;
use crate::tls::challenges::Challenges;
use crate::tls::numbers::CertNumbers;
use crate::tls::serving::Serving;

pub(super) struct FromAuthority {
    server: Served,
    /// For the relay's name, or its address.
    keepers: Vec<Arc<Keeper>>,
    /// For addresses that clients came to: as many as [`ByAddress`] serves.
    more: Mutex<Vec<Arc<Keeper>>>,
    /// Addresses to order for, as clients come there.
    addresses: AsyncMutex<Option<mpsc::Receiver<IpAddr>>>,
    store: Store,
    authority: Arc<Acme>,
    numbers: Arc<CertNumbers>,
}

/// Who gets what an authority gives.
#[derive(Clone)]
enum Served {
    Everywhere(Arc<Serving>),
    ByAddress(Arc<ByAddress>),
}

impl FromAuthority {
    pub(super) fn new(
        acme: &config::Acme,
        key: NodePublic,
        challenges: &Arc<Challenges>,
        numbers: Arc<CertNumbers>,
        now: SystemTime,
    ) -> anyhow::Result<Self> {
        let store = Store::open(&acme.dir).context("-certdir")?;
        let responder = Arc::clone(challenges) as Arc<dyn Responder>;
        let authority = Arc::new(Acme::new(acme.options.clone(), store.clone(), responder)?);
        numbers.note_authority(Arc::clone(&authority));
        let (server, addresses) = if acme.ip_certs {
            let certificates = challenges.certificates().clone();
            let (by_address, addresses) = ByAddress::new(key, certificates, acme.is_public());
            (Served::ByAddress(Arc::new(by_address)), Some(addresses))
        } else {
            let places = vec![None];
            let serving = Serving::new(key, places, challenges.certificates(), now)?;
            (Served::Everywhere(Arc::new(serving)), None)
        };
        let mut keepers = Vec::new();
        if let ServerName::DnsName(name) = acme.host.server_name() {
            let subject = Subject::Name(name);
            let profile = acme.profile.clone();
            let keeper = keeper(&subject, &store, &authority, profile, &numbers)?;
            if let Some(held) = keeper.held() {
                server.set(&subject, &held, now);
            }
            keepers.push(Arc::new(keeper));
        } else if let (Served::ByAddress(by_address), Some(ip)) = (&server, acme.host.ip()) {
            // It is known which address clients come to: the first of them need not wait.
            let _serving = by_address.serving(ip, now);
        }
        numbers.note_served(keepers.iter().map(|keeper| end(keeper)));
        Ok(Self {
            server,
            keepers,
            more: Mutex::default(),
            addresses: AsyncMutex::new(addresses),
            store,
            authority,
            numbers,
        })
    }

    pub(super) fn config(&self) -> Arc<dyn ConfigFor> {
        match &self.server {
            Served::Everywhere(serving) => Arc::clone(serving.tls()) as Arc<dyn ConfigFor>,
            Served::ByAddress(by_address) => Arc::clone(by_address) as Arc<dyn ConfigFor>,
        }
    }

    pub(super) fn servings(&self) -> Vec<Arc<Serving>> {
        match &self.server {
            Served::Everywhere(serving) => vec![Arc::clone(serving)],
            Served::ByAddress(by_address) => by_address.all(),
        }
    }

    fn keepers(&self) -> Vec<Arc<Keeper>> {
        let more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        self.keepers.iter().chain(more.iter()).cloned().collect()
    }

    pub(super) fn warn_of_expiry(&self, now: SystemTime) {
        for keeper in self.keepers() {
            if let Some(held) = keeper.held() {
                warn_of_expiry(keeper.subject(), held.life(), now);
            }
        }
    }

    /// Orders that wait after a failure are tried again at once.
    pub(super) fn hurry(&self) {
        for keeper in self.keepers() {
            keeper.hurry();
        }
    }

    /// Orders what there is to order. None of the tasks ends.
    pub(super) fn spawn(self: &Arc<Self>, tasks: &mut JoinSet<Infallible>) {
        for keeper in &self.keepers {
            tasks.spawn(Arc::clone(self).keep(Arc::clone(keeper)));
        }
        tasks.spawn(Arc::clone(self).keep_addresses());
    }

    async fn keep(self: Arc<Self>, keeper: Arc<Keeper>) -> Infallible {
        let subject = keeper.subject().clone();
        keeper
            .keep(|held| {
                let now = clock::wall();
                self.server.set(&subject, held, now);
                self.note_held();
            })
            .await;
        std::future::pending().await
    }

    /// Has certificates ordered for the addresses that clients come to.
    async fn keep_addresses(self: Arc<Self>) -> Infallible {
        let receiver = self.addresses.lock().await.take();
        let Some(mut receiver) = receiver else {
            return std::future::pending().await;
        };
        let mut tasks = JoinSet::new();
        while let Some(ip) = receiver.recv().await {
            let subject = Subject::Ip(ip);
            let keeper = match keeper(&subject, &self.store, &self.authority, None, &self.numbers) {
                Ok(keeper) => Arc::new(keeper),
                Err(err) => {
                    tracing::error!(error = chain(&*err), "no certificate for {subject}");
                    continue;
                }
            };
            if let Some(held) = keeper.held() {
                self.server.set(&subject, &held, clock::wall());
            }
            self.more
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Arc::clone(&keeper));
            self.note_held();
            tasks.spawn(Arc::clone(&self).keep(keeper));
        }
        std::future::pending().await
    }

    fn note_held(&self) {
        let keepers = self.keepers();
        self.numbers
            .note_served(keepers.iter().map(|keeper| end(keeper)));
    }
}

impl Served {
    fn set(&self, subject: &Subject, held: &Held, now: SystemTime) {
        let certificate = from_held(subject, held);
        match (self, subject) {
            (Self::Everywhere(serving), _) => {
                if let Err(err) = serving.set(0, certificate, now) {
                    tracing::error!(error = chain(&err), "the old certificate stays");
                }
            }
            (Self::ByAddress(by_address), Subject::Name(_)) => {
                by_address.set_name(&certificate, now);
            }
            (Self::ByAddress(by_address), Subject::Ip(ip)) => {
                by_address.set_address(*ip, certificate, now);
            }
        }
    }
}

fn end(keeper: &Keeper) -> Option<SystemTime> {
    keeper.held().map(|held| held.life().not_after)
}

/// As the reference serves them: a name to those who ask for it, an address to those who name
/// nobody.
fn from_held(subject: &Subject, held: &Held) -> ServedCertificate {
    let names = match subject {
        Subject::Name(name) => SniPolicy::Exact(name.as_ref().to_owned()),
        Subject::Ip(_) => SniPolicy::OneOf {
            names: Vec::new(),
            or_none: true,
        },
    };
    ServedCertificate {
        names,
        chain: held.certified().into(),
    }
}

/// The kind of certificate that Let's Encrypt gives for addresses.
const SHORT_LIVED: &str = "shortlived";

fn keeper(
    subject: &Subject,
    store: &Store,
    authority: &Arc<Acme>,
    profile: Option<String>,
    numbers: &CertNumbers,
) -> anyhow::Result<Keeper> {
    let profile = match subject {
        Subject::Name(_) => profile,
        Subject::Ip(_) => Some(SHORT_LIVED.to_owned()),
    };
    let keeper = Keeper::new(
        subject.clone(),
        store.clone(),
        Arc::clone(authority) as Arc<dyn Authority>,
        Arc::new(clock::wall),
        Arc::clone(numbers.orders()),
    )?;
    Ok(keeper.profile(profile))
}
