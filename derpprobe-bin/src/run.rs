//! Runs all probes of a map once: a bounded number at a time, each within its time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use derp_proto::DerpMap;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, interval, sleep, timeout};

use crate::config::Config;
use crate::deadline::Deadline;
use crate::derpmap::MapError;
use crate::outcome::{Findings, Outcome};
use crate::plan::{PlanError, Planned, four_fifths, plan};
use crate::probe::Prober;
use crate::progress::{Progress, Round, Running};
use crate::report::{Report, in_words};
use crate::subject::Subject;

/// The name of the probe that gets the map (`cmd/derpprobe/derpprobe.go`).
pub const MAP_PROBE: &str = "derpmap-probe";

/// Gets the map, within four fifths of its interval.
///
/// # Errors
/// [`MapError`], by fault.
pub async fn load_map(config: &Config, prober: &Prober) -> Result<DerpMap, MapError> {
    let deadline = Deadline::after(four_fifths(config.map_interval));
    config.source.load(prober.web(), deadline).await
}

/// Gets the map, runs everything that it asks for, and reports. Tells `progress` how far it is.
pub async fn once(config: &Config, prober: &Prober, progress: &mut Progress) -> Report {
    let begin = Instant::now();
    let planned = match load_map(config, prober).await {
        Ok(map) => plan(&map, &config.plan).map_err(|err: PlanError| in_words(&err)),
        Err(err) => Err(in_words(&err)),
    };
    let about_map = |result| Outcome::of_map(begin.elapsed(), result);
    match planned {
        Err(why) => Report::of([about_map(Err(why))]),
        Ok(planned) => {
            let map = about_map(Ok(()));
            tracing::info!(probes = planned.len(), "waiting for all probes");
            let outcomes = run_all(planned, prober, config.spread, progress).await;
            progress.end();
            Report::of(outcomes.into_iter().chain([map]))
        }
    }
}

/// Runs the probes; bandwidth after the others and one at a time, so that no probe measures what
/// another one sends.
async fn run_all(
    planned: Vec<Planned>,
    prober: &Prober,
    spread: bool,
    progress: &mut Progress,
) -> Vec<Outcome> {
    let of = planned.len();
    let (heavy, light): (Vec<_>, Vec<_>) = planned.into_iter().partition(Planned::is_heavy);
    let mut outcomes = Vec::with_capacity(of);
    let mut tick = interval(progress.interval());
    // The first one is at once.
    tick.tick().await;
    for (planned, spread, at_a_time) in [(light, spread, AT_A_TIME), (heavy, false, 1)] {
        let mut batch = Batch::start(planned, prober, spread, at_a_time);
        loop {
            let ended = tokio::select! {
                ended = batch.next() => ended,
                _ = tick.tick() => {
                    let is_bad = |outcome: &&Outcome| outcome.result.is_err();
                    progress.tell(&Round {
                        done: outcomes.len(),
                        of,
                        bad: outcomes.iter().filter(is_bad).count(),
                        running: &batch.running,
                        now: Instant::now(),
                    });
                    continue;
                }
            };
            let Some(outcome) = ended else { break };
            outcomes.push(outcome);
        }
    }
    outcomes
}

/// Probes that were started together.
struct Batch {
    tasks: JoinSet<Outcome>,
    about: HashMap<Id, (String, Arc<Subject>)>,
    running: Running,
}

impl Batch {
    fn start(planned: Vec<Planned>, prober: &Prober, spread: bool, at_a_time: usize) -> Self {
        let places = Arc::new(Semaphore::new(at_a_time));
        let mut batch = Self {
            tasks: JoinSet::new(),
            about: HashMap::new(),
            running: Running::default(),
        };
        for probe in planned {
            let (places, prober) = (Arc::clone(&places), prober.clone());
            let running = batch.running.clone();
            let delay = if spread {
                delay(&probe.name, probe.interval)
            } else {
                Duration::ZERO
            };
            let about = (probe.name.clone(), Arc::clone(&probe.subject));
            let task = batch.tasks.spawn(async move {
                sleep(delay).await;
                // Never closed, so that there is a permit sooner or later.
                let _place = places.acquire().await;
                let _running = running.begin(&probe.name);
                run_one(&prober, &probe).await
            });
            batch.about.insert(task.id(), about);
        }
        batch
    }

    /// How the next one ended; `None` after the last. Nothing is lost where this is not awaited to
    /// its end.
    async fn next(&mut self) -> Option<Outcome> {
        let gone = match self.tasks.join_next_with_id().await? {
            Ok((_, outcome)) => return Some(outcome),
            Err(gone) => gone,
        };
        // A fault of the probe must not pass for health.
        let (name, subject) = self.about.get(&gone.id()).cloned()?;
        Some(Outcome {
            name,
            subject,
            took: Duration::ZERO,
            result: Err(format!("the probe itself failed: {gone}")),
            findings: Findings::default(),
        })
    }
}

/// Runs one probe. Takes its timeout and a second at most.
pub async fn run_one(prober: &Prober, probe: &Planned) -> Outcome {
    let begin = Instant::now();
    let total = probe.timeout();
    let mut findings = Findings::default();
    let run = prober.run(&probe.job, Deadline::after(total), &mut findings);
    // Probes keep their time themselves, and know what they were waiting for. This is for one
    // that does not.
    let ended = timeout(total + GRACE, run).await;
    let took = begin.elapsed();
    let result = match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(fault)) => Err(in_words(&fault)),
        Err(_) => Err(format!("the probe hangs; it was ended after {took:?}")),
    };
    Outcome {
        name: probe.name.clone(),
        subject: Arc::clone(&probe.subject),
        took,
        result,
        findings,
    }
}

/// How long the probe of this name waits before its first run: a part of its interval that is
/// always the same, and another one for each name.
pub(crate) fn delay(name: &str, interval: Duration) -> Duration {
    // FNV-1a with a finish that lets the last letters reach the highest bits.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let part = (interval.as_nanos() * u128::from(hash >> 32)) >> 32;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

/// How many probes run at a time. Each has two connections at most.
const AT_A_TIME: usize = 32;
/// How long a probe may take beyond its time, to say what it was waiting for.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{self, Write};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Mutex;

    use derp_client::ProxyEnvironment;
    use rustls::RootCertStore;
    use tokio::net::UdpSocket;

    use super::*;
    use crate::plan::Job;
    use crate::trust::Trust;

    fn prober() -> Prober {
        let trust = Trust::of(RootCertStore::empty());
        Prober::new(trust, None, ProxyEnvironment::default())
    }

    /// So many probes, each of which takes twelve seconds and then fails.
    fn slow(count: usize, silent: SocketAddr) -> Vec<Planned> {
        let planned = |n| Planned {
            name: format!("derp/r/n{n:02}/udp"),
            interval: Duration::from_secs(15),
            subject: Arc::new(Subject::map()),
            job: Job::Stun(silent),
        };
        (0..count).map(planned).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_probes_run_at_a_time() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let silent = silent.local_addr().unwrap();
        for (count, seconds) in [(AT_A_TIME, 12), (AT_A_TIME + 1, 24)] {
            let begin = Instant::now();
            let outcomes = run_all(
                slow(count, silent),
                &prober(),
                false,
                &mut Progress::logged(),
            )
            .await;
            assert_eq!(begin.elapsed().as_secs(), seconds);
            let names: BTreeSet<_> = outcomes.iter().map(|outcome| &outcome.name).collect();
            assert_eq!(names.len(), count);
            assert!(outcomes.iter().all(|outcome| outcome.result.is_err()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn probes_that_are_spread_wait_for_their_part_of_the_interval() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let one = slow(1, silent.local_addr().unwrap());
        let waits = delay(&one[0].name, one[0].interval);
        assert!(waits > Duration::from_secs(1), "{waits:?}");
        let begin = Instant::now();
        let outcomes = run_all(one, &prober(), true, &mut Progress::logged()).await;
        let expected = waits + Duration::from_secs(12);
        assert!(begin.elapsed().abs_diff(expected) < Duration::from_millis(10));
        // The wait is no part of the probe's time.
        assert!(
            outcomes[0]
                .result
                .as_ref()
                .unwrap_err()
                .contains("to 24 requests")
        );
    }

    /// A terminal that keeps everything.
    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_sees_how_far_it_is_and_for_what() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let silent = silent.local_addr().unwrap();
        let screen = Screen::default();
        let mut progress = Progress::shown(screen.clone());
        run_all(slow(AT_A_TIME + 2, silent), &prober(), false, &mut progress).await;
        progress.end();
        let shown = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = shown.split("\r\x1b[2K\x1b[?7l").skip(1).collect();
        let line = |seconds: usize| lines[seconds * 5].split_once('\x1b').unwrap().0;
        assert_eq!(
            line(3),
            "0 of 34 probes; derp/r/n00/udp for 3 s, and 31 more"
        );
        assert_eq!(
            line(14),
            "32 of 34 probes, 32 bad; derp/r/n32/udp for 2 s, and 1 more"
        );
        assert!(shown.ends_with("\x1b[?7h\r\x1b[2K"), "it is taken away");
    }

    #[test]
    fn each_name_has_a_delay_of_its_own_below_the_interval() {
        let interval = Duration::from_secs(15);
        let delays = || (0..64).map(|n| delay(&format!("derp/r/n{n}/tls"), interval));
        assert!(delays().all(|delay| delay < interval));
        assert!(delays().eq(delays()));
        // Spread over the whole interval: each of its quarters gets some.
        let quarters: BTreeSet<_> = delays().map(|delay| delay.as_millis() / 3750).collect();
        assert_eq!(quarters, BTreeSet::from([0, 1, 2, 3]));
        assert_eq!(delay("a", Duration::ZERO), Duration::ZERO);
    }
}
