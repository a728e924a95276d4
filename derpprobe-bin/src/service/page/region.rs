//! One region in detail: its day in plots, the ways between its nodes, and each probe with what it
//! found last.

use std::collections::BTreeMap;
use std::time::Duration;

use derp_ops::html::Escaped;

use super::super::history::History;
use super::super::record::Record;
use super::fleet::{in_path, long, short};
use super::matrix::push_matrix;
use super::plot;
use super::state::{LastRuns, State};
use super::words::{Age, Ago, Latency, Rate};
use super::{View, begin, end, push, push_bad};
use crate::subject::{Class, Subject};

/// The kinds whose numbers are drawn.
const DRAWN: [Class; 6] = [
    Class::Relay,
    Class::Stun,
    Class::WebSocket,
    Class::Bandwidth,
    Class::QueueDelay,
    Class::Convergence,
];

/// The page of the region with this code; `None` where there is none.
#[must_use]
pub fn html(view: &View<'_>, code: &str) -> Option<String> {
    let is_here = |record: &Record| {
        let region = record.subject.region.as_ref();
        region.is_some_and(|region| region.code == code)
    };
    let here: BTreeMap<&String, &Record> = view
        .records
        .iter()
        .filter(|(_, record)| is_here(record))
        .collect();
    if here.is_empty() {
        return None;
    }
    let mut page = begin(&format!("Region {code}"));
    push(
        &mut page,
        format_args!(
            "<p><a href=\"/\">← all regions</a></p>\n<h1>Region {}</h1>\n",
            Escaped(code)
        ),
    );
    push_bad(&mut page, view, is_here);
    let of = |class| {
        let here = here.iter();
        here.filter(move |(_, record)| record.subject.class == class)
            .map(|(_, record)| *record)
            .collect::<Vec<_>>()
    };
    push_plots(&mut page, view, of);
    push_matrix(&mut page, view, &of(Class::Relay));
    push_facts(&mut page, here.values().copied());
    push_probes(&mut page, view, &here);
    end(&mut page, view);
    Some(page)
}

fn push_plots<'a>(page: &mut String, view: &View<'_>, of: impl Fn(Class) -> Vec<&'a Record>) {
    let mut has_head = false;
    for class in DRAWN {
        let mut lines: Vec<(String, &History)> = Vec::new();
        for record in of(class) {
            if record.history.pieces().any(|piece| piece.good > 0) {
                lines.push((line_name(&record.subject), &record.history));
            }
        }
        if lines.is_empty() {
            continue;
        }
        // Where not all fit, those that say most.
        lines.sort_by(|(_, a), (_, b)| latest(b).total_cmp(&latest(a)));
        if !has_head {
            page.push_str("<h2>The last day</h2>\n<div class=\"plots\">\n");
            has_head = true;
        }
        let title = match lines.len().checked_sub(plot::MOST_LINES) {
            Some(more @ 1..) => format!("{}: {}, without {more} more", short(class), long(class)),
            _ => format!("{}: {}", short(class), long(class)),
        };
        page.push_str(&match class {
            Class::Bandwidth => plot::svg(&title, &lines, view.now, Rate),
            _ => plot::svg(&title, &lines, view.now, Latency),
        });
    }
    if has_head {
        page.push_str("</div>\n");
    }
}

fn latest(history: &History) -> f32 {
    history.pieces().next_back().map_or(0.0, |piece| piece.mean)
}

/// What a line is called: the node, and where the way leads or which addresses it is about.
fn line_name(subject: &Subject) -> String {
    let node = subject.node.as_ref().map_or("", |node| node.name.as_str());
    match (&subject.to, subject.family) {
        (Some(to), _) if to.name != node => format!("{node} → {}", to.name),
        (_, Some(family)) => format!("{node} {}", family.as_str()),
        _ => node.to_owned(),
    }
}

/// What relays say of themselves, and how long their certificates last.
fn push_facts<'a>(page: &mut String, records: impl Iterator<Item = &'a Record>) {
    let mut facts: BTreeMap<&str, Vec<(&str, String)>> = BTreeMap::new();
    for record in records {
        let Some(node) = &record.subject.node else {
            continue;
        };
        let facts = facts.entry(&node.name).or_default();
        if let Some(left) = record.measured("certificate_seconds_left") {
            let words = match Duration::try_from_secs_f64(left) {
                Ok(left) => format!("for {}", Age(left)),
                Err(_) => "ended".to_owned(),
            };
            facts.push(("certificate", words));
        }
        for (what, text) in &record.findings.facts {
            facts.push((what, text.clone()));
        }
    }
    facts.retain(|_, facts| !facts.is_empty());
    if facts.is_empty() {
        return;
    }
    page.push_str("<h2>The nodes</h2>\n");
    for (node, facts) in facts {
        push(page, format_args!("<h3>{}</h3>\n<dl>\n", Escaped(node)));
        for (what, text) in facts {
            let what = what.replace('_', " ");
            push(
                page,
                format_args!("<dt>{}<dd>{}\n", Escaped(&what), Escaped(&text)),
            );
        }
        page.push_str("</dl>\n");
    }
}

fn push_probes(page: &mut String, view: &View<'_>, records: &BTreeMap<&String, &Record>) {
    page.push_str(
        "<h2>Probes</h2>\n<div class=\"wide\"><table>\n<tr><th scope=\"col\">Probe\
         <th scope=\"col\">State<th scope=\"col\">Took<th scope=\"col\">Last runs\
         <th scope=\"col\">Ended<th scope=\"col\">Every<th scope=\"col\"></tr>\n",
    );
    for (name, record) in records {
        let state = State::of(record, view.now);
        let took = record
            .latency()
            .map(|took| Latency(took.as_secs_f64()).to_string());
        let ended = record.ended.map(|time| {
            let now = view.now;
            Ago { time, now }.to_string()
        });
        push(
            page,
            format_args!(
                "<tr><th scope=\"row\">{}<td class=\"{}\">{} {state}<td>{}<td>{}<td>{}<td>{}\
                 <td><a href=\"/debug/probe-run?name={}\">run now</a></tr>\n",
                Escaped(name),
                state.class(),
                state.sign(),
                took.unwrap_or_default(),
                LastRuns(record),
                ended.unwrap_or_default(),
                Age(record.interval),
                in_path(name),
            ),
        );
    }
    page.push_str("</table></div>\n");
}
