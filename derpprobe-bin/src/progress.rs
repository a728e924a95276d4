//! How far a round of probes is, for whoever waits for it: in a terminal a line that is written
//! over and over, elsewhere a line of the log now and then.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::report::printable;

/// Where it is told.
pub struct Progress(Option<Box<dyn Write>>);

impl Progress {
    /// In the log.
    #[must_use]
    pub fn logged() -> Self {
        Self(None)
    }

    /// On standard error where that is a terminal, or else in the log.
    #[must_use]
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() {
            Self::shown(io::stderr())
        } else {
            Self::logged()
        }
    }

    /// On a terminal.
    #[must_use]
    pub fn shown(terminal: impl Write + 'static) -> Self {
        Self(Some(Box::new(terminal)))
    }

    /// How often there is something to tell.
    pub(crate) fn interval(&self) -> Duration {
        match self.0 {
            Some(_) => Duration::from_millis(200),
            None => Duration::from_secs(5),
        }
    }

    pub(crate) fn tell(&mut self, round: &Round<'_>) {
        let Some(terminal) = &mut self.0 else {
            let Round { done, of, bad, .. } = *round;
            let waiting_for = round.oldest().map(|(name, _)| name);
            tracing::info!(done, of, bad, waiting_for, "still probing");
            return;
        };
        // A line that is longer than the terminal is wide is cut off and not continued below.
        let line = format!("{REWRITE}\x1b[?7l{round}\x1b[?7h");
        write(terminal, &line);
    }

    /// Takes the line away, for what is printed next.
    pub(crate) fn end(&mut self) {
        if let Some(terminal) = &mut self.0 {
            write(terminal, REWRITE);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_shown = self.0.is_some();
        f.debug_struct("Progress")
            .field("is_shown", &is_shown)
            .finish()
    }
}

/// To the line's begin, and nothing on it.
const REWRITE: &str = "\r\x1b[2K";

/// Whoever has closed it does not want to know.
fn write(terminal: &mut impl Write, text: &str) {
    let _closed = terminal
        .write_all(text.as_bytes())
        .and_then(|()| terminal.flush());
}

/// How far it is.
pub(crate) struct Round<'a> {
    pub(crate) done: usize,
    pub(crate) of: usize,
    pub(crate) bad: usize,
    pub(crate) running: &'a Running,
    pub(crate) now: Instant,
}

impl Round<'_> {
    /// The probe that has been running longest, and for how long.
    fn oldest(&self) -> Option<(String, Duration)> {
        let running = self.running.lock();
        let (name, begin) = running.iter().min_by_key(|(_, begin)| **begin)?;
        Some((printable(name), self.now.duration_since(*begin)))
    }
}

impl fmt::Display for Round<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, of, bad, .. } = self;
        write!(f, "{done} of {of} probes")?;
        if *bad > 0 {
            write!(f, ", {bad} bad")?;
        }
        let Some((name, since)) = self.oldest() else {
            return Ok(());
        };
        write!(f, "; {name} for {} s", since.as_secs())?;
        match self.running.lock().len() {
            0 | 1 => Ok(()),
            running => write!(f, ", and {} more", running - 1),
        }
    }
}

/// The probes that run, by name, and since when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<BTreeMap<String, Instant>>>);

impl Running {
    /// The probe runs for as long as what is returned lives.
    pub(crate) fn begin(&self, name: &str) -> impl Drop + use<> {
        self.lock().insert(name.to_owned(), Instant::now());
        Ended(self.clone(), name.to_owned())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Ended(Running, String);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}
