//! Certificates in files, which somebody else renews or a command of the operator's.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use derp_certs::FailureKind;
use derp_certs::schedule::{self, Life};
use derp_ops::secret_file::OpenMode;
use derp_proto::NodePublic;
use derp_server::tls::ServedCertificate;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::expiry::warn_of_expiry;
use crate::clock;
use crate::host::Host;
use crate::problem::chain;
use crate::tls::challenges::Challenges;
use crate::tls::hook::Hook;
use crate::tls::numbers::CertNumbers;
use crate::tls::serving::Serving;
use crate::tls::watch::{self, Seen, Watched};
use crate::tls::{Certificates, Files, NameRule, Pair};

pub(super) struct FromFiles {
    host: Host,
    serving: Arc<Serving>,
    state: Mutex<State>,
    /// The command's settings are new.
    hook_changed: Notify,
    numbers: Arc<CertNumbers>,
}

struct State {
    watched: Vec<Watched>,
    on_open: OpenMode,
    hook: Option<Hook>,
}

impl FromFiles {
    pub(super) fn new(
        files: Files,
        host: Host,
        key: NodePublic,
        challenges: &Challenges,
        numbers: Arc<CertNumbers>,
        now: SystemTime,
    ) -> anyhow::Result<Self> {
        let places = files.pairs.iter().map(served).collect();
        let serving = Arc::new(Serving::new(key, places, challenges.certificates(), now)?);
        let watched: Vec<_> = files.pairs.iter().map(Watched::new).collect();
        note_served(&numbers, &watched);
        let state = State {
            watched,
            on_open: files.on_open,
            hook: files.hook,
        };
        Ok(Self {
            host,
            serving,
            state: Mutex::new(state),
            hook_changed: Notify::new(),
            numbers,
        })
    }

    pub(super) fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn warn_of_expiry(&self, now: SystemTime) {
        for watched in &self.state().watched {
            if let Some(life) = watched.life() {
                warn_of_expiry(&watched.files().cert.display(), life, now);
            }
        }
    }

    /// Changes over to what a new configuration says.
    pub(super) fn reload(&self, files: &Files, now: SystemTime) {
        let mut state = self.state();
        // The name that is served changes with a restart, and so must the certificate for it.
        let is_for_another =
            |pair: &&Pair| matches!(&pair.rule, NameRule::Host(host) if *host != self.host);
        if let Some(pair) = files.pairs.iter().find(is_for_another) {
            tracing::warn!(
                file = %pair.files.cert.display(),
                host = %self.host,
                "the old certificate stays, for this one is for another host name, which changes \
                 with a restart"
            );
        } else {
            let (places, watched) = files
                .pairs
                .iter()
                .map(|pair| better_of(pair, &state.watched, &self.serving, now))
                .unzip();
            if let Err(err) = self.serving.set_all(places, now) {
                tracing::error!(error = chain(&err), "the old certificate stays");
                return;
            }
            state.watched = watched;
        }
        state.on_open = files.on_open;
        state.hook = files.hook.clone();
        note_served(&self.numbers, &state.watched);
        self.hook_changed.notify_one();
    }

    /// Looks at the files, for ever.
    pub(super) async fn watch(self: Arc<Self>) -> Infallible {
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
    pub(super) fn look(&self, now: SystemTime) {
        let mut state = self.state();
        let on_open = state.on_open;
        for (place, watched) in state.watched.iter_mut().enumerate() {
            match watched.look(on_open, now) {
                Seen::Same => {}
                Seen::New(new) => self.take(place, &new, watched.rule(), now),
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

    fn take(&self, place: usize, new: &Certificates, rule: &NameRule, now: SystemTime) {
        let set = new
            .served(rule)
            .and_then(|served| self.serving.set(place, served, now));
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
    /// operator wants. Never ends.
    pub(super) async fn run_hook(self: Arc<Self>) -> Infallible {
        let mut failures = 0;
        let mut has_run = false;
        loop {
            let (hook, files, not_after, due_in) = {
                let state = self.state();
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
                self.hook_changed.notified().await;
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
                () = self.hook_changed.notified() => {
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

fn note_served(numbers: &CertNumbers, watched: &[Watched]) {
    numbers.note_served(watched.iter().map(Watched::not_after));
}

/// How long until a third of the certificate's life is left; no time where there is none.
fn due_in(watched: &Watched, now: SystemTime) -> Duration {
    let due = watched
        .life()
        .map(|life| schedule::renew_at(life, None, 0.0));
    due.and_then(|due| due.duration_since(now).ok())
        .unwrap_or_default()
}
