//! What the three forms of a list have in common: entries that are keys, and those that are not.

use std::collections::HashSet;

use derp_proto::{KeyError, NodePublic};

use super::error::{AllowlistError, BadEntry, Place};

/// The entries of a list while it is being read.
#[derive(Default)]
pub(super) struct Entries {
    keys: HashSet<NodePublic>,
    bad: Vec<BadEntry>,
    /// Bad entries beyond those that are kept for the report.
    more: usize,
}

impl Entries {
    /// Takes the entry `text`, which stands at `place`.
    pub(super) fn take(&mut self, place: Place, text: &str) {
        match usable_key(text) {
            Ok(key) => {
                self.keys.insert(key);
            }
            Err(_) if self.bad.len() == MAX_REPORTED => self.more += 1,
            Err(problem) => {
                self.bad.push(BadEntry {
                    place,
                    found: excerpt(text),
                    problem,
                });
            }
        }
    }

    /// The keys, if all entries were keys.
    pub(super) fn into_keys(self, origin: &str) -> Result<HashSet<NodePublic>, AllowlistError> {
        if self.bad.is_empty() {
            return Ok(self.keys);
        }
        let origin = origin.to_owned();
        Err(AllowlistError::BadEntries {
            origin,
            bad: self.bad,
            more: self.more,
        })
    }
}

fn usable_key(text: &str) -> Result<NodePublic, KeyError> {
    let key: NodePublic = text.parse()?;
    key.check()?;
    Ok(key)
}

/// Enough of an entry to find it by, and too little of a secret to be of use: somebody will put
/// the wrong key into a list one day, and the report ends up in a log.
fn excerpt(text: &str) -> String {
    if text.len() <= MAX_EXCERPT {
        return text.to_owned();
    }
    let shown = match text.get(..SECRET_PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(SECRET_PREFIX) => prefix,
        _ => text
            .get(..text.floor_char_boundary(MAX_EXCERPT))
            .unwrap_or_default(),
    };
    format!("{shown}… ({} characters)", text.chars().count())
}

/// How many bad entries are reported one by one. Who mistook the whole file needs no more.
const MAX_REPORTED: usize = 20;
/// How many bytes of a bad entry are shown.
const MAX_EXCERPT: usize = 24;
/// How the text of a private key begins.
const SECRET_PREFIX: &str = "privkey:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_shows_no_secret_and_cuts_no_character() {
        let digits = "0123456789abcdef".repeat(4);
        let table = [
            ("hello".to_owned(), "hello".to_owned()),
            (
                format!("nodekey:{digits}0"),
                "nodekey:0123456789abcdef… (73 characters)".to_owned(),
            ),
            (
                format!("privkey:{digits}"),
                "privkey:… (72 characters)".to_owned(),
            ),
            (
                format!("PRIVKEY:{digits}"),
                "PRIVKEY:… (72 characters)".to_owned(),
            ),
            (
                "ü".repeat(30),
                format!("{}… (30 characters)", "ü".repeat(12)),
            ),
            (
                format!("a{}", "ü".repeat(30)),
                format!("a{}… (31 characters)", "ü".repeat(11)),
            ),
        ];
        for (text, shown) in table {
            assert_eq!(excerpt(&text), shown);
        }
    }
}
