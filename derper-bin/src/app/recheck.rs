//! Clients that are connected and no longer may be: they are closed when a verifier says so, and
//! only then. A verifier that gives no answer changes nothing for anybody whom it has admitted.
//!
//! Lists of keys are followed beside it: when one changes, all clients are looked at at once.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use derp_proto::{NodePublic, PeerPresentFlags};
use derp_server::{ClientSnapshot, Server};
use derp_verify::{AllowlistChange, AllowlistError, Candidate, ConnMeta, Verifier, watch_file};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::admit::Admit;
use super::verifiers::Verifiers;
use crate::problem::chain;

/// What became of connected clients that were asked about again.
#[derive(Debug, Default)]
pub(super) struct Rechecks {
    kept: AtomicU64,
    closed: AtomicU64,
    no_answer: AtomicU64,
}

impl Rechecks {
    /// Each result with how often it came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("kept", &self.kept),
            ("closed", &self.closed),
            ("no_answer", &self.no_answer),
        ]
        .into_iter()
        .map(|(result, count)| (result, count.load(Ordering::Relaxed)))
    }
}

/// Follows lists and asks again about clients, by the verifiers of the moment, for ever.
pub(super) async fn keep_admission(admit: Arc<Admit>, server: Server, rechecks: Arc<Rechecks>) {
    let mut current = admit.follow();
    let mut are_new = false;
    loop {
        let verifiers = Arc::clone(&current.borrow_and_update());
        let lists_changed = Arc::new(Notify::new());
        let mut beside = JoinSet::new();
        follow_lists(&verifiers, &lists_changed, &mut beside);
        for nodes in verifiers.nodes() {
            beside.spawn(async move { nodes.keep_fresh().await });
        }
        let round = Round {
            server: &server,
            verifiers: &verifiers,
            rechecks: &rechecks,
        };
        // Whoever is here was admitted by the verifiers before these.
        if are_new {
            lists_changed.notify_one();
        }
        tokio::select! {
            () = round.at_changes(&lists_changed) => {}
            () = round.now_and_then() => {}
            () = round.at_ends() => {}
            () = round.forget_who_left() => {}
            replaced = current.changed() => if replaced.is_err() { return },
        }
        are_new = true;
    }
}

/// Has the files of lists looked at, and reads those again that have changed.
fn follow_lists(verifiers: &Verifiers, changed: &Arc<Notify>, beside: &mut JoinSet<()>) {
    let lists = verifiers.lists();
    if let Some(list) = lists.allow.clone() {
        let path = list.path().map(PathBuf::from);
        follow(path, changed, beside, move || list.reload());
    }
    if let Some(list) = lists.deny.clone() {
        let path = list.path().map(PathBuf::from);
        follow(path, changed, beside, move || list.reload());
    }
}

fn follow<F>(path: Option<PathBuf>, changed: &Arc<Notify>, beside: &mut JoinSet<()>, reload: F)
where
    F: Fn() -> Result<AllowlistChange, AllowlistError> + Clone + Send + 'static,
{
    let Some(path) = path else { return };
    let changed = Arc::clone(changed);
    beside.spawn(async move {
        let file = path.display().to_string();
        let look = move || match reload() {
            Ok(AllowlistChange {
                added: 0,
                removed: 0,
            }) => {}
            Ok(AllowlistChange { added, removed }) => {
                tracing::info!(file, added, removed, "a list of keys has changed");
                changed.notify_one();
            }
            Err(err) => {
                tracing::error!(error = chain(&err), "the old list of keys stays");
            }
        };
        watch_file(&path, LOOK_AT_LISTS, look).await;
    });
}

/// Asking about connected clients, by one set of verifiers.
struct Round<'a> {
    server: &'a Server,
    verifiers: &'a Arc<Verifiers>,
    rechecks: &'a Arc<Rechecks>,
}

impl Round<'_> {
    /// Asks about everybody when a list has changed. Others' last answers do for that.
    ///
    /// Whoever was in the middle of a login then may have been admitted by the list as it was, and
    /// is here once no login can have begun before the change: so everybody is asked about again.
    async fn at_changes(&self, changed: &Notify) {
        let mut again = None;
        loop {
            let again_at = async {
                match again {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            again = tokio::select! {
                () = changed.notified() => {
                    Some(Instant::now() + self.server.tunables().login_timeout + WAKE_UP)
                }
                () = again_at => None,
            };
            self.ask_about(self.server.clients(), false).await;
        }
    }

    /// Asks about each client once in every interval. When in it is each client's own time, so
    /// that verifiers are not asked about all of them at once.
    async fn now_and_then(&self) {
        let Some(every) = self.verifiers.interval() else {
            return std::future::pending().await;
        };
        let slots = slots(every);
        let hasher = RandomState::new();
        let mut silence = Silence::default();
        let mut ticks = interval(every / slots);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for slot in (0..slots).cycle() {
            ticks.tick().await;
            let mut clients = self.server.clients();
            if slot == 0 {
                let unanswered = self.rechecks.no_answer.load(Ordering::Relaxed);
                silence.look(unanswered, Instant::now());
            }
            clients
                .retain(|client| hasher.hash_one(client.key) % u64::from(slots) == u64::from(slot));
            self.ask_about(clients, true).await;
        }
    }

    /// Asks about those whose verdicts have ended.
    async fn at_ends(&self) {
        loop {
            let ended: HashSet<NodePublic> =
                self.verifiers.ends().ended().await.into_iter().collect();
            let mut clients = self.server.clients();
            clients.retain(|client| ended.contains(&client.key));
            self.ask_about(clients, true).await;
        }
    }

    /// Forgets now and then who admitted clients that are gone.
    async fn forget_who_left(&self) {
        let mut ticks = interval(FORGET);
        loop {
            ticks.tick().await;
            let clients = self.server.clients();
            let here = clients.iter().map(|client| client.key).collect();
            self.verifiers.admitters().retain(&here);
        }
    }

    async fn ask_about(&self, mut clients: Vec<ClientSnapshot>, anew: bool) {
        // Relays of the region are here by their key, and a client's connections are one client.
        let mut seen: HashSet<NodePublic> = HashSet::new();
        clients.retain(|client| {
            !client.flags.contains(PeerPresentFlags::MESH_PEER) && seen.insert(client.key)
        });
        let mut asked = JoinSet::new();
        for client in clients {
            if asked.len() >= AT_ONCE {
                asked.join_next().await;
            }
            let verifiers = Arc::clone(self.verifiers);
            let rechecks = Arc::clone(self.rechecks);
            let server = self.server.clone();
            asked.spawn(async move { ask(client, anew, &verifiers, &server, &rechecks).await });
        }
        while asked.join_next().await.is_some() {}
    }
}

async fn ask(
    client: ClientSnapshot,
    anew: bool,
    verifiers: &Verifiers,
    server: &Server,
    rechecks: &Rechecks,
) {
    let mut conn = ConnMeta::default();
    conn.socket_peer = client.addr;
    let mut candidate = Candidate::new(client.key, &conn);
    candidate.is_recheck = anew;
    let admitter = verifiers.admitter_of(&client.key);
    candidate.admitted_by = admitter.as_deref();
    match verifiers.verify(&candidate).await {
        Ok(verdict) if verdict.allow => {
            rechecks.kept.fetch_add(1, Ordering::Relaxed);
        }
        Ok(verdict) => {
            let reason = format!("no longer admitted: {}", verdict.reason);
            server.close_client(&client.key, &reason);
            rechecks.closed.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => {
            tracing::debug!(client = ?client.key, error = chain(&error), "may stay, unverified");
            rechecks.no_answer.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// For how long there were clients of whom no verifier said anything, and whether that was told.
#[derive(Debug, Default)]
struct Silence {
    unanswered: u64,
    since: Option<Instant>,
    is_told: bool,
}

impl Silence {
    /// Looks once everybody was asked about, of whom `unanswered` were left without an answer since
    /// the relay began.
    fn look(&mut self, unanswered: u64, now: Instant) {
        let before = std::mem::replace(&mut self.unanswered, unanswered);
        if unanswered == before {
            if self.is_told {
                tracing::info!("connected clients are verified again");
            }
            (self.since, self.is_told) = (None, false);
            return;
        }
        let since = *self.since.get_or_insert(now);
        if !self.is_told && now.duration_since(since) >= SILENCE {
            self.is_told = true;
            tracing::warn!(
                clients = unanswered - before,
                "nobody says whether these connected clients still may be here, and so they stay; \
                 see that the verifiers answer"
            );
        }
    }
}

/// Into how many parts an interval is divided, of a quarter second or more each.
fn slots(every: Duration) -> u32 {
    u32::try_from(every.as_millis() / 250).map_or(MOST_SLOTS, |slots| slots.clamp(1, MOST_SLOTS))
}

/// How often it is looked who has left.
const FORGET: Duration = Duration::from_secs(60);
/// After how long it is told that there are no answers about clients that are connected.
const SILENCE: Duration = Duration::from_secs(180);
/// How long it takes at most from the end of a login to the client's place among the others.
const WAKE_UP: Duration = Duration::from_secs(1);
/// How often the files of lists are looked at.
const LOOK_AT_LISTS: Duration = Duration::from_secs(1);
/// How many clients are asked about at once. Half of what a verifier may be asked at a time stays
/// for those who log in.
const AT_ONCE: usize = 32;
/// How many parts an interval has at most: for each, all clients are looked through.
const MOST_SLOTS: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_of_minutes_is_told_once_and_its_end_too() {
        let t = Instant::now();
        let mut silence = Silence::default();
        let mut told = |unanswered, minute: u64| {
            silence.look(unanswered, t + Duration::from_secs(60 * minute));
            silence.is_told
        };
        let looks = [(0, 0), (3, 1), (6, 2), (9, 4), (12, 5), (12, 6), (15, 7)];
        let looks = looks.map(|(unanswered, minute)| told(unanswered, minute));
        assert_eq!(looks, [false, false, false, true, true, false, false]);
    }
}
