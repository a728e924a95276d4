//! What is held to be true of a probe: good or bad, once several runs in a row said so. One lost
//! packet does not wake anybody up.

use std::time::SystemTime;

/// What is held to be true of a probe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Good or bad, or not known yet.
    pub is_good: Option<bool>,
    /// Since when.
    pub since: Option<SystemTime>,
    /// How many runs in a row said otherwise, and when the first of them ended.
    against: Option<(u32, SystemTime)>,
}

/// What a probe is that was something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Now {
    /// It is good again.
    Good,
    /// It is bad.
    Bad,
    /// It was bad, and the map does not ask for it any more.
    Gone,
}

impl Now {
    /// As documents have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Gone => "gone",
        }
    }
}

/// A verdict that is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What it is now.
    pub now: Now,
    /// Since when it is so: the end of the first run that said so.
    pub since: SystemTime,
    /// Since when it was otherwise; `None` where it was not known.
    pub was_since: Option<SystemTime>,
}

impl Verdict {
    /// Hears how a run ended. The verdict turns when `runs` of them in a row say otherwise; the
    /// first good run of all is no change.
    pub fn hear(&mut self, now: SystemTime, is_good: bool, runs: u32) -> Option<Change> {
        if self.is_good == Some(is_good) {
            self.against = None;
            return None;
        }
        if self.is_good.is_none() && is_good {
            *self = Self {
                is_good: Some(true),
                since: Some(now),
                against: None,
            };
            return None;
        }
        let (count, since) = self.against.map_or((1, now), |(n, since)| (n + 1, since));
        if count < runs {
            self.against = Some((count, since));
            return None;
        }
        let was_since = self.since;
        *self = Self {
            is_good: Some(is_good),
            since: Some(since),
            against: None,
        };
        let now = if is_good { Now::Good } else { Now::Bad };
        Some(Change {
            now,
            since,
            was_since,
        })
    }

    /// Hears that there are no more runs, which is a change for whoever was told that it is bad.
    #[must_use]
    pub fn end(&self, now: SystemTime) -> Option<Change> {
        (self.is_good == Some(false)).then_some(Change {
            now: Now::Gone,
            since: now,
            was_since: self.since,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The runs after which the verdict turned, and to what.
    fn turns(results: &str, runs: u32) -> Vec<(usize, bool)> {
        let mut verdict = Verdict::default();
        let mut heard = |(n, result): (usize, char)| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
            let change = verdict.hear(now, result == '+', runs)?;
            Some((n, change.now == Now::Good))
        };
        results.chars().enumerate().filter_map(&mut heard).collect()
    }

    #[test]
    fn one_run_changes_nothing() {
        assert_eq!(turns("+-+-+-", 2), []);
        assert_eq!(turns("+--+-++", 2), [(2, false), (6, true)]);
        assert_eq!(turns("---+", 3), [(2, false)]);
        assert_eq!(turns("-+", 2), []);
        assert_eq!(turns("-+-", 1), [(0, false), (1, true), (2, false)]);
    }

    #[test]
    fn a_change_says_since_when() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut verdict = Verdict::default();
        for (second, is_good) in [(1, true), (2, true), (3, false)] {
            assert_eq!(verdict.hear(at(second), is_good, 2), None);
        }
        assert_eq!(
            verdict.hear(at(4), false, 2),
            Some(Change {
                now: Now::Bad,
                since: at(3),
                was_since: Some(at(1)),
            })
        );
        let gone = verdict
            .end(at(9))
            .map(|change| (change.now, change.was_since));
        assert_eq!(gone, Some((Now::Gone, Some(at(3)))));
        assert_eq!(Verdict::default().end(at(9)), None);
    }
}
