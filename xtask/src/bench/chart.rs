//! The picture for the README: what each relay costs, as a share of what Go's costs.

use std::fmt::Write;

use super::outcome::{Line, rounded};
use super::row::Target;

const WIDTH: f64 = 860.0;
/// Where bars begin and how long Go's is.
const BARS: (f64, f64) = (300.0, 460.0);
const BAR_HEIGHT: f64 = 11.0;
const HEAD: f64 = 52.0;
/// Ours, Go's, others: they can be told apart on white and on black, and without colour by order.
const COLOURS: [&str; 5] = ["#e8590c", "#868e96", "#4c8dd6", "#3a9d5d", "#9c6ade"];

/// An SVG without a background, for light pages and dark ones.
pub(crate) fn draw(lines: &[Line], relays: &[&str]) -> String {
    let shown: Vec<_> = lines
        .iter()
        .filter(|line| matches!(line.row.target, Target::Smaller(_) | Target::AtMost(_)))
        .filter(|line| {
            line.figures
                .get(1)
                .is_some_and(|go| go.is_some_and(|go| go.median > 0.0))
        })
        .collect();
    let group = rows(relays.len()) * BAR_HEIGHT + 10.0;
    let height = HEAD + group * rows(shown.len()) + 8.0;
    let mut svg = String::new();
    let mut put = |text: std::fmt::Arguments<'_>| {
        svg.write_fmt(text).expect("a string takes any text");
        svg.push('\n');
    };
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">"
    ));
    put(format_args!(
        "<style>text {{ fill: #24292f }} .small {{ font-size: 10px; fill: #57606a }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .small {{ fill: #9198a1 }} }}\
         </style>"
    ));
    put(format_args!(
        "<title>What relaying costs, as a share of Go's derper (shorter is better)</title>"
    ));
    put(format_args!(
        "<text x=\"8\" y=\"18\" font-weight=\"600\">Cost as a share of Go's derper: shorter is better</text>"
    ));
    for (index, relay) in relays.iter().enumerate() {
        let x = 8.0 + 150.0 * rows(index);
        let colour = COLOURS[index % COLOURS.len()];
        put(format_args!(
            "<rect x=\"{x}\" y=\"28\" width=\"10\" height=\"10\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"37\">{}</text>",
            x + 15.0,
            escaped(relay)
        ));
    }
    for (index, line) in shown.iter().enumerate() {
        let top = HEAD + group * rows(index);
        let label = group / 2.0 + top - 1.0;
        put(format_args!(
            "<text x=\"8\" y=\"{label}\">{}</text>",
            escaped(&full_title(lines, line))
        ));
        let go = line.figures[1].map_or(1.0, |go| go.median);
        for (index, figure) in line.figures.iter().enumerate() {
            let Some(figure) = figure else { continue };
            let y = top + BAR_HEIGHT * rows(index);
            let width = (figure.median / go * BARS.1).clamp(1.0, BARS.1 * 1.1);
            let colour = COLOURS[index % COLOURS.len()];
            put(format_args!(
                "<rect x=\"{}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\" fill=\"{colour}\"/>\
                 <text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{} {}</text>",
                BARS.0,
                BAR_HEIGHT - 2.0,
                BARS.0 + width + 5.0,
                y + 8.5,
                rounded(figure.median),
                line.row.unit
            ));
        }
    }
    put(format_args!("</svg>"));
    svg
}

/// A title that begins with dots goes on where the line above it has begun.
fn full_title(lines: &[Line], line: &Line) -> String {
    let Some(rest) = line.row.title.split_once('…').map(|(_, rest)| rest) else {
        return line.row.title.to_owned();
    };
    let first = lines
        .iter()
        .find(|other| other.row.scenario == line.row.scenario && !other.row.title.contains('…'));
    let begin = first.map_or("", |first| first.row.title);
    format!(
        "{},{rest}",
        begin.rsplit_once(", p").map_or(begin, |(begin, _)| begin)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[expect(clippy::cast_precision_loss, reason = "a chart has few rows")]
fn rows(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::outcome::Reports;

    #[test]
    fn bars_are_shares_of_gos() {
        let mut reports = Reports::default();
        for (relay, value) in [("ours & co", 2.0), ("Go", 8.0)] {
            reports.add("pair-16", relay, json!({ "server_us_per_packet": value }));
        }
        let relays = ["ours & co", "Go"];
        let svg = draw(&reports.lines(&relays), &relays);
        let bars: Vec<_> = svg
            .lines()
            .filter(|line| line.contains("class=\"small\""))
            .collect();
        assert!(
            bars[0].contains("width=\"115.0\"") && bars[0].contains("2.00 µs"),
            "{svg}"
        );
        assert!(
            bars[1].contains("width=\"460.0\"") && bars[1].contains("8.00 µs"),
            "{svg}"
        );
        assert!(
            svg.contains("ours &amp; co") && svg.trim_end().ends_with("</svg>"),
            "{svg}"
        );
    }

    #[test]
    fn a_title_goes_on_where_another_began() {
        let mut reports = Reports::default();
        for field in ["p50_us", "p99_us"] {
            reports.add("slow-reader-1", "ours", json!({ field: 1.0 }));
        }
        let lines = reports.lines(&["ours"]);
        let titles: Vec<_> = lines.iter().map(|line| full_title(&lines, line)).collect();
        assert_eq!(
            titles[..2],
            [
                "age at a reader of 1 MB/s, p50",
                "age at a reader of 1 MB/s, p99"
            ]
        );
    }
}
