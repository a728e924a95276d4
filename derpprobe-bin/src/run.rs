//! Runs all probes of a map once: a bounded number at a time, each within its time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use derp_proto::DerpMap;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::config::Config;
use crate::deadline::Deadline;
use crate::derpmap::MapError;
use crate::outcome::{Findings, Outcome};
use crate::plan::{PlanError, Planned, four_fifths, plan};
use crate::probe::Prober;
use crate::report::{Report, in_words};

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

/// Gets the map, runs everything that it asks for, and reports.
pub async fn once(config: &Config, prober: &Prober) -> Report {
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
            let outcomes = run_all(planned, prober, config.spread).await;
            Report::of(outcomes.into_iter().chain([map]))
        }
    }
}

/// Runs the probes; bandwidth after the others and one at a time, so that no probe measures what
/// another one sends.
async fn run_all(planned: Vec<Planned>, prober: &Prober, spread: bool) -> Vec<Outcome> {
    let (heavy, light): (Vec<_>, Vec<_>) = planned.into_iter().partition(Planned::is_heavy);
    let mut outcomes = run_some(light, prober, spread, AT_A_TIME).await;
    outcomes.extend(run_some(heavy, prober, false, 1).await);
    outcomes
}

async fn run_some(
    planned: Vec<Planned>,
    prober: &Prober,
    spread: bool,
    at_a_time: usize,
) -> Vec<Outcome> {
    let places = Arc::new(Semaphore::new(at_a_time));
    let mut running = JoinSet::new();
    let mut about = HashMap::new();
    for probe in planned {
        let (places, prober) = (Arc::clone(&places), prober.clone());
        let delay = if spread {
            delay(&probe.name, probe.interval)
        } else {
            Duration::ZERO
        };
        let (name, subject) = (probe.name.clone(), Arc::clone(&probe.subject));
        let task = running.spawn(async move {
            sleep(delay).await;
            // Never closed, so that there is a permit sooner or later.
            let _place = places.acquire().await;
            run_one(&prober, &probe).await
        });
        about.insert(task.id(), (name, subject));
    }
    let mut outcomes = Vec::with_capacity(about.len());
    let mut progress = interval(PROGRESS);
    // The first tick is at once.
    progress.tick().await;
    loop {
        let ended = tokio::select! {
            ended = running.join_next_with_id() => ended,
            _ = progress.tick() => {
                let bad = outcomes.iter().filter(|outcome: &&Outcome| outcome.result.is_err());
                let (done, of, bad) = (outcomes.len(), about.len(), bad.count());
                tracing::info!(done, of, bad, "still probing");
                continue;
            }
        };
        let Some(ended) = ended else { break };
        match ended {
            Ok((_, outcome)) => outcomes.push(outcome),
            // A fault of the probe must not pass for health.
            Err(gone) => {
                if let Some((name, subject)) = about.get(&gone.id()).cloned() {
                    outcomes.push(Outcome {
                        name,
                        subject,
                        took: Duration::ZERO,
                        result: Err(format!("the probe itself failed: {gone}")),
                        findings: Findings::default(),
                    });
                }
            }
        }
    }
    outcomes
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

/// How often an operator who waits is told how far it is.
const PROGRESS: Duration = Duration::from_secs(5);
/// How many probes run at a time. Each has two connections at most.
const AT_A_TIME: usize = 32;
/// How long a probe may take beyond its time, to say what it was waiting for.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, SocketAddr};

    use derp_client::ProxyEnvironment;
    use rustls::RootCertStore;
    use tokio::net::UdpSocket;

    use super::*;
    use crate::plan::Job;
    use crate::subject::Subject;
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
            let outcomes = run_all(slow(count, silent), &prober(), false).await;
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
        let outcomes = run_all(one, &prober(), true).await;
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
