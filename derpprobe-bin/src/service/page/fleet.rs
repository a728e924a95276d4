//! Regions and nodes at a glance: a table for each region, a row for each node, a cell for each
//! kind of probe.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use derp_ops::html::Escaped;

use super::super::history::History;
use super::super::record::Record;
use super::state::State;
use super::strip;
use super::words::{Latency, Rate};
use super::{View, push};
use crate::subject::{Class, Family, RegionName};

/// All probes of regions, by region and node.
pub(super) struct Regions<'a>(BTreeMap<i64, Region<'a>>);

struct Region<'a> {
    name: &'a RegionName,
    nodes: BTreeMap<&'a str, Node<'a>>,
}

#[derive(Default)]
struct Node<'a> {
    host: &'a str,
    records: Vec<&'a Record>,
}

impl<'a> Regions<'a> {
    pub(super) fn of(view: &View<'a>) -> Self {
        let mut regions = BTreeMap::new();
        for record in view.records.values() {
            let (Some(name), Some(node)) = (&record.subject.region, &record.subject.node) else {
                continue;
            };
            let region = regions.entry(name.id).or_insert_with(|| Region {
                name,
                nodes: BTreeMap::new(),
            });
            let row = region
                .nodes
                .entry(node.name.as_str())
                .or_insert_with(Node::default);
            row.host = &node.host;
            row.records.push(record);
        }
        Self(regions)
    }

    pub(super) fn push(&self, page: &mut String, view: &View<'_>) {
        if self.0.is_empty() {
            return;
        }
        page.push_str("<h2>Regions</h2>\n<div class=\"regions\">\n");
        for region in self.0.values() {
            region.push(page, view);
        }
        page.push_str("</div>\n");
    }
}

impl Region<'_> {
    fn push(&self, page: &mut String, view: &View<'_>) {
        let code = &self.name.code;
        let columns: BTreeSet<Column> = self
            .nodes
            .values()
            .flat_map(|node| node.records.iter().map(|record| Column::of(record)))
            .collect();
        push(
            page,
            format_args!(
                "<section><h3><a href=\"/region/{}\">{}</a> <span class=\"quiet\">{}</span></h3>\n\
                 <div class=\"wide\"><table>\n<tr><th scope=\"col\">Node",
                in_path(code),
                Escaped(code),
                self.name.id,
            ),
        );
        for column in &columns {
            push(page, format_args!("<th scope=\"col\">{column}"));
        }
        page.push_str("<th scope=\"col\">24 hours</tr>\n");
        for (name, node) in &self.nodes {
            push(
                page,
                format_args!(
                    "<tr><th scope=\"row\" title=\"{}\">{}",
                    Escaped(node.host),
                    Escaped(name)
                ),
            );
            for column in &columns {
                node.push_cell(page, view, *column);
            }
            let histories = node.histories();
            push(
                page,
                format_args!("<td>{}</tr>\n", strip::svg(histories, view.now)),
            );
        }
        page.push_str("</table></div></section>\n");
    }
}

impl Node<'_> {
    fn histories(&self) -> impl Iterator<Item = &History> {
        self.records.iter().map(|record| &record.history)
    }

    fn push_cell(&self, page: &mut String, view: &View<'_>, column: Column) {
        let of_class = || {
            let records = self.records.iter();
            records.filter(|record| Column::of(record) == column)
        };
        let class = column.class;
        let states: Vec<_> = of_class()
            .map(|record| State::of(record, view.now))
            .collect();
        let Some(worst) = states.iter().max() else {
            page.push_str("<td>");
            return;
        };
        let bad = states.iter().filter(|state| **state == State::Bad).count();
        push(
            page,
            format_args!(
                "<td class=\"{}\" title=\"{}: {worst}\">{}",
                worst.class(),
                long(class),
                worst.sign()
            ),
        );
        if bad > 0 && states.len() > 1 {
            push(page, format_args!(" {bad}/{}", states.len()));
        } else if let Some(value) = worst_value(of_class().copied(), class)
            && *worst == State::Good
        {
            push(page, format_args!(" {value}"));
        }
    }
}

/// A kind of probe, and of one for each family of addresses that family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Column {
    class: Class,
    is_v6: bool,
}

impl Column {
    fn of(record: &Record) -> Self {
        Self {
            class: record.subject.class,
            is_v6: record.subject.family == Some(Family::Ipv6),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(short(self.class))?;
        f.write_str(if self.is_v6 { " v6" } else { "" })
    }
}

/// The number of several good probes that says most about the relay: the longest time, or the
/// lowest rate.
fn worst_value<'a>(records: impl Iterator<Item = &'a Record>, class: Class) -> Option<String> {
    let values = records.filter_map(|record| record.history.pieces().next_back());
    let values = values.filter(|piece| piece.good > 0);
    let values = values.map(|piece| f64::from(piece.mean));
    match class {
        Class::Bandwidth => values.reduce(f64::min).map(|rate| Rate(rate).to_string()),
        Class::Stun | Class::Relay | Class::WebSocket | Class::QueueDelay | Class::Convergence => {
            values
                .reduce(f64::max)
                .map(|time| Latency(time).to_string())
        }
        _ => None,
    }
}

/// A name as a piece of a path.
pub(super) fn in_path(name: &str) -> impl fmt::Display {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC)
}

/// What a kind of probe is called in a table's head.
pub(super) const fn short(class: Class) -> &'static str {
    match class {
        Class::Map => "Map",
        Class::Tls => "TLS",
        Class::Stun => "STUN",
        Class::Relay => "Relay",
        Class::Bandwidth => "Bandwidth",
        Class::QueueDelay => "Queue",
        Class::Http => "HTTP",
        Class::WebSocket => "WebSocket",
        Class::Info => "Key",
        Class::Admission => "Strangers",
        Class::Convergence => "Mesh",
    }
}

/// What a kind of probe looks at.
pub(super) const fn long(class: Class) -> &'static str {
    match class {
        Class::Map => "getting the map",
        Class::Tls => "the certificate",
        Class::Stun => "answers to STUN",
        Class::Relay => "a packet through the relay",
        Class::Bandwidth => "many packets through the relay",
        Class::QueueDelay => "how long packets wait in the relay",
        Class::Http => "pages that clients measure with",
        Class::WebSocket => "a packet through the relay in WebSockets",
        Class::Info => "the relay's key and what it says of itself",
        Class::Admission => "strangers are refused",
        Class::Convergence => "how soon relays know each other's clients",
    }
}
