//! The picture for the README: what each relay costs, as a share of what Go's costs.
//!
//! It shows a few lines of the table, those that somebody who runs a relay would ask about first.

use std::fmt::Write;

use super::outcome::{Line, rounded};

const WIDTH: f64 = 860.0;
/// Where bars begin and how long Go's is.
const BARS: (f64, f64) = (290.0, 430.0);
const BAR_HEIGHT: f64 = 12.0;
const HEAD: f64 = 56.0;
/// Ours, Go's, others: they can be told apart on white and on black, and without colour by order.
const COLOURS: [&str; 5] = ["#e8590c", "#868e96", "#4c8dd6", "#3a9d5d", "#9c6ade"];

/// Scenario and field of what is shown, and what it is called here.
const SHOWN: &[(&str, &str, &str)] = &[
    ("pair-16", CPU, "CPU per packet, one busy pair"),
    ("pairs-8", CPU, "CPU per packet, 100 busy pairs"),
    ("pairs-20k", CPU, "CPU per packet, 100 calm pairs"),
    ("ping-pong", CPU, "CPU per packet, one at a time"),
    ("setup-hybrid", "server_us_per_login", "CPU per login"),
    (
        "idle-4000",
        "rss_kib_per_client",
        "memory of an idle client",
    ),
    ("slow-reader-1", "p50_us", "age of packets, slow reader"),
    (
        "two-tailscaled",
        "relay_cpu_seconds",
        "CPU for 100 MB of a tailnet",
    ),
];
const CPU: &str = "server_us_per_packet";

/// An SVG without a background, for light pages and dark ones.
pub(crate) fn draw(lines: &[Line], relays: &[&str]) -> String {
    let shown: Vec<_> = SHOWN
        .iter()
        .filter_map(|&(scenario, field, label)| {
            let line = lines.iter().find(|line| {
                (line.row.scenario, line.row.field) == (scenario, field)
                    && !line.row.target.is_within_ours()
            })?;
            let go = line.figures.get(1).copied().flatten()?.median;
            (go > 0.0).then_some((line, go, label))
        })
        .collect();
    let group = rows(relays.len()) * BAR_HEIGHT + 12.0;
    let height = HEAD + group * rows(shown.len()) + 4.0;
    let mut svg = String::new();
    let mut put = |text: std::fmt::Arguments<'_>| {
        svg.write_fmt(text).expect("a string takes any text");
        svg.push('\n');
    };
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">"
    ));
    put(format_args!(
        "<style>text {{ fill: #24292f }} .small {{ font-size: 10.5px; fill: #57606a }}\n\
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
        put(format_args!(
            "<rect x=\"{x}\" y=\"30\" width=\"10\" height=\"10\" rx=\"2\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"40\">{}</text>",
            COLOURS[index % COLOURS.len()],
            x + 15.0,
            escaped(relay)
        ));
    }
    for (index, (line, go, label)) in shown.iter().enumerate() {
        let top = HEAD + group * rows(index);
        let middle = top + (group - 12.0) / 2.0 + 4.0;
        put(format_args!(
            "<text x=\"8\" y=\"{middle}\">{}</text>",
            escaped(label)
        ));
        if let Some(ratio) = line.figures[0].map(|ours| go / ours.median) {
            put(format_args!(
                "<text x=\"{}\" y=\"{middle}\" font-weight=\"600\" text-anchor=\"end\">{ratio:.1} ×</text>",
                BARS.0 - 12.0
            ));
        }
        for (index, figure) in line.figures.iter().enumerate() {
            let Some(figure) = figure else { continue };
            let y = top + BAR_HEIGHT * rows(index);
            let width = (figure.median / go * BARS.1).clamp(1.0, BARS.1 * 1.1);
            put(format_args!(
                "<rect x=\"{}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\" fill=\"{}\"/>\
                 <text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                BARS.0,
                BAR_HEIGHT - 2.0,
                COLOURS[index % COLOURS.len()],
                BARS.0 + width + 5.0,
                y + 9.0,
                readable(figure.median, line.row.unit)
            ));
        }
    }
    put(format_args!("</svg>"));
    svg
}

/// A figure with its unit; long times in milliseconds.
fn readable(value: f64, unit: &str) -> String {
    if unit == "µs" && value >= 10_000.0 {
        return format!("{:.0} ms", value / 1000.0);
    }
    format!("{} {unit}", rounded(value))
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
    use crate::bench::row::ROWS;

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
            bars[0].contains("width=\"107.5\"") && bars[0].contains("2.00 µs"),
            "{svg}"
        );
        assert!(
            bars[1].contains("width=\"430.0\"") && bars[1].contains("8.00 µs"),
            "{svg}"
        );
        assert!(
            svg.contains("ours &amp; co") && svg.trim_end().ends_with("</svg>"),
            "{svg}"
        );
    }

    #[test]
    fn every_bar_is_a_line_of_the_table() {
        for &(scenario, field, label) in SHOWN {
            let row = ROWS
                .iter()
                .find(|row| (row.scenario, row.field) == (scenario, field));
            assert!(row.is_some(), "{label}");
        }
    }

    #[test]
    fn long_times_are_told_in_milliseconds() {
        assert_eq!(readable(3_573_547.0, "µs"), "3574 ms");
        assert_eq!(readable(910.0, "µs"), "910 µs");
        assert_eq!(readable(2.14, "KiB"), "2.14 KiB");
    }
}
