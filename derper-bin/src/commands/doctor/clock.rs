//! Do this machine's clock and the relay's agree? The relay's is in the `Date` of its answers.

use std::time::{Duration, SystemTime};

use super::finding::Findings;

const CHECK: &str = "clock";
/// Beyond this, certificates that live for days, and keys that are exchanged, begin to suffer.
const TOLERABLE: Duration = Duration::from_secs(60);
/// Beyond this, somebody's clock is plainly wrong.
const WRONG: Duration = Duration::from_secs(10 * 60);

pub(super) fn judge(date: Option<&str>, now: SystemTime, findings: &mut Findings) {
    let Some(there) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
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

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

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
        for no_date in ["", "Mon, 23 Nov 2026 09:14 GMT"] {
            let mut findings = Findings::default();
            judge(Some(no_date), there, &mut findings);
            assert_eq!(findings.only().0, Level::Warning, "{no_date}");
        }
    }
}
