//! What an admission controller's answer says.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use thiserror::Error;

use crate::verdict::{RateLimit, Verdict};

/// How exact an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// One JSON object, with exactly one field named `Allow`, which is `true` or `false`, and no
    /// field that is known twice or of another type.
    Strict,
    /// As the reference reads it: the case of the name does not matter, the last of several
    /// fields counts, none means no, and what follows the object is ignored.
    Lenient,
}

/// An answer that says neither yes nor no.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Not text.
    #[error("the answer is not UTF-8")]
    NotUtf8,
    /// Not the JSON that was expected.
    #[error("the answer is not {{\"Allow\": true}} or {{\"Allow\": false}}")]
    Json(#[source] serde_json::Error),
}

/// What `body`, a `DERPAdmitClientResponse`, says of the client.
///
/// Beside `Allow` a strict answer may have fields that the reference does not know and ignores:
/// `RateLimitBytesPerSec` and `BurstBytes` limit what the client may send, `Group` says where it
/// belongs, and `TTLSeconds` how long the answer holds.
///
/// # Errors
/// [`AnswerError`], for what is no answer in this reading.
pub fn parse_answer(body: &[u8], reading: Reading) -> Result<Verdict, AnswerError> {
    match reading {
        Reading::Strict => {
            let text = std::str::from_utf8(body).map_err(|_| AnswerError::NotUtf8)?;
            let Object(strict) = serde_json::from_str(text).map_err(AnswerError::Json)?;
            Ok(strict.verdict())
        }
        Reading::Lenient => {
            let text = String::from_utf8_lossy(body);
            let mut json = serde_json::Deserializer::from_str(&text);
            let Lenient(allow) = Deserialize::deserialize(&mut json).map_err(AnswerError::Json)?;
            Ok(verdict(allow))
        }
    }
}

fn verdict(allow: bool) -> Verdict {
    if allow {
        Verdict::allow()
    } else {
        Verdict::deny("")
    }
}

/// Unknown fields are skipped, and none may come twice.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Strict {
    allow: bool,
    #[serde(default)]
    rate_limit_bytes_per_sec: Option<u64>,
    #[serde(default)]
    burst_bytes: Option<u64>,
    #[serde(default)]
    group: Option<String>,
    #[serde(default, rename = "TTLSeconds")]
    ttl_seconds: Option<u64>,
}

impl Strict {
    fn verdict(self) -> Verdict {
        let rate = self.rate_limit_bytes_per_sec.map(|rate| RateLimit {
            bytes_per_second: rate,
            burst_bytes: self.burst_bytes.unwrap_or(rate),
        });
        Verdict {
            group: self.group.filter(|group| !group.is_empty()),
            rate,
            time_to_live: self.ttl_seconds.map(Duration::from_secs),
            ..verdict(self.allow)
        }
    }
}

/// A derived reader would take a list of the fields' values as well.
struct Object(Strict);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor).map(Self)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a field Allow")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Strict, A::Error> {
        Strict::deserialize(MapAccessDeserializer::new(map))
    }
}

struct Lenient(bool);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `null` leaves Go's answer as it was: a denial.
        deserializer.deserialize_any(Fields).map(Self)
    }
}

/// The field `Allow` as Go finds it.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a field Allow")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut allow = None;
        while let Some(name) = map.next_key::<String>()? {
            if name.eq_ignore_ascii_case("Allow") {
                // Go leaves the field alone where the value is null.
                allow = map.next_value::<Option<bool>>()?.or(allow);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(allow.unwrap_or(false))
    }
}
