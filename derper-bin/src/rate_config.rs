//! The file of `-rate-config`: what one client may send, as JSON. Read at start, and again on
//! SIGHUP.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use derp_proto::go_struct;
use derp_verify::RateLimit;
use thiserror::Error;

/// The longest frame costs so many bytes; with less at hand it could never pass.
pub const MIN_BURST: u64 = 65_568;

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

#[derive(Default)]
struct Document {
    bytes_per_second: u64,
    burst_bytes: u64,
}

go_struct!(Document {
    bytes_per_second = "PerClientRateLimitBytesPerSec",
    burst_bytes = "PerClientRateBurstBytes",
});

/// Reads the file; `None` where it says that there is no limit.
///
/// # Errors
/// The file cannot be read, or is no such JSON.
pub fn load(path: &Path) -> Result<Option<RateLimit>, RateConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|err| RateConfigError::Unreadable(path.to_owned(), err))?;
    let document: Option<Document> =
        serde_json::from_str(&text).map_err(|err| RateConfigError::Json {
            path: path.to_owned(),
            line: err.line(),
            column: err.column(),
        })?;
    let document = document.unwrap_or_default();
    if document.bytes_per_second == 0 {
        return Ok(None);
    }
    Ok(Some(RateLimit {
        bytes_per_second: document.bytes_per_second,
        burst_bytes: document.burst_bytes.max(MIN_BURST),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<RateLimit>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rate.json");
        fs::write(&path, text).unwrap();
        load(&path).map_err(|err| err.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn the_references_file_is_read() {
        let rate = |bytes_per_second, burst_bytes| {
            Ok(Some(RateLimit {
                bytes_per_second,
                burst_bytes,
            }))
        };
        let cases = [
            ("{}", Ok(None)),
            ("null", Ok(None)),
            (
                "{\"PerClientRateLimitBytesPerSec\": 9, \"PerClientRateBurstBytes\": null}",
                rate(9, 65_568),
            ),
            // Go does not look at the case of names.
            (
                "{\"perClientRateLimitBytesPerSec\": 9, \"PERCLIENTRATEBURSTBYTES\": 70000}",
                rate(9, 70_000),
            ),
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
