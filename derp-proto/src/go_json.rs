//! JSON read by Go's rules (`encoding/json`), so that a document means here what it means to the
//! reference's programs.
//!
//! [`go_struct!`](crate::go_struct) reads a struct, and [`Field`] says what happens to each of its
//! fields. Names match without regard to case, the last of several wins, unknown ones are ignored,
//! and `null` changes nothing about a plain value and empties everything else.
//!
//! ```
//! #[derive(Debug, Default, PartialEq)]
//! struct Limits {
//!     rate: u64,
//!     names: Vec<String>,
//! }
//! derp_proto::go_struct!(Limits { rate = "Rate", names = "Names" });
//!
//! let json = r#"{"rate":1,"RATE":2,"Rate":null,"names":["a"],"Future":{}}"#;
//! let limits: Limits = serde_json::from_str(json)?;
//! assert_eq!(limits, Limits { rate: 2, names: vec!["a".to_owned()] });
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # What is not here
//!
//! Writing, for which derived code spells names as Go does. And a struct or a list that is given
//! twice is the last one, where Go fills the second into the first.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, MapAccess};

#[doc(hidden)]
pub use serde;

/// One value of a document: what Go's decoder does with it depends on the field's type alone.
pub trait Field: Sized {
    /// Reads the value that comes next in `map`.
    ///
    /// # Errors
    /// The document's, where the value is of another type.
    fn set<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error>;
}

macro_rules! plain_values {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            fn set<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
                if let Some(value) = map.next_value::<Option<Self>>()? {
                    *self = value;
                }
                Ok(())
            }
        }
    )*};
}

plain_values!(i32, i64, u64, f64, bool, String);

/// A pointer in Go.
impl<T: DeserializeOwned> Field for Option<T> {
    fn set<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        *self = map.next_value()?;
        Ok(())
    }
}

impl<T: DeserializeOwned> Field for Vec<T> {
    fn set<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        *self = map.next_value::<Option<Self>>()?.unwrap_or_default();
        Ok(())
    }
}

/// A map that is given twice has the entries of both.
impl<K, V> Field for BTreeMap<K, V>
where
    K: DeserializeOwned + Ord,
    V: DeserializeOwned,
{
    fn set<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        match map.next_value::<Option<Self>>()? {
            Some(more) => self.extend(more),
            None => self.clear(),
        }
        Ok(())
    }
}

/// Lets a struct with a `Default` be read as Go's decoder reads it; see
/// [`go_json`](crate::go_json).
#[macro_export]
macro_rules! go_struct {
    ($name:ident { $($field:ident = $key:literal),* $(,)? }) => {
        #[automatically_derived]
        impl<'de> $crate::go_json::serde::Deserialize<'de> for $name {
            fn deserialize<D>(deserializer: D) -> ::std::result::Result<Self, D::Error>
            where
                D: $crate::go_json::serde::Deserializer<'de>,
            {
                struct Fields;
                impl<'de> $crate::go_json::serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(
                        &self,
                        f: &mut ::std::fmt::Formatter<'_>,
                    ) -> ::std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A>(self, mut map: A) -> ::std::result::Result<$name, A::Error>
                    where
                        A: $crate::go_json::serde::de::MapAccess<'de>,
                    {
                        let mut value = <$name as ::std::default::Default>::default();
                        while let Some(key) = map.next_key::<::std::string::String>()? {
                            $(if key.eq_ignore_ascii_case($key) {
                                $crate::go_json::Field::set(&mut value.$field, &mut map)?;
                                continue;
                            })*
                            map.next_value::<$crate::go_json::serde::de::IgnoredAny>()?;
                        }
                        Ok(value)
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
    };
}
