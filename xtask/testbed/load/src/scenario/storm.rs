//! Clients that log in and leave again beside other traffic, from a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use crate::clock::{Clock, nanos};
use crate::login::Target;

/// Threads that share the logins, so that a slow answer does not slow the rate.
const THREADS: u64 = 4;

/// A steady rate of logins.
pub(crate) struct Storm {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    done: AtomicU64,
    stop: AtomicBool,
}

impl Storm {
    /// Starts `rate` logins a second; none for 0.
    pub(crate) fn start(target: Target, rate: u64) -> Result<Self> {
        ensure!(
            rate <= 2000,
            "{rate} logins a second are more than a test needs"
        );
        let shared = Arc::new(Shared::default());
        let clock = Clock::start();
        let threads = (0..if rate == 0 { 0 } else { THREADS })
            .map(|number| {
                let (shared, target) = (Arc::clone(&shared), target.clone());
                let gap = nanos(Duration::from_secs(1)) * THREADS / rate;
                let first = clock.now() + gap * number / THREADS;
                thread::spawn(move || log_in_until_stopped(&shared, &target, clock, first, gap))
            })
            .collect();
        Ok(Self { shared, threads })
    }

    /// How many clients have logged in so far.
    pub(crate) fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Ends the logins.
    ///
    /// # Errors
    /// Where one failed.
    pub(crate) fn stop(self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| anyhow!("a thread of logins panicked"))??;
        }
        Ok(())
    }
}

fn log_in_until_stopped(
    shared: &Shared,
    target: &Target,
    clock: Clock,
    first: u64,
    gap: u64,
) -> Result<()> {
    // The generator's own share of the handshakes must not delay the packets that it measures.
    rustix::process::nice(19)?;
    let mut due = first;
    while !shared.stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_nanos(due.saturating_sub(clock.now())));
        // After a delay the rate goes on as before: it does not catch up.
        due = clock.now().max(due) + gap;
        target.log_in()?;
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
