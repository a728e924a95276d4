//! Looks after the relay's certificates while it runs: sees files change, runs the operator's
//! command, has certificates ordered, and tells the log and the metrics what an operator must
//! know.

mod expiry;
mod from_authority;
mod from_files;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use derp_ops::secret_file::OpenMode;
use derp_proto::NodePublic;
use derp_server::tls::ConfigFor;
use tokio::task::JoinSet;

use self::from_authority::FromAuthority;
use self::from_files::FromFiles;
use super::challenges::Challenges;
use super::load::load;
use super::numbers::CertNumbers;
use super::{CertFiles, Files, NameRule, Pair, self_signed};
use crate::clock;
use crate::config::Tls;
use crate::host::Host;
use crate::problem::chain;
use crate::random;

/// How often it is looked whether certificates expire, and whether the one with the relay's key is
/// old.
const DAILY: Duration = Duration::from_secs(24 * 60 * 60);

/// What looks after the relay's certificates. Shared by the relay's listeners and its tasks.
pub struct Caretaker {
    pin: Option<String>,
    source: Source,
}

enum Source {
    Files(Arc<FromFiles>),
    Authority(Arc<FromAuthority>),
}

impl fmt::Debug for Caretaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caretaker")
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

impl Caretaker {
    /// Makes, loads or finds the certificates that `tls` speaks of; `None` where there is no TLS.
    /// `key` is the relay's own. Answers to authorities' checks are put into `challenges`.
    ///
    /// # Errors
    /// A file cannot be written or used.
    pub fn new(
        tls: Tls,
        host: &Host,
        key: NodePublic,
        challenges: &Arc<Challenges>,
        numbers: Arc<CertNumbers>,
        now: SystemTime,
    ) -> anyhow::Result<Option<Self>> {
        let files = match tls {
            Tls::Off => return Ok(None),
            Tls::Files(files) => files,
            Tls::Create {
                files,
                lifetime,
                on_open,
            } => make(files, host, lifetime, on_open, now)?,
            Tls::Acme(acme) => {
                let authority = FromAuthority::new(&acme, key, challenges, numbers, now)?;
                return Ok(Some(Self {
                    pin: None,
                    source: Source::Authority(Arc::new(authority)),
                }));
            }
        };
        let pin = files.self_signed_pin();
        let files = FromFiles::new(files, host.clone(), key, challenges, numbers, now)?;
        Ok(Some(Self {
            pin,
            source: Source::Files(Arc::new(files)),
        }))
    }

    /// The hash by which clients know the certificate, where no authority vouches for it.
    #[must_use]
    pub fn pin(&self) -> Option<&str> {
        self.pin.as_deref()
    }

    /// For the TLS listener.
    #[must_use]
    pub fn config(&self) -> Arc<dyn ConfigFor> {
        match &self.source {
            Source::Files(files) => Arc::clone(files.serving().tls()) as Arc<dyn ConfigFor>,
            Source::Authority(authority) => authority.config(),
        }
    }

    /// Changes over to what a new configuration says, as far as that can be without a restart. An
    /// order that waits after a failure is tried again at once.
    pub fn reload(&self, tls: &Tls, now: SystemTime) {
        match (&self.source, tls) {
            (Source::Files(files), Tls::Files(new)) => files.reload(new, now),
            (Source::Authority(authority), Tls::Acme(_)) => authority.hurry(),
            (_, Tls::Create { .. } | Tls::Off) => {}
            _ => tracing::warn!("where certificates come from changes with a restart"),
        }
    }

    /// Takes new certificates from files that have changed. Blocks while they are read.
    pub fn look(&self, now: SystemTime) {
        if let Source::Files(files) = &self.source {
            files.look(now);
        }
    }

    /// Looks after them. Never ends.
    pub async fn run(self: Arc<Self>) -> Infallible {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self).every_day());
        match &self.source {
            Source::Files(files) => {
                tasks.spawn(Arc::clone(files).watch());
                tasks.spawn(Arc::clone(files).run_hook());
            }
            Source::Authority(authority) => authority.spawn(&mut tasks),
        }
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(never) => match never {},
                Err(error) => tracing::error!(%error, "a part of the certificates' care has ended"),
            }
        }
        std::future::pending().await
    }

    async fn every_day(self: Arc<Self>) -> Infallible {
        let mut days = tokio::time::interval(DAILY);
        loop {
            days.tick().await;
            let now = clock::wall();
            let servings = match &self.source {
                Source::Files(files) => {
                    files.warn_of_expiry(now);
                    vec![Arc::clone(files.serving())]
                }
                Source::Authority(authority) => {
                    authority.warn_of_expiry(now);
                    authority.servings()
                }
            };
            for serving in servings {
                if let Err(err) = serving.tls().renew_meta_certificate(now) {
                    let error = chain(&err);
                    tracing::warn!(error, "the relay's key certificate was not renewed");
                }
            }
        }
    }
}

fn make(
    files: CertFiles,
    host: &Host,
    lifetime: Duration,
    on_open: OpenMode,
    now: SystemTime,
) -> anyhow::Result<Files> {
    self_signed::create(&files, host, now, lifetime, random::serial())?;
    tracing::info!(certificate = %files.cert.display(), "made a self-signed certificate");
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let loaded = load(&files, Some(host), on_open, now, &provider)?;
    let pair = Pair {
        files,
        rule: NameRule::Host(host.clone()),
        loaded: Some(loaded),
    };
    Ok(Files {
        pairs: vec![pair],
        on_open,
        hook: None,
    })
}
