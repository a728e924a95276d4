//! The list of nodes as Headscale's API gives it: 0.26 and 0.27 with three lists of tags a node,
//! later ones with one.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use derp_proto::NodePublic;
use serde::Deserialize;
use thiserror::Error;

/// Which nodes of a Headscale server are admitted. By default all are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeRules {
    /// Only nodes of these users, by name or as `id:N`; empty for any. A tagged node may have no
    /// user. A name that two users have is refused, for either might be meant.
    pub users: HashSet<String>,
    /// Only nodes that have one of these tags, written as in the policy (`tag:relay`); empty for
    /// any.
    pub tags: HashSet<String>,
    /// Nodes whose keys have expired are turned away.
    pub refuse_expired: bool,
}

/// A list that was not understood.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeListError {
    /// Not the JSON that was expected.
    #[error("not a list of nodes")]
    Json(#[source] serde_json::Error),
    /// A name that nodes are chosen by is that of two users.
    #[error("the users {ids} are both called {name:?}; choose nodes by id:N", ids = .ids.join(" and "))]
    SharedName {
        /// The name.
        name: String,
        /// The users' numbers.
        ids: [String; 2],
    },
    /// A node says when it expires in a way that is no time.
    #[error("node {id}: {expiry:?} is not a time")]
    Expiry {
        /// The node's number.
        id: String,
        /// What it says.
        expiry: String,
    },
}

#[derive(Deserialize)]
struct NodeList {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    #[serde(default)]
    id: String,
    node_key: String,
    #[serde(default)]
    user: Option<User>,
    #[serde(default)]
    expiry: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    forced_tags: Option<Vec<String>>,
    #[serde(default)]
    valid_tags: Option<Vec<String>>,
    // `invalidTags` are those that a node asks for and may not have: they count for nothing.
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
}

impl Node {
    fn has_tag(&self, wanted: &HashSet<String>) -> bool {
        [&self.tags, &self.forced_tags, &self.valid_tags]
            .into_iter()
            .flatten()
            .flatten()
            .any(|tag| wanted.contains(tag))
    }

    fn is_of(&self, users: &HashSet<String>) -> bool {
        self.user.as_ref().is_some_and(|user| {
            users.contains(&user.name) || users.contains(&format!("id:{}", user.id))
        })
    }

    /// When its key expires. Headscale writes "never" as null, as nothing, or as Go's zero time.
    fn expires(&self) -> Result<Option<SystemTime>, NodeListError> {
        let Some(expiry) = self.expiry.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        if expiry.starts_with("0001-01-01T") {
            return Ok(None);
        }
        let seconds = rfc3339(expiry).ok_or_else(|| NodeListError::Expiry {
            id: self.id.clone(),
            expiry: expiry.chars().take(40).collect(),
        })?;
        Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
    }
}

/// The keys of those nodes in an answer of `/api/v1/node` that `rules` admit, and when they
/// expire, as far as that matters.
///
/// A node whose key cannot be read is skipped: a node that never logged in has none.
///
/// # Errors
/// [`NodeListError`]: a list is taken whole or not at all.
pub fn parse_nodes(
    body: &[u8],
    rules: &NodeRules,
) -> Result<HashMap<NodePublic, Option<SystemTime>>, NodeListError> {
    let list: NodeList = serde_json::from_slice(body).map_err(NodeListError::Json)?;
    let mut keys = HashMap::with_capacity(list.nodes.len());
    let users = list.nodes.iter().filter_map(|node| node.user.as_ref());
    check_names(users.filter(|user| rules.users.contains(&user.name)))?;
    for node in list.nodes {
        let Ok(key) = node.node_key.parse::<NodePublic>() else {
            continue;
        };
        let is_wanted = (rules.users.is_empty() || node.is_of(&rules.users))
            && (rules.tags.is_empty() || node.has_tag(&rules.tags));
        if key.check().is_err() || !is_wanted {
            continue;
        }
        let expires = if rules.refuse_expired {
            node.expires()?
        } else {
            None
        };
        keys.insert(key, expires);
    }
    Ok(keys)
}

/// Refuses a name that is not that of one user alone.
fn check_names<'a>(users: impl Iterator<Item = &'a User>) -> Result<(), NodeListError> {
    let mut ids: HashMap<&str, &str> = HashMap::new();
    for user in users {
        let first = *ids.entry(&user.name).or_insert(&user.id);
        if first != user.id {
            return Err(NodeListError::SharedName {
                name: user.name.clone(),
                ids: [first.to_owned(), user.id.clone()],
            });
        }
    }
    Ok(())
}

/// Seconds since 1970 of a time in UTC or with an offset, fractions cut off (RFC 3339, 5.6); times
/// before 1970 are 1970.
fn rfc3339(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        let is_number = digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let marks = [(4, '-'), (7, '-'), (10, 'T'), (13, ':'), (16, ':')];
    let marked = |(at, mark): (usize, char)| {
        text.get(at..=at)
            .is_some_and(|found| found.eq_ignore_ascii_case(mark.encode_utf8(&mut [0; 4])))
    };
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range || !marks.into_iter().all(marked) {
        return None;
    }
    let rest = text.get(19..)?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with(|c: char| c.is_ascii_digit()) => {
            fraction.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        Some(_) => return None,
        None => rest,
    };
    let local = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = local - offset(zone)?;
    Some(u64::try_from(seconds).unwrap_or(0))
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, clock) = match zone.split_at_checked(1)? {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let (hours, minutes) = clock.split_once(':')?;
    let two = |digits: &str| -> Option<i64> {
        let is_number = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    Some(sign * (two(hours)? * 3600 + two(minutes)? * 60))
}

/// The day's number, for the Gregorian calendar of any year from 0. Years begin in March here, so
/// that the day that comes every fourth year is the last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era_start = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era_start * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        let table = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2026-11-23T00:12:06.123456789Z", Some(1_795_392_726)),
            ("2026-11-23T01:12:06+01:00", Some(1_795_392_726)),
            ("2026-11-22T23:42:06-00:30", Some(1_795_392_726)),
            ("1969-12-31T23:59:59Z", Some(0)),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-23 00:12:06Z", None),
            ("2026-11-23T00:12:06", None),
            ("2026-11-23T00:12:06.Z", None),
            ("2026-11-23T00:12:06+1:00", None),
            ("tomorrow", None),
            ("2026-11-2ü", None),
        ];
        for (text, seconds) in table {
            assert_eq!(rfc3339(text), seconds, "{text}");
        }
    }
}
