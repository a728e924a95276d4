//! What can be wrong with a list, said so that whoever keeps it can mend it in one go.

use std::fmt;
use std::io;
use std::path::PathBuf;

use derp_proto::KeyError;
use thiserror::Error;

/// A list that was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AllowlistError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too long to be a list of keys.
    #[error("{} is longer than the {max} bytes allowed for a list of keys", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        max: u64,
    },
    /// There is nothing in the file, not even a comment: as in one that is just being written.
    #[error("{} is empty; where nobody is meant, write [] or a line that begins with #", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is UTF-16, as some shells write it when their output is redirected.
    #[error("{origin} is UTF-16; save it as UTF-8")]
    Utf16 {
        /// The file.
        origin: String,
    },
    /// It begins like JSON and is none, or holds other values than a list of keys has.
    #[error("{origin}, line {line}, column {column}: {problem}; {JSON_ALLOWED}")]
    Json {
        /// The file.
        origin: String,
        /// The line where reading ended, from 1.
        line: usize,
        /// The column where reading ended, from 1.
        column: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// A JSON object, but of another program.
    #[error("{origin} is a JSON object with neither `Self` nor `Peer`; {JSON_ALLOWED}")]
    NotStatus {
        /// The file.
        origin: String,
    },
    /// Entries that are not keys, or keys that nobody can hold.
    #[error("{}", BadEntries { origin, bad, more: *more })]
    BadEntries {
        /// The file.
        origin: String,
        /// The first of them, at most 20, in their order.
        bad: Vec<BadEntry>,
        /// How many there are beyond those.
        more: usize,
    },
    /// A list that was not read from a file cannot be read again.
    #[error("the list of allowed keys did not come from a file")]
    NoFile,
}

/// One entry that is not a usable key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// Where it stands.
    pub place: Place,
    /// How it begins. Text of the file: `Display` escapes it.
    pub found: String,
    /// What is wrong with it.
    pub problem: KeyError,
}

/// Where an entry stands in a list. All counts are from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A line of text.
    Line(usize),
    /// An item of a JSON list.
    Item(usize),
    /// The node's own key in the output of `tailscale status --json`.
    OwnKey,
    /// A peer in the output of `tailscale status --json`.
    Peer(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(n) => write!(f, "line {n}"),
            Self::Item(n) => write!(f, "item {n} of the list"),
            Self::OwnKey => f.write_str("Self.PublicKey"),
            Self::Peer(n) => write!(f, "PublicKey of peer {n}"),
        }
    }
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: found {:?}: {}",
            self.place, self.found, self.problem
        )
    }
}

/// The report of all bad entries, one a line.
struct BadEntries<'a> {
    origin: &'a str,
    bad: &'a [BadEntry],
    more: usize,
}

impl fmt::Display for BadEntries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, bad, more } = *self;
        let count = bad.len() + more;
        let entries = if count == 1 { "entry" } else { "entries" };
        write!(
            f,
            "{origin}: {count} bad {entries}; allowed is nodekey:<64 hexadecimal digits>"
        )?;
        for entry in bad {
            write!(f, "\n  {entry}")?;
        }
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        Ok(())
    }
}

const JSON_ALLOWED: &str =
    "allowed are a list [\"nodekey:…\", …] and the output of `tailscale status --json`";
