//! Lines over the last day, as SVG: what probes of a kind measured, with a line for each.

use std::fmt::Display;
use std::time::SystemTime;

use derp_ops::html::Escaped;

use super::super::history::{History, PIECES, piece};
use super::push;

/// The size of the picture, and where its lines are in it.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 88.0;
const RIGHT: f64 = 708.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 190.0;
/// How far back plots can go, in pieces, and what their quarters are called: they go no further
/// than to what there is.
const SPANS: [(u32, [&str; 5]); 3] = [
    (12, ["1 h ago", "45 min", "30 min", "15 min", "now"]),
    (48, ["4 h ago", "3 h", "2 h", "1 h", "now"]),
    (PIECES, ["24 h ago", "18 h", "12 h", "6 h", "now"]),
];
/// How many lines there are at most; more cannot be told apart.
pub(super) const MOST_LINES: usize = 8;

/// A plot. `unit` writes a value of its axis.
pub(super) fn svg<U: Display>(
    title: &str,
    lines: &[(String, &History)],
    now: SystemTime,
    unit: impl Fn(f64) -> U,
) -> String {
    let last = piece(now);
    let lines = lines.get(..MOST_LINES).unwrap_or(lines);
    let means = lines.iter().flat_map(|(_, history)| history.pieces());
    let means = means.filter(|piece| piece.good > 0);
    let highest = means.map(|piece| f64::from(piece.mean)).fold(0.0, f64::max);
    let top = round_up(highest);
    let (pieces, words) = span(lines, last);
    let mut svg = String::new();
    let title = Escaped(title);
    push(
        &mut svg,
        format_args!(
            "<figure class=\"plot\"><figcaption>{title}</figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}, from {} until now\">",
            words[0],
        ),
    );
    for quarter in 0..=4_u8 {
        let part = f64::from(quarter) / 4.0;
        let y = BOTTOM - (BOTTOM - TOP) * part;
        let value = unit(top * part);
        push(
            &mut svg,
            format_args!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.0}H{RIGHT}\"/>\
             <text class=\"axis end\" x=\"{}\" y=\"{:.0}\">{value}</text>",
                LEFT - 6.0,
                y + 4.0,
            ),
        );
    }
    for (quarter, words) in (0_u8..).zip(words) {
        let x = LEFT + (RIGHT - LEFT) * f64::from(quarter) / 4.0;
        let class = match quarter {
            0 => "axis",
            4 => "axis end",
            _ => "axis mid",
        };
        push(
            &mut svg,
            format_args!(
                "<text class=\"{class}\" x=\"{x:.0}\" y=\"{:.0}\">{words}</text>",
                BOTTOM + 18.0
            ),
        );
    }
    for (at, (name, history)) in lines.iter().enumerate() {
        let path = path(history, last, pieces, top);
        let name = Escaped(name);
        push(
            &mut svg,
            format_args!("<path class=\"line c{at}\" d=\"{path}\"><title>{name}</title></path>"),
        );
    }
    svg.push_str("</svg><ul class=\"legend\">");
    for (at, (name, _)) in lines.iter().enumerate() {
        push(
            &mut svg,
            format_args!("<li class=\"c{at}\">{}</li>", Escaped(name)),
        );
    }
    svg.push_str("</ul></figure>\n");
    svg
}

/// The shortest span that has everything in it.
fn span(lines: &[(String, &History)], last: u32) -> (u32, [&'static str; 5]) {
    let measured = lines.iter().filter_map(|(_, history)| {
        let mut pieces = history.pieces().filter(|piece| piece.good > 0);
        pieces.next().map(|piece| last.saturating_sub(piece.at))
    });
    let oldest = measured.max().unwrap_or(0);
    let long_enough = SPANS.into_iter().find(|(pieces, _)| oldest < *pieces);
    long_enough.unwrap_or(SPANS[2])
}

/// The line; it is broken where nothing was measured for a quarter of an hour.
fn path(history: &History, last: u32, pieces: u32, top: f64) -> String {
    const GAP: u32 = 3;
    let (mut path, mut before) = (String::new(), None::<u32>);
    for found in history.pieces().filter(|piece| piece.good > 0) {
        let back = last.saturating_sub(found.at);
        if back >= pieces {
            continue;
        }
        let x = RIGHT - (RIGHT - LEFT) * f64::from(back) / f64::from(pieces);
        let y = BOTTOM - (BOTTOM - TOP) * (f64::from(found.mean) / top).clamp(0.0, 1.0);
        let is_next = before.is_some_and(|before| found.at - before <= GAP);
        let step = if is_next { 'L' } else { 'M' };
        push(&mut path, format_args!("{step}{x:.1} {y:.1}"));
        if !is_next {
            // A single value is a point.
            path.push_str("h.1");
        }
        before = Some(found.at);
    }
    path
}

/// The next round number, so that quarters of the axis can be read.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let decade = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    let found = steps.iter().find(|step| **step * decade >= value);
    found.unwrap_or(&10.0) * decade
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::history::{PIECE, Point};
    use super::super::words::Latency;
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let rounded = [0.0, 0.031, 1.0, 1.5, 7.0, 9.1, 4_100.0].map(round_up);
        let expected = [1.0, 0.04, 1.0, 2.0, 8.0, 10.0, 6_000.0];
        for (rounded, expected) in rounded.into_iter().zip(expected) {
            assert!((rounded - expected).abs() < 1e-9, "{rounded} {expected}");
        }
    }

    #[test]
    fn a_line_breaks_where_nothing_was_measured() {
        let mut history = History::default();
        for piece in [1_000, 1_001, 1_010] {
            let at = SystemTime::UNIX_EPOCH + PIECE * piece;
            history.add(at, Point::Seconds(0.02));
        }
        history.add(SystemTime::UNIX_EPOCH + PIECE * 1_011, Point::Bad);
        let path = path(&history, 1_011, PIECES, 0.04);
        assert_eq!(path, "M684.3 101.0h.1L686.5 101.0M705.8 101.0h.1");
        let now = SystemTime::UNIX_EPOCH + PIECE * 1_011 + Duration::from_secs(1);
        let svg = svg("<r>", &[("n1".to_owned(), &history)], now, Latency);
        assert!(svg.contains("<figcaption>&lt;r&gt;</figcaption>"), "{svg}");
        assert!(svg.contains(">20 ms</text>"), "{svg}");
    }

    #[test]
    fn a_plot_goes_no_further_back_than_what_there_is() {
        let began = |pieces: u32| {
            let mut history = History::default();
            let at = SystemTime::UNIX_EPOCH + PIECE * (1_000 - pieces);
            history.add(at, Point::Seconds(0.02));
            let now = SystemTime::UNIX_EPOCH + PIECE * 1_000;
            svg("n1", &[("n1".to_owned(), &history)], now, Latency)
        };
        for (pieces, words) in [
            (0, "1 h"),
            (11, "1 h"),
            (12, "4 h"),
            (47, "4 h"),
            (48, "24 h"),
        ] {
            assert!(
                began(pieces).contains(&format!(">{words} ago</text>")),
                "{pieces}"
            );
        }
        // The very first value is at the left end, and nothing is beyond it.
        assert!(began(11).contains("d=\"M139"), "{}", began(11));
    }
}
