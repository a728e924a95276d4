//! Maps as Headscale reads them from the files of its `derp.paths`: YAML with Go's field names in
//! lower case (`hscontrol/derp/derp.go`).
//!
//! YAML can say little in many ways. What no map needs is refused: references within the document,
//! by which a few lines become gigabytes, and keys that are more than a word.

use derp_proto::DerpMap;
use serde_json::{Map, Value};
use thiserror::Error;

use tree::Node;

mod tree;

/// YAML that is no map.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum YamlError {
    /// It is no YAML.
    #[error("{0}")]
    Syntax(String),
    /// There is nothing in it.
    #[error("it holds nothing")]
    Empty,
    /// It is no text.
    #[error("the file is not UTF-8")]
    NotText,
    /// It refers to another part of itself.
    #[error("line {0}: anchors and aliases are not read in a map; write it out")]
    Alias(usize),
    /// It is deeper or larger than any map.
    #[error("line {0}: there is more in it than in any map")]
    TooMuch(usize),
    /// A key is a list or a map itself.
    #[error("line {0}: a key is not a word")]
    Key(usize),
    /// A key is there twice.
    #[error("line {line}: the key {key:?} is there twice")]
    Twice {
        /// In which line.
        line: usize,
        /// Which key.
        key: String,
    },
    /// A value is of another kind than its field.
    #[error("{field} must be {wanted}")]
    Field {
        /// The field, with where it is.
        field: String,
        /// What it must be.
        wanted: &'static str,
    },
}

/// Reads a map.
pub(crate) fn parse(text: &[u8]) -> Result<DerpMap, YamlError> {
    let text = std::str::from_utf8(text).map_err(|_| YamlError::NotText)?;
    let tree = tree::read(text)?;
    if tree.is_null() {
        return Err(YamlError::Empty);
    }
    let map = Kind::Object(MAP).read(&tree, "the map")?;
    // Its own reader has the last word on numbers that are too large for their fields.
    serde_json::from_value(map).map_err(|err| YamlError::Syntax(err.to_string()))
}

/// A field: its name in YAML, its name in JSON, and what it holds.
type Field = (&'static str, &'static str, Kind);

/// What a field holds.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Whole,
    Number,
    Switch,
    Object(&'static [Field]),
    /// By number.
    Regions,
    Nodes,
}

const MAP: &[Field] = &[
    ("regions", "Regions", Kind::Regions),
    ("omitdefaultregions", "omitDefaultRegions", Kind::Switch),
];

const REGION: &[Field] = &[
    ("regionid", "RegionID", Kind::Whole),
    ("regioncode", "RegionCode", Kind::Text),
    ("regionname", "RegionName", Kind::Text),
    ("latitude", "Latitude", Kind::Number),
    ("longitude", "Longitude", Kind::Number),
    ("avoid", "Avoid", Kind::Switch),
    ("nomeasurenohome", "NoMeasureNoHome", Kind::Switch),
    ("nodes", "Nodes", Kind::Nodes),
];

const NODE: &[Field] = &[
    ("name", "Name", Kind::Text),
    ("regionid", "RegionID", Kind::Whole),
    ("hostname", "HostName", Kind::Text),
    ("certname", "CertName", Kind::Text),
    ("ipv4", "IPv4", Kind::Text),
    ("ipv6", "IPv6", Kind::Text),
    ("stunport", "STUNPort", Kind::Whole),
    ("stunonly", "STUNOnly", Kind::Switch),
    ("derpport", "DERPPort", Kind::Whole),
    ("insecurefortests", "InsecureForTests", Kind::Switch),
    ("stuntestip", "STUNTestIP", Kind::Text),
    ("canport80", "CanPort80", Kind::Switch),
];

impl Kind {
    /// The value in JSON; null where there is none.
    fn read(self, node: &Node, at: &str) -> Result<Value, YamlError> {
        if node.is_null() {
            return Ok(Value::Null);
        }
        let read = match (self, node) {
            (Self::Text, Node::Scalar(scalar)) => Some(Value::from(scalar.text.clone())),
            (Self::Whole, Node::Scalar(scalar)) => whole(&scalar.text).map(Value::from),
            (Self::Number, Node::Scalar(scalar)) => {
                scalar.text.parse::<f64>().ok().map(Value::from)
            }
            (Self::Switch, Node::Scalar(scalar)) => switch(&scalar.text).map(Value::from),
            (Self::Object(fields), Node::Map(entries)) => {
                let mut object = Map::new();
                for (yaml, json, kind) in fields {
                    // Others are ignored, as in Headscale.
                    let Some(value) = entries.get(*yaml) else {
                        continue;
                    };
                    let value = kind.read(value, &format!("{yaml} of {at}"))?;
                    if !value.is_null() {
                        object.insert((*json).to_owned(), value);
                    }
                }
                Some(Value::Object(object))
            }
            (Self::Regions, Node::Map(entries)) => {
                let mut regions = Map::new();
                for (id, region) in entries {
                    let at = format!("region {id}");
                    let Some(id) = whole(id) else {
                        let (field, wanted) = (format!("the key of {at}"), "a whole number");
                        return Err(YamlError::Field { field, wanted });
                    };
                    // One that is null is taken out of the map.
                    let region = Self::Object(REGION).read(region, &at)?;
                    regions.insert(id.to_string(), region);
                }
                Some(Value::Object(regions))
            }
            (Self::Nodes, Node::List(nodes)) => {
                let mut all = Vec::with_capacity(nodes.len());
                for (number, node) in (1..).zip(nodes) {
                    let node = Self::Object(NODE).read(node, &format!("node {number} of {at}"))?;
                    all.push(if node.is_null() {
                        Value::Object(Map::new())
                    } else {
                        node
                    });
                }
                Some(Value::Array(all))
            }
            _ => None,
        };
        read.ok_or_else(|| YamlError::Field {
            field: at.to_owned(),
            wanted: self.wanted(),
        })
    }

    const fn wanted(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Whole => "a whole number",
            Self::Number => "a number",
            Self::Switch => "true or false",
            Self::Object(_) => "fields with values",
            Self::Regions => "regions by their numbers",
            Self::Nodes => "a list of nodes",
        }
    }
}

fn whole(text: &str) -> Option<i64> {
    derp_ops::goflag::parse_int(text)
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "on" => Some(true),
        "false" | "False" | "FALSE" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
