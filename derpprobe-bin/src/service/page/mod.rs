//! The pages: all regions at a glance, and one region in detail. Made as a whole by the server;
//! there is no script in them, and nothing that comes from elsewhere. Everything that maps and
//! servers said is escaped.

mod fleet;
mod matrix;
mod plot;
mod region;
mod state;
mod strip;
mod words;

use std::collections::BTreeMap;
use std::fmt::{self, Arguments, Display, Formatter, Write};
use std::time::{Duration, SystemTime};

use derp_ops::html::Escaped;

use self::fleet::{Regions, in_path};
use self::state::{LastRuns, State};
use self::words::{Age, Ago};
use super::record::Record;
use crate::args::PROGRAM;

pub use self::region::html as region_html;

/// The stylesheet.
pub const STYLE: &str = include_str!("style.css");
/// How often browsers fetch the page again, in seconds.
const REFRESH: u32 = 30;
/// How many faults are shown.
const MOST_BAD: usize = 50;
/// How many probes are named of which the same is said.
const MOST_NAMES: usize = 8;

/// What the pages show.
#[derive(Debug)]
pub struct View<'a> {
    /// All probes, by name.
    pub records: &'a BTreeMap<String, Record>,
    /// Now.
    pub now: SystemTime,
    /// When the program was started.
    pub started: SystemTime,
    /// Where the map is, for people.
    pub source: &'a str,
    /// How old the map is.
    pub map_age: Option<Duration>,
}

/// The overview.
#[must_use]
pub fn html(view: &View<'_>) -> String {
    let mut page = begin("Relays");
    push(&mut page, format_args!("<h1>Relays</h1>\n"));
    push_summary(&mut page, view);
    push_bad(&mut page, view, |_| true);
    Regions::of(view).push(&mut page, view);
    end(&mut page, view);
    page
}

fn begin(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\">\
         <link rel=\"stylesheet\" href=\"/style.css\"><link rel=\"icon\" href=\"data:,\">\
         <title>{}</title></head>\n<body>\n<main>\n",
        Escaped(title)
    )
}

fn end(page: &mut String, view: &View<'_>) {
    let up = view.now.duration_since(view.started).unwrap_or_default();
    push(
        page,
        format_args!(
            "</main>\n<footer>derpprobe {}, running for {} · \
             <a href=\"/status.json\">JSON</a> · <a href=\"/metrics\">metrics</a> · \
             <a href=\"/debug/\">debug</a></footer>\n</body>\n</html>\n",
            PROGRAM.version,
            Age(up),
        ),
    );
}

/// How it is as a whole, in words.
fn push_summary(page: &mut String, view: &View<'_>) {
    let states = view.records.values();
    let states: Vec<_> = states.map(|record| State::of(record, view.now)).collect();
    let count = |wanted| states.iter().filter(|state| **state == wanted).count();
    let (all, bad) = (states.len(), count(State::Bad));
    let (unknown, stale) = (count(State::Unknown), count(State::Stale));
    let mut words = match (bad, all) {
        _ if unknown == all => "No probe has run yet".to_owned(),
        (0, all) if unknown + stale == 0 => format!("All {all} probes are good"),
        (0, all) => format!("{} of {all} probes are good", all - unknown - stale),
        (1, all) => format!("1 of {all} probes is bad"),
        (bad, all) => format!("{bad} of {all} probes are bad"),
    };
    if (1..all).contains(&unknown) {
        words.push_str(&format!(", {unknown} have not run yet"));
    }
    if stale > 0 {
        words.push_str(&format!(", {stale} had no result for a while"));
    }
    let class = match () {
        () if bad > 0 => "bad",
        () if stale > 0 => "stale",
        () if unknown == all => "unknown",
        () => "good",
    };
    push(
        page,
        format_args!("<p class=\"summary {class}\">{words}</p>\n"),
    );
    let source = Escaped(view.source);
    match view.map_age {
        Some(age) => push(
            page,
            format_args!("<p class=\"quiet\">Map: {source}, {} old</p>\n", Age(age)),
        ),
        None => push(
            page,
            format_args!("<p class=\"quiet\">Map: {source}, which was not got yet</p>\n"),
        ),
    }
}

/// What is bad now, of the probes that are `wanted`: the words, which say what to do, and whom they
/// are said of. A relay that is dead is one fault and not one for each way that leads to it.
fn push_bad(page: &mut String, view: &View<'_>, wanted: impl Fn(&Record) -> bool) {
    let mut faults: BTreeMap<&str, Vec<(&str, &Record)>> = BTreeMap::new();
    for (name, record) in view.records {
        if let Some(error) = record.error().filter(|_| wanted(record)) {
            faults.entry(error).or_default().push((name, record));
        }
    }
    if faults.is_empty() {
        return;
    }
    page.push_str("<h2>Bad now</h2>\n<ul class=\"faults\">\n");
    let mut sorted: Vec<_> = faults.into_iter().collect();
    sorted.sort_by_key(|(_, probes)| probes.first().map(|(name, _)| *name));
    for (error, probes) in sorted.iter().take(MOST_BAD) {
        push(page, format_args!("<li><p>{}</p>\n<ul>", Escaped(error)));
        for (name, record) in probes.iter().take(MOST_NAMES) {
            push(
                page,
                format_args!(
                    "<li>{} {} <span class=\"quiet\">{}</span></li>\n",
                    Linked(name, record),
                    LastRuns(record),
                    since(record, view.now),
                ),
            );
        }
        if let Some(more @ 1..) = probes.len().checked_sub(MOST_NAMES) {
            push(
                page,
                format_args!("<li class=\"quiet\">and {more} more</li>\n"),
            );
        }
        page.push_str("</ul></li>\n");
    }
    page.push_str("</ul>\n");
    if let Some(more @ 1..) = sorted.len().checked_sub(MOST_BAD) {
        push(
            page,
            format_args!("<p>And {more} more; each region's page has its own.</p>\n"),
        );
    }
}

/// A probe's name, which leads to its region.
struct Linked<'a>(&'a str, &'a Record);

impl Display for Linked<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = Escaped(self.0);
        match &self.1.subject.region {
            Some(region) => write!(
                f,
                "<a href=\"/region/{}\">{name}</a>",
                in_path(&region.code)
            ),
            None => write!(f, "{name}"),
        }
    }
}

/// Since when it is so, where that is certain.
fn since(record: &Record, now: SystemTime) -> String {
    match (record.verdict.is_good, record.verdict.since, record.ended) {
        (Some(false), Some(time), _) => format!("since {}", Ago { time, now }),
        (_, _, Some(time)) => format!("only {}", Ago { time, now }),
        _ => String::new(),
    }
}

fn push(page: &mut String, text: Arguments<'_>) {
    page.write_fmt(text)
        .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests;
