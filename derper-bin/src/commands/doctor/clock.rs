//! Do this machine's clock and the relay's agree? The relay's is in the `Date` of its answers.

use std::time::{Duration, SystemTime};

use super::finding::Findings;

const CHECK: &str = "clock";
/// Beyond this, certificates that live for days, and keys that are exchanged, begin to suffer.
const TOLERABLE: Duration = Duration::from_secs(60);
/// Beyond this, somebody's clock is plainly wrong.
const WRONG: Duration = Duration::from_secs(10 * 60);

pub(super) fn judge(date: Option<&str>, now: SystemTime, findings: &mut Findings) {
    let Some(there) = date.and_then(read) else {
        findings.warn(
            CHECK,
            "the relay's answers tell no time",
            "compare its clock by hand",
        );
        return;
    };
    let apart = match there.duration_since(now) {
        Ok(ahead) => ahead,
        Err(behind) => behind.duration(),
    };
    let seconds = apart.as_secs();
    if apart < TOLERABLE {
        findings.ok(
            CHECK,
            format!("the relay's and this machine's are {seconds} s apart"),
        );
        return;
    }
    let what = format!("the relay's clock and this machine's are {seconds} s apart");
    let remedy = "set both by NTP (timedatectl shows whether a machine does): with a wrong clock \
                  certificates seem expired or not valid yet";
    if apart < WRONG {
        findings.warn(CHECK, what, remedy);
    } else {
        findings.problem(CHECK, what, remedy);
    }
}

/// Reads a date of HTTP (RFC 9110, 5.6.7), as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn read(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, date) = text.split_once(", ")?;
    let mut words = date.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|known| *known == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) || words.next()? != "GMT" {
        return None;
    }
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Days of the Gregorian calendar. Years begin in March here, so that leap days come last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    // From March 1 of the year 0 to January 1, 1970.
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        let seconds = |text| {
            let time = read(text)?.duration_since(SystemTime::UNIX_EPOCH);
            Some(time.unwrap().as_secs())
        };
        let cases = [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Mon, 23 Nov 2026 09:14:22 GMT", Some(1_795_425_262)),
            ("Mon, 23 Nov 2026 09:14:22", None),
            ("Monday, 23-Nov-26 09:14:22 GMT", None),
            ("Mon, 23 Nov 2026 09:14 GMT", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn clocks_that_disagree_are_told_of() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let there = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (seconds, level) in [
            (0, Level::Ok),
            (59, Level::Ok),
            (61, Level::Warning),
            (3600, Level::Problem),
        ] {
            for now in [
                there + Duration::from_secs(seconds),
                there - Duration::from_secs(seconds),
            ] {
                let mut findings = Findings::default();
                judge(Some(date), now, &mut findings);
                let (found, what, _) = findings.only();
                assert_eq!(found, level);
                assert!(what.contains(&format!("{seconds} s apart")), "{what}");
            }
        }
        let mut findings = Findings::default();
        judge(None, there, &mut findings);
        assert_eq!(findings.only().0, Level::Warning);
    }
}
