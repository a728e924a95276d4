//! A day in a strip: a rectangle for each hour, by how many runs were good in it.

use std::time::SystemTime;

use super::super::history::{History, PIECE, piece};
use super::push;

/// How many hours are shown.
const HOURS: usize = 24;
/// How wide an hour is, and how high the strip.
const WIDTH: usize = 5;
const HEIGHT: usize = 16;

/// What an hour was like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hour {
    Empty,
    Good,
    Mixed,
    Bad,
}

/// The strip of several probes together, as SVG.
pub(super) fn svg<'a>(histories: impl Iterator<Item = &'a History>, now: SystemTime) -> String {
    let hours = hours(histories, now);
    let (width, mut svg) = (HOURS * WIDTH, String::new());
    let good: usize = hours.iter().filter(|hour| **hour == Hour::Good).count();
    let known = hours.iter().filter(|hour| **hour != Hour::Empty).count();
    let label = format!("{good} of {known} hours without a bad run");
    push(
        &mut svg,
        format_args!(
            "<svg class=\"strip\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" \
         height=\"{HEIGHT}\" role=\"img\" aria-label=\"{label}\"><title>{label}; now is on the \
         right</title>"
        ),
    );
    for (kind, class) in [
        (Hour::Empty, "none"),
        (Hour::Good, "good"),
        (Hour::Mixed, "mixed"),
        (Hour::Bad, "bad"),
    ] {
        let path = path(&hours, kind);
        if !path.is_empty() {
            push(
                &mut svg,
                format_args!("<path class=\"{class}\" d=\"{path}\"/>"),
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// The rectangles of all hours of this kind; bad ones are higher, so that colour is not all.
fn path(hours: &[Hour; HOURS], kind: Hour) -> String {
    let mut path = String::new();
    let top = match kind {
        Hour::Empty => HEIGHT - 2,
        Hour::Good => 6,
        Hour::Mixed => 3,
        Hour::Bad => 0,
    };
    let (height, wide) = (HEIGHT - top, WIDTH - 1);
    for (at, _) in hours.iter().enumerate().filter(|(_, hour)| **hour == kind) {
        push(
            &mut path,
            format_args!("M{} {top}h{wide}v{height}h-{wide}z", at * WIDTH),
        );
    }
    path
}

fn hours<'a>(histories: impl Iterator<Item = &'a History>, now: SystemTime) -> [Hour; HOURS] {
    let per_hour = u32::try_from(3_600 / PIECE.as_secs()).unwrap_or(1);
    let this_hour = piece(now) / per_hour;
    let mut sums = [(0_u32, 0_u32); HOURS];
    for found in histories.flat_map(History::pieces) {
        let Some(back) = this_hour.checked_sub(found.at / per_hour) else {
            continue;
        };
        let place = usize::try_from(back)
            .ok()
            .and_then(|back| (HOURS - 1).checked_sub(back));
        if let Some((good, bad)) = place.and_then(|place| sums.get_mut(place)) {
            *good += u32::from(found.good);
            *bad += u32::from(found.bad);
        }
    }
    sums.map(|sum| match sum {
        (0, 0) => Hour::Empty,
        (_, 0) => Hour::Good,
        (0, _) => Hour::Bad,
        _ => Hour::Mixed,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::history::Point;
    use super::*;

    #[test]
    fn an_hour_is_good_bad_or_both() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100 * 3_600 + 1_800);
        let ago = |minutes: u64| now - Duration::from_secs(minutes * 60);
        let mut one = History::default();
        one.add(ago(30 * 60), Point::Bad);
        one.add(ago(23 * 60), Point::Bad);
        one.add(ago(120), Point::Seconds(1.0));
        one.add(ago(5), Point::Seconds(1.0));
        let mut other = History::default();
        other.add(ago(10), Point::Bad);
        let hours = hours([&one, &other].into_iter(), now);
        let mut expected = [Hour::Empty; HOURS];
        (expected[0], expected[21], expected[23]) = (Hour::Bad, Hour::Good, Hour::Mixed);
        assert_eq!(hours, expected);
        let svg = svg([&one].into_iter(), now);
        assert!(svg.contains("2 of 3 hours without a bad run"), "{svg}");
        assert!(
            svg.contains("<path class=\"bad\" d=\"M0 0h4v16h-4z\"/>"),
            "{svg}"
        );
    }
}
