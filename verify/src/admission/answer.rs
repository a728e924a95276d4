//! What an admission controller's answer says.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use thiserror::Error;

/// How exact an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// One JSON object, with exactly one field named `Allow`, which is `true` or `false`.
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

/// Whether `body`, a `DERPAdmitClientResponse`, admits the client.
///
/// # Errors
/// [`AnswerError`], for what is no answer in this reading.
pub fn parse_answer(body: &[u8], reading: Reading) -> Result<bool, AnswerError> {
    match reading {
        Reading::Strict => {
            let text = std::str::from_utf8(body).map_err(|_| AnswerError::NotUtf8)?;
            let Strict(allow) = serde_json::from_str(text).map_err(AnswerError::Json)?;
            Ok(allow)
        }
        Reading::Lenient => {
            let text = String::from_utf8_lossy(body);
            let mut json = serde_json::Deserializer::from_str(&text);
            let Lenient(allow) = Deserialize::deserialize(&mut json).map_err(AnswerError::Json)?;
            Ok(allow)
        }
    }
}

struct Strict(bool);
struct Lenient(bool);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(Fields { lenient: false })
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `null` leaves Go's answer as it was: a denial.
        deserializer
            .deserialize_any(Fields { lenient: true })
            .map(Self)
    }
}

struct Fields {
    lenient: bool,
}

impl<'de> Visitor<'de> for Fields {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a field Allow")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<bool, E> {
        if self.lenient {
            return Ok(false);
        }
        Err(E::custom("null"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut allow = None;
        while let Some(name) = map.next_key::<String>()? {
            if self.lenient && name.eq_ignore_ascii_case("Allow") {
                // Go leaves the field alone where the value is null.
                allow = map.next_value::<Option<bool>>()?.or(allow);
            } else if !self.lenient && name == "Allow" {
                if allow.is_some() {
                    return Err(A::Error::duplicate_field("Allow"));
                }
                allow = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        match allow {
            Some(allow) => Ok(allow),
            None if self.lenient => Ok(false),
            None => Err(A::Error::missing_field("Allow")),
        }
    }
}
