//! The ways within a region as a matrix: from whom in rows, to whom in columns, how long a packet
//! takes in the cells.

use std::collections::{BTreeMap, BTreeSet};

use derp_ops::html::Escaped;

use super::super::record::Record;
use super::state::State;
use super::words::Latency;
use super::{View, push};

/// More nodes than fit on a page.
const MOST_NODES: usize = 64;
/// Shades of the heat map.
const SHADES: u32 = 5;

/// The matrix of these probes, which are all of one kind and have two nodes each.
pub(super) fn push_matrix(page: &mut String, view: &View<'_>, records: &[&Record]) {
    let mut ways = BTreeMap::new();
    let mut names = BTreeSet::new();
    for record in records {
        if let (Some(from), Some(to)) = (&record.subject.node, &record.subject.to) {
            names.extend([from.name.as_str(), to.name.as_str()]);
            ways.insert((from.name.as_str(), to.name.as_str()), *record);
        }
    }
    if names.len() < 2 || names.len() > MOST_NODES {
        return;
    }
    let longest = records.iter().filter_map(|record| seconds(record));
    let longest = longest.fold(0.0, f64::max);
    page.push_str(
        "<h2>Ways within the region</h2>\n<p class=\"quiet\">From the node of the row to that of \
         the column; the deeper the colour, the longer a packet takes.</p>\n\
         <div class=\"wide\"><table class=\"matrix\">\n<tr><td>",
    );
    for name in &names {
        push(page, format_args!("<th scope=\"col\">{}", Escaped(name)));
    }
    page.push_str("</tr>\n");
    for from in &names {
        push(
            page,
            format_args!("<tr><th scope=\"row\">{}", Escaped(from)),
        );
        for to in &names {
            push_way(page, view, ways.get(&(*from, *to)).copied(), longest);
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

fn push_way(page: &mut String, view: &View<'_>, way: Option<&Record>, longest: f64) {
    let Some(record) = way else {
        page.push_str("<td>");
        return;
    };
    let state = State::of(record, view.now);
    match seconds(record).filter(|_| state == State::Good) {
        Some(seconds) => {
            let shade = shade(seconds, longest);
            push(
                page,
                format_args!("<td class=\"h{shade}\">{}", Latency(seconds)),
            );
        }
        None => push(
            page,
            format_args!(
                "<td class=\"{}\" title=\"{state}\">{}",
                state.class(),
                state.sign()
            ),
        ),
    }
}

/// How long the packet of the last run took.
fn seconds(record: &Record) -> Option<f64> {
    record.latency()?;
    record.measured("relay_seconds")
}

/// The part of the longest time, in shades.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the shade is between 0 and their number"
)]
fn shade(seconds: f64, longest: f64) -> u32 {
    if longest <= 0.0 {
        return 0;
    }
    let part = (seconds / longest).clamp(0.0, 1.0);
    ((part * f64::from(SHADES)) as u32).min(SHADES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_way_is_the_darkest() {
        let shades = [0.0, 0.1, 0.5, 0.99, 1.0, 2.0].map(|seconds| shade(seconds, 1.0));
        assert_eq!(shades, [0, 0, 2, 4, 4, 4]);
        assert_eq!(shade(0.0, 0.0), 0);
    }
}
