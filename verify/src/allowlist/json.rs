//! The two JSON forms of a list, read in passing: no tree is built of a status of any length.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use super::entries::Entries;
use super::error::{AllowlistError, Place};

/// Takes all keys of the document `text` into `entries`.
pub(super) fn collect(
    text: &str,
    origin: &str,
    entries: &mut Entries,
) -> Result<(), AllowlistError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let is_list_of_keys = Document(entries)
        .deserialize(&mut json)
        .and_then(|known| json.end().map(|()| known))
        .map_err(|error| json_error(&error, origin))?;
    if !is_list_of_keys {
        return Err(AllowlistError::NotStatus {
            origin: origin.to_owned(),
        });
    }
    Ok(())
}

fn json_error(error: &serde_json::Error, origin: &str) -> AllowlistError {
    AllowlistError::Json {
        origin: origin.to_owned(),
        line: error.line(),
        column: error.column(),
        // In words of our own: what serde says quotes values, whatever they are and however long.
        problem: match error.classify() {
            Category::Eof => "the JSON ends too early",
            Category::Data => "a value of another type than expected",
            Category::Syntax | Category::Io => "not JSON",
        },
    }
}

/// The whole document: a list, or a status. Its value says whether it is either.
struct Document<'a>(&'a mut Entries);

/// The value of `Peer`: nodes by their keys.
struct Peers<'a>(&'a mut Entries);

/// A node of a status.
#[derive(Deserialize)]
struct Node {
    #[serde(rename = "PublicKey", default)]
    public_key: Value,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of keys or a status")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let mut count = 0;
        while let Some(item) = seq.next_element::<Value>()? {
            count += 1;
            take(self.0, Place::Item(count), &item);
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut is_status = false;
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "Self" => {
                    is_status = true;
                    if let Some(node) = map.next_value::<Option<Node>>()? {
                        take(self.0, Place::OwnKey, &node.public_key);
                    }
                }
                "Peer" => {
                    is_status = true;
                    map.next_value_seed(Peers(self.0))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(is_status)
    }
}

impl<'de> DeserializeSeed<'de> for Peers<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Peers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("peers by their keys")
    }

    /// A node without peers has `null` here, as Go writes an empty map.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut count = 0;
        // A peer's own field counts, not the key that it stands under: both are the same.
        while let Some((_, node)) = map.next_entry::<IgnoredAny, Node>()? {
            count += 1;
            take(self.0, Place::Peer(count), &node.public_key);
        }
        Ok(())
    }
}

/// Takes a value that should be a string; any other is a bad entry that is shown as JSON.
fn take(entries: &mut Entries, place: Place, value: &Value) {
    match value {
        Value::String(text) => entries.take(place, text),
        other => entries.take(place, &other.to_string()),
    }
}
