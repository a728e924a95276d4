//! Logs on standard error: text for people, JSON for collectors.

mod output;

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::BorrowedFd;
use std::sync::LazyLock;

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::reload::Handle;

use self::output::Output;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One line of text for each event.
    #[default]
    Text,
    /// One JSON object for each event.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// How lines look.
    pub format: Format,
    /// A level (`info`), or levels by module (`info,derp_server=debug`); see [`check_filter`].
    pub filter: String,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: Format::Text,
            filter: "info".to_owned(),
        }
    }
}

/// A log filter that cannot be read, or a log that is set up already.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The filter is no list of levels.
    #[error(
        "{0:?} is not a log filter; write a level (error, warn, info, debug, trace), or levels by \
         module like info,derp_server=debug"
    )]
    Filter(String),
    /// This process has a log already.
    #[error("the log is set up already")]
    AlreadySet,
}

/// Checks a filter without setting anything up.
///
/// # Errors
/// [`LoggingError::Filter`].
pub fn check_filter(filter: &str) -> Result<(), LoggingError> {
    parse_filter(filter).map(drop)
}

/// The log of this process, to change what it shows.
pub struct Log {
    filter: Box<dyn Fn(EnvFilter) + Send + Sync>,
}

impl Log {
    /// Shows what `filter` says from now on.
    ///
    /// # Errors
    /// [`LoggingError::Filter`]; then nothing changes.
    pub fn set_filter(&self, filter: &str) -> Result<(), LoggingError> {
        let filter = parse_filter(filter)?;
        (self.filter)(filter);
        Ok(())
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

static STANDARD_ERROR: LazyLock<Output<BorrowedFd<'static>>> =
    LazyLock::new(|| Output::new(rustix::stdio::stderr()));

/// Sets up the log of this process, on standard error; with colours only on a terminal. Nobody who
/// logs waits for it or fails: a line that is not taken at once is lost, and counted.
///
/// # Errors
/// [`LoggingError::Filter`], and [`LoggingError::AlreadySet`] the second time.
pub fn init(logging: &Logging) -> Result<Log, LoggingError> {
    let colours = io::stderr().is_terminal();
    let (subscriber, log) = subscriber(logging, || &*STANDARD_ERROR, colours)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::AlreadySet)?;
    Ok(log)
}

/// How many lines of this process's log were lost.
#[must_use]
pub fn lines_lost() -> u64 {
    STANDARD_ERROR.lost()
}

fn subscriber<W>(
    logging: &Logging,
    writer: W,
    colours: bool,
) -> Result<(Box<dyn Subscriber + Send + Sync>, Log), LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = parse_filter(&logging.filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    Ok(match logging.format {
        Format::Text => {
            let builder = builder.with_ansi(colours).with_filter_reloading();
            let log = log(builder.reload_handle());
            (Box::new(builder.finish()), log)
        }
        Format::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let log = log(builder.reload_handle());
            (Box::new(builder.finish()), log)
        }
    })
}

fn log<S: 'static>(handle: Handle<EnvFilter, S>) -> Log {
    Log {
        filter: Box::new(move |filter| {
            // It fails where the log has gone, and nobody would see the difference.
            let _gone = handle.reload(filter);
        }),
    }
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    let refused = || LoggingError::Filter(filter.to_owned());
    // The library takes a bare word for a module's name, so that `inof` would log nothing at all.
    let known = |level: &str| {
        ["off", "error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|name| name.eq_ignore_ascii_case(level))
    };
    let directives: Vec<&str> = filter
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty())
        .collect();
    let level = |directive: &&str| match directive.rsplit_once('=') {
        Some((_, level)) => known(level),
        None => known(directive),
    };
    if directives.is_empty() || !directives.iter().all(level) {
        return Err(refused());
    }
    EnvFilter::try_new(directives.join(",")).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Held while a subscriber lives: whether anybody listens to a line is remembered for all
    /// threads, and subscribers of two tests at a time would decide it for each other.
    static ALONE: Mutex<()> = Mutex::new(());

    fn logged(format: Format, filter: &str, colours: bool) -> String {
        let _alone = ALONE.lock();
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let logging = Logging {
            format,
            filter: filter.to_owned(),
        };
        let (subscriber, _log) = subscriber(&logging, move || writer.clone(), colours).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "derp_server", clients = 3, "started");
            tracing::debug!(target: "derp_server", "detail");
            tracing::warn!(target: "other", path = "\u{1b}[31m/etc\n", "look");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn levels_filter_by_module() {
        let lines = |filter| logged(Format::Text, filter, false).lines().count();
        assert_eq!(lines("info"), 2);
        assert_eq!(lines("debug"), 3);
        assert_eq!(lines("warn"), 1);
        assert_eq!(lines("off"), 0);
        assert_eq!(lines("warn,derp_server=debug"), 3);
    }

    #[test]
    fn the_filter_can_be_changed() {
        let _alone = ALONE.lock();
        for format in [Format::Text, Format::Json] {
            let buffer = Buffer::default();
            let writer = buffer.clone();
            let logging = Logging {
                format,
                ..Logging::default()
            };
            let (subscriber, log) = subscriber(&logging, move || writer.clone(), false).unwrap();
            tracing::subscriber::with_default(subscriber, || {
                tracing::debug!("hidden");
                log.set_filter("debug").unwrap();
                tracing::debug!("seen");
                log.set_filter("inof").unwrap_err();
                tracing::debug!("seen still");
            });
            let bytes = buffer.0.lock().unwrap().clone();
            assert_eq!(String::from_utf8(bytes).unwrap().lines().count(), 2);
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged(Format::Json, "info", false);
        let events: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["message"], "started");
        assert_eq!(events[0]["clients"], 3);
        assert_eq!(events[0]["level"], "INFO");
    }

    #[test]
    fn there_are_no_colours_without_a_terminal() {
        assert!(!logged(Format::Text, "info", false).contains('\u{1b}'));
        assert!(logged(Format::Text, "info", true).contains('\u{1b}'));
    }

    #[test]
    fn a_filter_that_would_log_nothing_is_a_mistake() {
        for filter in ["", ",", "inof", "info,derp_server=loud", "info,derp_server"] {
            assert_eq!(
                check_filter(filter).unwrap_err().to_string(),
                format!(
                    "{filter:?} is not a log filter; write a level (error, warn, info, debug, \
                     trace), or levels by module like info,derp_server=debug"
                )
            );
        }
        for filter in [
            "info",
            "WARN",
            "off",
            "info,derp_server=debug",
            " info , derp_proto=trace",
        ] {
            check_filter(filter).unwrap();
        }
    }
}
