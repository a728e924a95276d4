//! Text for pages: what people say for times and rates.

use std::fmt::{self, Display};
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_seconds;

/// A length of time with its largest unit, as in `3 min`.
pub(super) struct Age(pub(super) Duration);

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..120 => write!(f, "{seconds} s"),
            120..7_200 => write!(f, "{} min", seconds / 60),
            7_200..172_800 => write!(f, "{} h", seconds / 3_600),
            _ => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// How long ago something was, with the exact time behind it.
pub(super) struct Ago {
    pub(super) time: SystemTime,
    pub(super) now: SystemTime,
}

impl Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = format_rfc3339_seconds(self.time);
        let age = Age(self.now.duration_since(self.time).unwrap_or_default());
        write!(
            f,
            "<time datetime=\"{exact}\" title=\"{exact}\">{age} ago</time>"
        )
    }
}

/// A measured time, as in `31 ms`.
pub(super) struct Latency(pub(super) f64);

impl Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 * 1e3;
        if millis < 9.95 {
            write!(f, "{millis:.1} ms")
        } else if millis < 999.5 {
            write!(f, "{millis:.0} ms")
        } else {
            write!(f, "{:.1} s", self.0)
        }
    }
}

/// A rate, in decimal units as network people have it.
pub(super) struct Rate(pub(super) f64);

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0 * 8.0;
        if bits < 999.5e3 {
            write!(f, "{:.0} kbit/s", bits / 1e3)
        } else if bits < 999.5e6 {
            write!(f, "{:.1} Mbit/s", bits / 1e6)
        } else {
            write!(f, "{:.1} Gbit/s", bits / 1e9)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_said_as_people_do() {
        let age = |seconds| Age(Duration::from_secs(seconds)).to_string();
        assert_eq!(
            [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(age),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]
        );
        let latency = |seconds| Latency(seconds).to_string();
        assert_eq!(
            [0.000_42, 0.009_94, 0.009_96, 0.9994, 1.25].map(latency),
            ["0.4 ms", "9.9 ms", "10 ms", "999 ms", "1.2 s"]
        );
        let rate = |bytes| Rate(bytes).to_string();
        assert_eq!(
            [1e3, 1.25e6, 1.25e9].map(rate),
            ["8 kbit/s", "10.0 Mbit/s", "10.0 Gbit/s"]
        );
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let ago = Ago {
            time: at(60),
            now: at(120),
        };
        assert_eq!(
            ago.to_string(),
            "<time datetime=\"1970-01-01T00:01:00Z\" title=\"1970-01-01T00:01:00Z\">60 s ago</time>"
        );
    }
}
