//! The probes that run at their intervals, and the map that says which (`prober/derp.go`).
//!
//! A probe is a task that runs it, waits, and runs it again; what came of it is noted on the
//! [`Board`]. Getting the map is a probe like the others, after which tasks are started and ended
//! until they are those that the map asks for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use derp_proto::DerpMap;
use thiserror::Error;
use tokio::sync::{Mutex as Turn, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::board::Board;
use super::news::News;
use crate::clock;
use crate::config::Config;
use crate::outcome::{Findings, Outcome};
use crate::plan::{Planned, plan};
use crate::probe::Prober;
use crate::report::{in_words, printable};
use crate::run::{self, MAP_PROBE};
use crate::subject::Subject;

/// How many probes run at a time. Each has two connections at most.
const AT_A_TIME: usize = 512;
/// For how long an old map serves while a new one cannot be got (`prober/derp.go`).
const MAP_SERVES: Duration = Duration::from_secs(10 * 60);

/// All probes. The tasks end when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    config: Config,
    prober: Prober,
    board: Arc<Board>,
    news: News,
    places: Arc<Semaphore>,
    /// For those that measure how much gets through.
    heavy: Arc<Semaphore>,
    watched: Mutex<BTreeMap<String, Watched>>,
    /// When the map was got last.
    map_at: Mutex<Option<Instant>>,
}

/// A probe, and the task that runs it.
#[derive(Debug)]
struct Watched {
    probe: Arc<Probe>,
    _task: Task,
}

/// A probe that runs at intervals.
#[derive(Debug)]
pub struct Probe {
    name: String,
    interval: Duration,
    subject: Arc<Subject>,
    /// What is run; `None` for the map.
    planned: Option<Planned>,
    /// Held by the run that is under way: there is one at a time.
    turn: Arc<Turn<()>>,
}

/// There was no turn for a run in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the probe is busy")]
pub struct Busy;

impl Probe {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often it runs.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    fn map(interval: Duration) -> Self {
        Self {
            name: MAP_PROBE.to_owned(),
            interval,
            subject: Arc::new(Subject::map()),
            planned: None,
            turn: Arc::default(),
        }
    }

    fn of(planned: Planned) -> Self {
        Self {
            name: planned.name.clone(),
            interval: planned.interval,
            subject: Arc::clone(&planned.subject),
            planned: Some(planned),
            turn: Arc::default(),
        }
    }
}

impl Fleet {
    /// Starts the probes of this configuration, of which the first gets the map.
    pub fn start(config: Config, prober: Prober, board: Arc<Board>, news: News) -> Arc<Self> {
        let map = Arc::new(Probe::map(config.map_interval));
        let fleet = Arc::new(Self {
            config,
            prober,
            board,
            news,
            places: Arc::new(Semaphore::new(AT_A_TIME)),
            heavy: Arc::new(Semaphore::new(1)),
            watched: Mutex::default(),
            map_at: Mutex::default(),
        });
        let watched = fleet.watch(map, Duration::ZERO);
        fleet.watched().insert(MAP_PROBE.to_owned(), watched);
        fleet
    }

    /// The probe of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Probe>> {
        Some(Arc::clone(&self.watched().get(name)?.probe))
    }

    /// All probes, by name.
    #[must_use]
    pub fn probes(&self) -> Vec<Arc<Probe>> {
        let watched = self.watched();
        watched
            .values()
            .map(|watched| Arc::clone(&watched.probe))
            .collect()
    }

    /// How old the map is.
    #[must_use]
    pub fn map_age(&self) -> Option<Duration> {
        self.map_at().map(|at| at.elapsed())
    }

    /// Runs the probe, after the run that is under way if there is one, and notes how it ended.
    /// Where the future is dropped, a run that has begun goes on.
    ///
    /// # Errors
    /// [`Busy`], where the turn does not come within `patience`.
    pub async fn run(
        self: &Arc<Self>,
        probe: &Arc<Probe>,
        patience: Duration,
    ) -> Result<Outcome, Busy> {
        let heavy = probe.planned.as_ref().is_some_and(Planned::is_heavy);
        let places = Arc::clone(if heavy { &self.heavy } else { &self.places });
        let in_turn = async {
            let turn = Arc::clone(&probe.turn).lock_owned().await;
            // They are never closed.
            let place = places.acquire_owned().await.map_err(|_| Busy)?;
            Ok((turn, place))
        };
        let begun = timeout(patience, in_turn).await.map_err(|_| Busy)??;
        let (fleet, probe) = (Arc::clone(self), Arc::clone(probe));
        let run = tokio::spawn(async move {
            let outcome = fleet.outcome(&probe).await;
            fleet.note(&outcome);
            drop(begun);
            outcome
        });
        run.await.map_err(|_| Busy)
    }

    async fn outcome(self: &Arc<Self>, probe: &Arc<Probe>) -> Outcome {
        self.board.begin(&probe.name, clock::wall());
        let (fleet, running) = (Arc::clone(self), Arc::clone(probe));
        let run = tokio::spawn(async move {
            match &running.planned {
                Some(planned) => run::run_one(&fleet.prober, planned).await,
                None => fleet.refresh(&running).await,
            }
        });
        // A fault of the probe must not pass for health.
        run.await.unwrap_or_else(|gone| Outcome {
            name: probe.name.clone(),
            subject: Arc::clone(&probe.subject),
            took: Duration::ZERO,
            result: Err(format!("the probe itself failed: {gone}")),
            findings: Findings::default(),
        })
    }

    fn note(&self, outcome: &Outcome) {
        let (name, took) = (printable(&outcome.name), outcome.took);
        if let Err(error) = &outcome.result {
            tracing::debug!(probe = name, ?took, error = printable(error), "bad");
        }
        let runs = self.config.service.runs_in_a_row;
        if let Some(change) = self.board.end(clock::wall(), outcome.clone(), runs) {
            match &outcome.result {
                Ok(()) => tracing::info!(probe = name, "good again"),
                Err(error) => tracing::warn!(probe = name, error = printable(error), "bad"),
            }
            self.news.tell(outcome, change);
        }
    }

    /// Gets the map, and has the probes that it asks for.
    async fn refresh(self: &Arc<Self>, map_probe: &Arc<Probe>) -> Outcome {
        let begin = Instant::now();
        let result = match run::load_map(&self.config, &self.prober).await {
            Ok(map) => self.follow(&map),
            Err(err)
                if err.is_transport() && self.map_age().is_some_and(|age| age < MAP_SERVES) =>
            {
                tracing::info!(error = in_words(&err), "the last map still serves");
                Ok(())
            }
            Err(err) => Err(in_words(&err)),
        };
        Outcome {
            name: MAP_PROBE.to_owned(),
            subject: Arc::clone(&map_probe.subject),
            took: begin.elapsed(),
            result,
            findings: Findings::default(),
        }
    }

    /// Starts and ends probes until they are those of the map. Where the map makes no sense as a
    /// whole, they stay what they are.
    fn follow(self: &Arc<Self>, map: &DerpMap) -> Result<(), String> {
        let planned = plan(map, &self.config.plan).map_err(|err| in_words(&err))?;
        *self.map_at() = Some(Instant::now());
        let mut planned: BTreeMap<_, _> = planned
            .into_iter()
            .map(|planned| (planned.name.clone(), planned))
            .collect();
        let mut watched = self.watched();
        let before = watched.len();
        watched.retain(|name, watched| {
            let Some(running) = &watched.probe.planned else {
                return true;
            };
            let stays = planned.get(name) == Some(running);
            if stays {
                planned.remove(name);
            } else if !planned.contains_key(name) {
                self.forget(running);
            }
            stays
        });
        let (ended, begun) = (before - watched.len(), planned.len());
        for (name, planned) in planned {
            let (interval, subject) = (planned.interval, Arc::clone(&planned.subject));
            self.board.put(&name, interval, subject);
            let delay = match self.config.spread {
                true => run::delay(&name, interval),
                false => Duration::ZERO,
            };
            let started = self.watch(Arc::new(Probe::of(planned)), delay);
            watched.insert(name, started);
        }
        if (ended, begun) != (0, 0) {
            tracing::info!(ended, begun, probes = watched.len(), "the map's probes");
        }
        Ok(())
    }

    /// Takes a probe off the board that the map does not ask for any more.
    fn forget(&self, probe: &Planned) {
        let Some(change) = self.board.remove(clock::wall(), &probe.name) else {
            return;
        };
        tracing::info!(probe = printable(&probe.name), "was bad, and is gone");
        let outcome = Outcome {
            name: probe.name.clone(),
            subject: Arc::clone(&probe.subject),
            took: Duration::ZERO,
            result: Err("the map does not ask for it any more".to_owned()),
            findings: Findings::default(),
        };
        self.news.tell(&outcome, change);
    }

    /// Runs the probe at its interval, first after `delay`.
    fn watch(self: &Arc<Self>, probe: Arc<Probe>, delay: Duration) -> Watched {
        if probe.planned.is_none() {
            let subject = Arc::clone(&probe.subject);
            self.board.put(&probe.name, probe.interval, subject);
        }
        let mut ticks = interval_at(Instant::now() + delay, probe.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (fleet, running) = (Arc::downgrade(self), Arc::clone(&probe));
        let task = tokio::spawn(async move {
            loop {
                ticks.tick().await;
                // The fleet is there as long as anybody needs what it finds.
                let Some(fleet) = fleet.upgrade() else { return };
                let _ended = fleet.run(&running, Duration::MAX).await;
            }
        });
        Watched {
            probe,
            _task: Task(task),
        }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<String, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.map_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that ends with this.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use derp_client::ProxyEnvironment;
    use rustls::RootCertStore;

    use super::*;
    use crate::args::Args;
    use crate::config::Vars;
    use crate::plan::{FieldError, Job};
    use crate::trust::Trust;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn intervals_in_which_the_machine_slept_are_not_made_up_for() {
        let words = ["-derp-map", "/nonexistent/map.json", "-interval", "24h"];
        let args = Args::parse(words.map(str::to_owned)).unwrap();
        let config = Config::build(&args, &Vars::new()).unwrap();
        let trust = Trust::of(RootCertStore::empty());
        let prober = Prober::new(trust, None, ProxyEnvironment::default());
        let board = Arc::new(Board::default());
        let fleet = Fleet::start(config, prober, Arc::clone(&board), News::to_nobody());
        // A probe that is bad without waiting for anything.
        let planned = Planned {
            name: "a".to_owned(),
            interval: MINUTE,
            subject: Arc::new(Subject::map()),
            job: Job::Impossible(FieldError::StunPort {
                node: "n".to_owned(),
                port: -7,
            }),
        };
        board.put("a", MINUTE, Arc::clone(&planned.subject));
        let _watched = fleet.watch(Arc::new(Probe::of(planned)), Duration::ZERO);
        let runs = async || {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            board.look_at("a", |record| record.totals.bad.count)
        };
        assert_eq!(runs().await, Some(1));
        tokio::time::advance(100 * MINUTE + MINUTE / 2).await;
        assert_eq!(runs().await, Some(2));
        tokio::time::advance(MINUTE / 2).await;
        assert_eq!(runs().await, Some(3));
    }
}
