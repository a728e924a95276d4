//! The table of all figures, for a terminal and for a page.

use std::fmt::Write;

use super::outcome::{Figure, Line, rounded};

/// The table as it is printed.
pub(crate) fn text(lines: &[Line], relays: &[&str]) -> String {
    let mut table = String::new();
    let mut put = |title: &str, cells: &[String], ratio: &str, target: &str, met: &str| {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:>26}")).collect();
        let cells = cells.join("");
        writeln!(table, "{title:<44}{cells}{ratio:>10}  {target:<28}{met}")
            .expect("a string takes any text");
    };
    let header: Vec<_> = relays.iter().map(|&relay| relay.to_owned()).collect();
    put("", &header, "ratio", "target", "met?");
    for line in lines {
        let title = format!("{}, {}", line.row.title, line.row.unit);
        let cells: Vec<_> = line.figures.iter().map(|it| with_range(*it)).collect();
        let target = line.row.target.to_string();
        put(&title, &cells, &ratio(line), &target, met(line));
    }
    table
}

/// The same as a table of Markdown, with `footer` below it.
pub(crate) fn markdown(lines: &[Line], relays: &[&str], footer: &str) -> String {
    let mut table = String::new();
    let mut put = |cells: &[String]| {
        let row = cells.join(" | ");
        writeln!(table, "| {row} |").expect("a string takes any text");
    };
    let own = |words: &[&str]| {
        words
            .iter()
            .map(|&word| word.to_owned())
            .collect::<Vec<_>>()
    };
    let behind = ["ratio", "target", "met"];
    put(&[own(&["scenario"]), own(relays), own(&behind)].concat());
    let rule = vec!["---:"; relays.len() + 1];
    put(&own(&[&["---"], &rule[..], &["---", "---"]].concat()));
    for line in lines {
        let mut cells = vec![format!("{}, {}", line.row.title, line.row.unit)];
        cells.extend(line.figures.iter().map(|it| with_range(*it)));
        cells.extend([
            ratio(line),
            line.row.target.to_string(),
            met(line).to_owned(),
        ]);
        put(&cells);
    }
    format!("{table}\n{footer}.\n")
}

/// A median, and the least and the most of all rounds.
fn with_range(figure: Option<Figure>) -> String {
    let Some(it) = figure else {
        return "-".to_owned();
    };
    let (least, most) = (rounded(it.least), rounded(it.most));
    format!("{} [{least}, {most}]", rounded(it.median))
}

fn ratio(line: &Line) -> String {
    line.ratio.map_or_else(|| "-".to_owned(), rounded)
}

fn met(line: &Line) -> &'static str {
    match line.met {
        None => "",
        Some(true) => "yes",
        Some(false) => "NO",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::outcome::Reports;

    #[test]
    fn a_page_shows_medians_ranges_and_what_is_missing() {
        let mut reports = Reports::default();
        for (relay, value) in [("ours", 2.0), ("ours", 1.0), ("ours", 4.0), ("Go", 8.0)] {
            reports.add("ping-pong", relay, json!({ "server_us_per_packet": value }));
        }
        let relays = ["ours", "Go", "absent"];
        let page = markdown(&reports.lines(&relays), &relays, "3 rounds");
        let expected = "\
            | scenario | ours | Go | absent | ratio | target | met |\n\
            | --- | ---: | ---: | ---: | ---: | --- | --- |\n\
            | ping-pong, µs | 2.00 [1.00, 4.00] | 8.00 [8.00, 8.00] | - | 4.00 | Go / 2 | yes |\n\
            \n3 rounds.\n";
        assert_eq!(page, expected);
    }
}
