//! YAML's text as a tree of bounded size, before anybody asks what it means.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::YamlError;

/// What stands in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Scalar(Scalar),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

/// A word, a number, a text: which of them is up to whoever reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) is_quoted: bool,
}

impl Node {
    /// Whether it stands for nothing.
    pub(super) fn is_null(&self) -> bool {
        match self {
            Self::Scalar(scalar) => {
                !scalar.is_quoted
                    && matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            Self::List(_) | Self::Map(_) => false,
        }
    }
}

/// Reads the first document, as Headscale does.
pub(super) fn read(text: &str) -> Result<Node, YamlError> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|err| YamlError::Syntax(err.to_string()))?;
        let line = span.start.line();
        builder.events += 1;
        if builder.events > MOST_EVENTS {
            return Err(YamlError::TooMuch(line));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                no_anchor(anchor, line)?;
                let scalar = Scalar {
                    text: text.into_owned(),
                    is_quoted: style != ScalarStyle::Plain,
                };
                builder.add(Node::Scalar(scalar), line)?;
            }
            Event::SequenceStart(anchor, _) => {
                no_anchor(anchor, line)?;
                builder.open(Open::List(Vec::new()), line)?;
            }
            Event::MappingStart(anchor, _) => {
                no_anchor(anchor, line)?;
                builder.open(Open::Map(BTreeMap::new(), None), line)?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close(line)?,
            Event::Alias(_) => return Err(YamlError::Alias(line)),
            Event::DocumentEnd => break,
            _ => {}
        }
    }
    let nothing = Scalar {
        text: String::new(),
        is_quoted: false,
    };
    Ok(builder.root.unwrap_or(Node::Scalar(nothing)))
}

/// Where there is an anchor, its number is not zero.
fn no_anchor(anchor: usize, line: usize) -> Result<(), YamlError> {
    if anchor == 0 {
        Ok(())
    } else {
        Err(YamlError::Alias(line))
    }
}

/// A list or a map that is not complete.
enum Open {
    List(Vec<Node>),
    /// With the key whose value follows.
    Map(BTreeMap<String, Node>, Option<String>),
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    events: usize,
}

impl Builder {
    fn open(&mut self, open: Open, line: usize) -> Result<(), YamlError> {
        if self.open.len() >= DEEPEST {
            return Err(YamlError::TooMuch(line));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self, line: usize) -> Result<(), YamlError> {
        match self.open.pop() {
            Some(Open::List(list)) => self.add(Node::List(list), line),
            Some(Open::Map(map, _)) => self.add(Node::Map(map), line),
            None => Ok(()),
        }
    }

    fn add(&mut self, node: Node, line: usize) -> Result<(), YamlError> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(list)) => list.push(node),
            Some(Open::Map(map, key)) => match (key.take(), node) {
                (None, Node::Scalar(scalar)) => *key = Some(scalar.text),
                (None, _) => return Err(YamlError::Key(line)),
                (Some(key), _) if map.contains_key(&key) => {
                    return Err(YamlError::Twice { line, key });
                }
                (Some(key), node) => {
                    map.insert(key, node);
                }
            },
        }
        Ok(())
    }
}

/// The most words, beginnings and ends in a document. A map of the largest size that is probed has
/// some ten thousand.
const MOST_EVENTS: usize = 500_000;
/// How deep a document goes: a node of a map is at five.
const DEEPEST: usize = 16;
