//! Looks after the relay's certificates while it runs: sees files change, runs the operator's
//! command, has certificates ordered, and tells the log and the metrics what an operator must
//! know.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use derp_certs::schedule::{self, Life};
use derp_certs::{Acme, Authority, FailureKind, Held, Keeper, Responder, Store, Subject};
use derp_proto::NodePublic;
use derp_server::tls::{ConfigFor, ServedCertificate, SniPolicy};
use rustls_pki_types::ServerName;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::by_address::ByAddress;
use super::challenges::Challenges;
use super::hook::Hook;
use super::load::load;
use super::numbers::CertNumbers;
use super::serving::Serving;
use super::watch::{self, Seen, Watched};
use super::{CertFiles, Certificates, Files, NameRule, Pair, self_signed};
use crate::clock;
use crate::config::{self, Tls};
use crate::host::Host;
use crate::problem::chain;
use crate::random;

/// How often it is looked whether certificates expire, and whether the one with the relay's key is
/// old.
const DAILY: Duration = Duration::from_secs(24 * 60 * 60);
/// From when on an operator is told that a certificate expires.
const WARN_FROM: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// What looks after the relay's certificates. Shared by the relay's listeners and its tasks.
pub struct Caretaker {
    host: Host,
    pin: Option<String>,
    source: Source,
    numbers: Arc<CertNumbers>,
}

enum Source {
    Files {
        serving: Arc<Serving>,
        state: Arc<Mutex<FilesState>>,
        /// The command's settings are new.
        hook_changed: Notify,
    },
    Acme {
        server: Served,
        /// For the relay's name, or its address.
        keepers: Vec<Arc<Keeper>>,
        more: Mutex<Vec<Arc<Keeper>>>,
        /// Addresses to order for, as clients come there.
        addresses: AsyncMutex<Option<mpsc::Receiver<std::net::IpAddr>>>,
        store: Store,
        authority: Arc<Acme>,
    },
}

/// Who gets what an authority gives.
#[derive(Clone)]
enum Served {
    Everywhere(Arc<Serving>),
    ByAddress(Arc<ByAddress>),
}

struct FilesState {
    watched: Vec<Watched>,
    on_open: derp_ops::secret_file::OpenMode,
    hook: Option<Hook>,
}

impl fmt::Debug for Caretaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caretaker")
            .field("host", &self.host)
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
            Tls::Files(files) => Ok(files),
            Tls::Create {
                files,
                lifetime,
                on_open,
            } => Ok(make(files, host, lifetime, on_open, now)?),
            Tls::Acme(acme) => Err(acme),
        };
        let pin = files.as_ref().ok().and_then(Files::self_signed_pin);
        let source = match files {
            Ok(files) => from_files(files, key, challenges, &numbers, now)?,
            Err(acme) => from_authority(&acme, key, challenges, &numbers, now)?,
        };
        Ok(Some(Self {
            host: host.clone(),
            pin,
            source,
            numbers,
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
            Source::Files { serving, .. } => Arc::clone(serving.tls()) as Arc<dyn ConfigFor>,
            Source::Acme { server, .. } => match server {
                Served::Everywhere(serving) => Arc::clone(serving.tls()) as Arc<dyn ConfigFor>,
                Served::ByAddress(by_address) => Arc::clone(by_address) as Arc<dyn ConfigFor>,
            },
        }
    }

    /// Changes over to what a new configuration says, as far as that can be without a restart. An
    /// order that waits after a failure is tried again at once.
    pub fn reload(&self, tls: &mut Tls, now: SystemTime) {
        match (&self.source, tls) {
            (
                Source::Files {
                    serving,
                    state,
                    hook_changed,
                },
                Tls::Files(files),
            ) => {
                // The name that is served changes with a restart.
                for pair in &mut files.pairs {
                    if let NameRule::Host(host) = &mut pair.rule {
                        host.clone_from(&self.host);
                    }
                }
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let (places, watched) = files
                    .pairs
                    .iter()
                    .map(|pair| better_of(pair, &state.watched, serving, now))
                    .unzip();
                if let Err(err) = serving.set_all(places, now) {
                    tracing::error!(error = chain(&err), "the old certificate stays");
                    return;
                }
                state.watched = watched;
                state.on_open = files.on_open;
                state.hook = files.hook.clone();
                note_served(&self.numbers, &state.watched);
                hook_changed.notify_one();
            }
            (Source::Acme { keepers, more, .. }, Tls::Acme(_)) => {
                let more = more.lock().unwrap_or_else(PoisonError::into_inner);
                for keeper in keepers.iter().chain(more.iter()) {
                    keeper.hurry();
                }
            }
            (_, Tls::Create { .. } | Tls::Off) => {}
            _ => tracing::warn!("where certificates come from changes with a restart"),
        }
    }

    /// Looks after them. Never ends.
    pub async fn run(self: Arc<Self>) -> Infallible {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self).every_day());
        match &self.source {
            Source::Files { .. } => {
                tasks.spawn(Arc::clone(&self).watch_files());
                tasks.spawn(Arc::clone(&self).run_hook());
            }
            Source::Acme { keepers, .. } => {
                for keeper in keepers {
                    tasks.spawn(Arc::clone(&self).keep(Arc::clone(keeper)));
                }
                tasks.spawn(Arc::clone(&self).keep_addresses());
            }
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
                Source::Files { serving, state, .. } => {
                    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    for watched in &state.watched {
                        if let Some(life) = watched.life() {
                            warn_of_expiry(&watched.files().cert.display(), life, now);
                        }
                    }
                    vec![Arc::clone(serving)]
                }
                Source::Acme {
                    server,
                    keepers,
                    more,
                    ..
                } => {
                    let more = more.lock().unwrap_or_else(PoisonError::into_inner);
                    for keeper in keepers.iter().chain(more.iter()) {
                        if let Some(held) = keeper.held() {
                            warn_of_expiry(keeper.subject(), held.life(), now);
                        }
                    }
                    match server {
                        Served::Everywhere(serving) => vec![Arc::clone(serving)],
                        Served::ByAddress(by_address) => by_address.all(),
                    }
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

    async fn watch_files(self: Arc<Self>) -> Infallible {
        loop {
            sleep(watch::EVERY).await;
            let own = Arc::clone(&self);
            // Files may be on a disk that is slow, or gone.
            let look = move || own.look(clock::wall());
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                tracing::error!(%error, "cannot look at the certificate files");
            }
        }
    }

    /// Takes new certificates from files that have changed. Blocks while they are read.
    pub fn look(&self, now: SystemTime) {
        let Source::Files { serving, state, .. } = &self.source else {
            return;
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let on_open = state.on_open;
        for (place, watched) in state.watched.iter_mut().enumerate() {
            match watched.look(on_open, now) {
                Seen::Same => {}
                Seen::New(new) => self.take(serving, place, &new, watched.rule(), now),
                Seen::Bad(err) => {
                    self.numbers.note_rejected();
                    let stays = match watched.not_after() {
                        Some(_) => "the old certificate stays",
                        None => "no certificate is served",
                    };
                    tracing::error!(error = chain(&err), "{stays}");
                }
            }
        }
        let bad = state.watched.iter().filter(|watched| watched.is_bad());
        self.numbers.note_bad(bad.count());
        note_served(&self.numbers, &state.watched);
    }

    fn take(
        &self,
        serving: &Serving,
        place: usize,
        new: &Certificates,
        rule: &NameRule,
        now: SystemTime,
    ) {
        let set = new
            .served(rule)
            .and_then(|served| serving.set(place, served, now));
        match set {
            Ok(()) => {
                self.numbers.note_reload();
                for warning in &new.warnings {
                    tracing::warn!("{warning}");
                }
                if let Some(too_open) = &new.too_open {
                    tracing::warn!("{too_open}");
                }
                let file = new.files.cert.display();
                tracing::info!(%file, "a new certificate is served");
            }
            Err(err) => {
                self.numbers.note_rejected();
                tracing::error!(error = chain(&err), "the old certificate stays");
            }
        }
    }

    /// Runs the operator's command when a certificate is missing or due, and else as often as the
    /// operator wants.
    async fn run_hook(self: Arc<Self>) -> Infallible {
        let Source::Files {
            state,
            hook_changed,
            ..
        } = &self.source
        else {
            return std::future::pending().await;
        };
        let mut failures = 0;
        let mut has_run = false;
        loop {
            let (hook, files, not_after, due_in) = {
                let state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let first = state.watched.first();
                let now = clock::wall();
                let due_in = state
                    .watched
                    .iter()
                    .map(|watched| due_in(watched, now))
                    .min();
                (
                    state.hook.clone(),
                    first.map(|watched| watched.files().clone()),
                    first.and_then(Watched::not_after),
                    due_in.unwrap_or_default(),
                )
            };
            let (Some(hook), Some(files)) = (hook, files) else {
                hook_changed.notified().await;
                continue;
            };
            let pause = match failures {
                // It has run, and the certificate is no better: there is no use in hurrying.
                0 if has_run && due_in.is_zero() => hook.every.min(schedule::MAX_PAUSE),
                0 => hook.every.min(due_in),
                _ => schedule::pause(failures, FailureKind::Refused, None, 0.0),
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = hook_changed.notified() => {
                    failures = 0;
                    continue;
                }
            }
            has_run = true;
            let result = hook.run(&self.host, &files, not_after).await;
            self.numbers.note_hook(result.is_ok());
            match result {
                Ok(()) => {
                    failures = 0;
                    let own = Arc::clone(&self);
                    let look = move || own.look(clock::wall());
                    // Whatever is wrong with the files, the next look will say.
                    let _looked = tokio::task::spawn_blocking(look).await;
                }
                Err(err) => {
                    failures += 1;
                    tracing::error!(error = chain(&err), failures, "no new certificate");
                }
            }
        }
    }

    async fn keep(self: Arc<Self>, keeper: Arc<Keeper>) -> Infallible {
        let subject = keeper.subject().clone();
        keeper
            .keep(|held| {
                let now = clock::wall();
                if let Source::Acme { server, .. } = &self.source {
                    server.set(&subject, held, now);
                }
                self.note_held();
            })
            .await;
        std::future::pending().await
    }

    /// Has certificates ordered for the addresses that clients come to.
    async fn keep_addresses(self: Arc<Self>) -> Infallible {
        let Source::Acme {
            server,
            more,
            addresses,
            store,
            authority,
            ..
        } = &self.source
        else {
            return std::future::pending().await;
        };
        let receiver = addresses.lock().await.take();
        let Some(mut receiver) = receiver else {
            return std::future::pending().await;
        };
        let mut tasks = JoinSet::new();
        while let Some(ip) = receiver.recv().await {
            let subject = Subject::Ip(ip);
            let keeper = match keeper(&subject, store, authority, None, &self.numbers) {
                Ok(keeper) => Arc::new(keeper),
                Err(err) => {
                    tracing::error!(error = chain(&*err), "no certificate for {subject}");
                    continue;
                }
            };
            if let Some(held) = keeper.held() {
                server.set(&subject, &held, clock::wall());
            }
            more.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Arc::clone(&keeper));
            self.note_held();
            tasks.spawn(Arc::clone(&self).keep(keeper));
        }
        std::future::pending().await
    }

    fn note_held(&self) {
        let Source::Acme { keepers, more, .. } = &self.source else {
            return;
        };
        let more = more.lock().unwrap_or_else(PoisonError::into_inner);
        let held = keepers.iter().chain(more.iter());
        let ends: Vec<_> = held
            .filter_map(|keeper| keeper.held())
            .map(|held| held.life().not_after)
            .collect();
        self.numbers
            .note_served(ends.len(), ends.iter().min().copied());
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

fn make(
    files: CertFiles,
    host: &Host,
    lifetime: Duration,
    on_open: derp_ops::secret_file::OpenMode,
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

/// What `pair` holds, or what is served from the same files already, where they hold nothing now or
/// what is out of date.
fn better_of(
    pair: &Pair,
    watched: &[Watched],
    serving: &Serving,
    now: SystemTime,
) -> (Option<ServedCertificate>, Watched) {
    let is_in_date = |life: Life| life.not_before <= now && now <= life.not_after;
    let new_is_good = pair
        .loaded
        .as_ref()
        .is_some_and(|loaded| is_in_date(loaded.life));
    let old = watched
        .iter()
        .position(|old| *old.files() == pair.files && old.rule() == &pair.rule);
    if !new_is_good
        && let Some(place) = old
        && let Some(certificate) = serving.get(place)
        && (pair.loaded.is_none() || watched[place].life().is_some_and(is_in_date))
    {
        return (Some(certificate), watched[place].clone());
    }
    (served(pair), Watched::new(pair))
}

fn served(pair: &Pair) -> Option<ServedCertificate> {
    let loaded = pair.loaded.as_ref()?;
    // They were loaded with the same library that refuses them here.
    loaded.served(&pair.rule).ok()
}

fn from_files(
    files: Files,
    key: NodePublic,
    challenges: &Challenges,
    numbers: &CertNumbers,
    now: SystemTime,
) -> anyhow::Result<Source> {
    let places = files.pairs.iter().map(served).collect();
    let serving = Arc::new(Serving::new(key, places, challenges.certificates(), now)?);
    let watched: Vec<_> = files.pairs.iter().map(Watched::new).collect();
    note_served(numbers, &watched);
    let state = FilesState {
        watched,
        on_open: files.on_open,
        hook: files.hook,
    };
    Ok(Source::Files {
        serving,
        state: Arc::new(Mutex::new(state)),
        hook_changed: Notify::new(),
    })
}

fn from_authority(
    acme: &config::Acme,
    key: NodePublic,
    challenges: &Arc<Challenges>,
    numbers: &Arc<CertNumbers>,
    now: SystemTime,
) -> anyhow::Result<Source> {
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
        let keeper = keeper(&subject, &store, &authority, profile, numbers)?;
        if let Some(held) = keeper.held() {
            server.set(&subject, &held, now);
        }
        keepers.push(Arc::new(keeper));
    } else if let (Served::ByAddress(by_address), Some(ip)) = (&server, acme.host.ip()) {
        // It is known which address clients come to: the first of them need not wait.
        let _serving = by_address.serving(ip, now);
    }
    let ends = keepers
        .iter()
        .filter_map(|keeper| keeper.held())
        .map(|held| held.life().not_after)
        .min();
    numbers.note_served(usize::from(ends.is_some()), ends);
    Ok(Source::Acme {
        server,
        keepers,
        more: Mutex::default(),
        addresses: AsyncMutex::new(addresses),
        store,
        authority,
    })
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

fn note_served(numbers: &CertNumbers, watched: &[Watched]) {
    let ends: Vec<_> = watched.iter().filter_map(Watched::not_after).collect();
    numbers.note_served(ends.len(), ends.iter().min().copied());
}

/// How long until a third of the certificate's life is left; no time where there is none.
fn due_in(watched: &Watched, now: SystemTime) -> Duration {
    let due = watched
        .life()
        .map(|life| schedule::renew_at(life, None, 0.0));
    due.and_then(|due| due.duration_since(now).ok())
        .unwrap_or_default()
}

/// Tells of a certificate near its end; `what` is its file, or whom it is for.
fn warn_of_expiry(what: &dyn fmt::Display, life: Life, now: SystemTime) {
    match expiry(life, now) {
        Expiry::Far => {}
        Expiry::Near(left) => {
            let days = left.as_secs() / DAILY.as_secs();
            tracing::warn!(certificate = %what, days, "a certificate expires soon, and nobody has replaced it");
        }
        Expiry::Past => {
            tracing::error!(certificate = %what, "a certificate has expired; clients refuse it");
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Expiry {
    Far,
    Near(Duration),
    Past,
}

/// A certificate that never lives for long is near its end when a third of its life is left.
fn expiry(life: Life, now: SystemTime) -> Expiry {
    let Ok(left) = life.not_after.duration_since(now) else {
        return Expiry::Past;
    };
    let length = life
        .not_after
        .duration_since(life.not_before)
        .unwrap_or_default();
    if left < WARN_FROM.min(length / 3) {
        Expiry::Near(left)
    } else {
        Expiry::Far
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_weeks_before_its_end_a_certificate_is_mentioned() {
        let day = |n: u32| SystemTime::UNIX_EPOCH + 20_000 * DAILY + n * DAILY;
        let life = |days| Life {
            not_before: day(0),
            not_after: day(days),
        };
        assert_eq!(expiry(life(90), day(75)), Expiry::Far);
        assert_eq!(expiry(life(90), day(77)), Expiry::Near(13 * DAILY));
        assert_eq!(expiry(life(90), day(91)), Expiry::Past);
        assert_eq!(expiry(life(6), day(1)), Expiry::Far);
        assert_eq!(expiry(life(6), day(5)), Expiry::Near(DAILY));
    }
}
