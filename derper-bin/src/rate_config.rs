//! The file of `-rate-config`: what one client may send, as JSON. Read at start, and again on
//! SIGHUP.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// What one client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRate {
    /// Bytes a second, over time.
    pub bytes_per_second: u64,
    /// Bytes at once.
    pub burst_bytes: u64,
}

impl ClientRate {
    /// The longest frame costs so much; with less at hand it could never pass.
    pub const MIN_BURST: u64 = 65_568;
}

/// A rate file that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RateConfigError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file holds something else.
    #[error(
        "{path} is not a rate file (line {line}, column {column}); it must be JSON like \
         {{\"PerClientRateLimitBytesPerSec\":1000000,\"PerClientRateBurstBytes\":2000000}}"
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        line: usize,
        /// Where reading stopped.
        column: usize,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Document {
    per_client_rate_limit_bytes_per_sec: u64,
    per_client_rate_burst_bytes: u64,
}

/// Reads the file; `None` where it says that there is no limit.
///
/// # Errors
/// The file cannot be read, or is no such JSON.
pub fn load(path: &Path) -> Result<Option<ClientRate>, RateConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|err| RateConfigError::Unreadable(path.to_owned(), err))?;
    let document: Document = serde_json::from_str(&text).map_err(|err| RateConfigError::Json {
        path: path.to_owned(),
        line: err.line(),
        column: err.column(),
    })?;
    if document.per_client_rate_limit_bytes_per_sec == 0 {
        return Ok(None);
    }
    Ok(Some(ClientRate {
        bytes_per_second: document.per_client_rate_limit_bytes_per_sec,
        burst_bytes: document
            .per_client_rate_burst_bytes
            .max(ClientRate::MIN_BURST),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<ClientRate>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rate.json");
        fs::write(&path, text).unwrap();
        load(&path).map_err(|err| err.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn the_references_file_is_read() {
        let rate = |bytes_per_second, burst_bytes| {
            Ok(Some(ClientRate {
                bytes_per_second,
                burst_bytes,
            }))
        };
        let cases = [
            ("{}", Ok(None)),
            (
                "{\"PerClientRateLimitBytesPerSec\": 0, \"PerClientRateBurstBytes\": 5}",
                Ok(None),
            ),
            (
                "{\"PerClientRateLimitBytesPerSec\": 1000}",
                rate(1000, 65_568),
            ),
            (
                "{\"PerClientRateLimitBytesPerSec\": 1000, \"PerClientRateBurstBytes\": 70000}",
                rate(1000, 70_000),
            ),
            (
                "{\"Other\": [], \"PerClientRateLimitBytesPerSec\": 7}",
                rate(7, 65_568),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, line, column) in [
            ("", 1, 0),
            ("nonsense", 1, 2),
            ("{\n\"PerClientRateLimitBytesPerSec\": -1}", 2, 35),
            ("{\"PerClientRateLimitBytesPerSec\": \"1M\"}", 1, 38),
        ] {
            let place = format!("(line {line}, column {column})");
            let err = read(text).unwrap_err();
            assert!(
                err.starts_with(&format!("FILE is not a rate file {place}; ")),
                "{text}: {err}"
            );
        }
    }
}
