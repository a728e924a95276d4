//! Metrics as text for Prometheus, the way `tsweb/varz` of the reference writes them.
//!
//! Any name goes: dashboards made for the reference keep working, so nothing here insists on a
//! suffix such as `_total`. Families are written sorted by name, and within a family the samples
//! in the order in which they were added. Where the numbers come from is the caller's affair: a
//! visitor adds them to an [`Exposition`] one by one.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// The `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "text/plain;version=0.0.4;charset=utf-8";

/// What kind of number a family holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
    /// Not said: there is no `TYPE` line.
    Untyped,
}

/// A number, written as Go writes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A count.
    Unsigned(u64),
    /// A level that may be below zero.
    Signed(i64),
    /// A measurement.
    Float(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unsigned(value) => value.fmt(f),
            Self::Signed(value) => value.fmt(f),
            Self::Float(value) if value.is_nan() => f.write_str("NaN"),
            Self::Float(f64::INFINITY) => f.write_str("+Inf"),
            Self::Float(f64::NEG_INFINITY) => f.write_str("-Inf"),
            Self::Float(value) => value.fmt(f),
        }
    }
}

/// A set of metrics on its way to becoming text.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    families: BTreeMap<String, Family>,
}

/// One metric: its kind, its help, and its samples as finished lines.
#[derive(Debug, Clone)]
struct Family {
    kind: Kind,
    help: Option<String>,
    samples: String,
}

impl Exposition {
    /// No metrics yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number that only grows.
    pub fn counter(&mut self, name: &str, value: impl Into<Value>) {
        self.sample(name, Kind::Counter, &[], value);
    }

    /// Adds a number that goes up and down.
    pub fn gauge(&mut self, name: &str, value: impl Into<Value>) {
        self.sample(name, Kind::Gauge, &[], value);
    }

    /// Adds a number without saying what kind it is.
    pub fn untyped(&mut self, name: &str, value: impl Into<Value>) {
        self.sample(name, Kind::Untyped, &[], value);
    }

    /// Adds one sample to the family `name`. The first sample of a family decides its kind.
    pub fn sample(
        &mut self,
        name: &str,
        kind: Kind,
        labels: &[(&str, &str)],
        value: impl Into<Value>,
    ) {
        let samples = &mut self.family(name, kind).samples;
        write_sample(samples, name, "", labels, None, value.into());
    }

    /// Adds a histogram. `buckets` are pairs of an upper bound and the number of observations in
    /// that bucket alone, by rising bounds; observations above the last bound are in `above`.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        buckets: impl IntoIterator<Item = (f64, u64)>,
        above: u64,
        sum: f64,
    ) {
        let samples = &mut self.family(name, Kind::Histogram).samples;
        let mut count = 0;
        for (bound, observations) in buckets {
            count += observations;
            let bound = Some(Value::Float(bound));
            write_sample(samples, name, "_bucket", labels, bound, count.into());
        }
        count += above;
        let bound = Some(Value::Float(f64::INFINITY));
        write_sample(samples, name, "_bucket", labels, bound, count.into());
        write_sample(samples, name, "_sum", labels, None, sum.into());
        write_sample(samples, name, "_count", labels, None, count.into());
    }

    /// Explains the family `name`, which must have a sample already; the last explanation counts.
    pub fn help(&mut self, name: &str, help: &str) {
        if let Some(family) = self.families.get_mut(name) {
            family.help = Some(help.to_owned());
        }
    }

    fn family(&mut self, name: &str, kind: Kind) -> &mut Family {
        debug_assert!(is_name(name), "{name:?} is not a metric name");
        self.families
            .entry(name.to_owned())
            .or_insert_with(|| Family {
                kind,
                help: None,
                samples: String::new(),
            })
    }
}

impl fmt::Display for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, family) in &self.families {
            if let Some(help) = &family.help {
                let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                writeln!(f, "# HELP {name} {help}")?;
            }
            match family.kind {
                Kind::Counter => writeln!(f, "# TYPE {name} counter")?,
                Kind::Gauge => writeln!(f, "# TYPE {name} gauge")?,
                Kind::Histogram => writeln!(f, "# TYPE {name} histogram")?,
                Kind::Untyped => {}
            }
            f.write_str(&family.samples)?;
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn write_sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&str, &str)],
    bound: Option<Value>,
    value: Value,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut separator = '{';
    for (label, text) in labels {
        out.push(separator);
        separator = ',';
        out.push_str(label);
        out.push_str("=\"");
        push_escaped(out, text);
        out.push('"');
    }
    if let Some(bound) = bound {
        write!(out, "{separator}le=\"{bound}\"").expect("writing to a string cannot fail");
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    writeln!(out, " {value}").expect("writing to a string cannot fail");
}

fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_sorted_and_typed() {
        let mut text = Exposition::new();
        text.gauge("derp_watchers", 2_u64);
        text.counter("derp_accepts", 7_u64);
        text.untyped("derp_average_queue_duration_ms", 0.25);
        text.gauge("derp_level", -3_i64);
        assert_eq!(
            text.to_string(),
            "# TYPE derp_accepts counter\n\
             derp_accepts 7\n\
             derp_average_queue_duration_ms 0.25\n\
             # TYPE derp_level gauge\n\
             derp_level -3\n\
             # TYPE derp_watchers gauge\n\
             derp_watchers 2\n"
        );
    }

    #[test]
    fn a_family_has_one_head_and_many_samples() {
        let mut text = Exposition::new();
        for (reason, count) in [("unknown_dest", 1_u64), ("gone_disconnected", 0)] {
            let labels = [("reason", reason), ("kind", "disco")];
            text.sample("derp_packets_dropped", Kind::Counter, &labels, count);
        }
        text.counter("derp_packets", 3_u64);
        text.help("derp_packets_dropped", "packets that\nwent \\nowhere");
        text.help("derp_unknown", "not written");
        assert_eq!(
            text.to_string(),
            "# TYPE derp_packets counter\n\
             derp_packets 3\n\
             # HELP derp_packets_dropped packets that\\nwent \\\\nowhere\n\
             # TYPE derp_packets_dropped counter\n\
             derp_packets_dropped{reason=\"unknown_dest\",kind=\"disco\"} 1\n\
             derp_packets_dropped{reason=\"gone_disconnected\",kind=\"disco\"} 0\n"
        );
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = Exposition::new();
        text.sample("version", Kind::Gauge, &[("version", "a\\b\"c\nd")], 1_u64);
        assert_eq!(
            text.to_string(),
            "# TYPE version gauge\nversion{version=\"a\\\\b\\\"c\\nd\"} 1\n"
        );
    }

    #[test]
    fn histogram_buckets_add_up() {
        let mut text = Exposition::new();
        text.histogram("h", &[], [(0.0, 1), (0.5, 0), (10.0, 2)], 3, 99.5);
        text.histogram("with_label", &[("k", "v")], [(1.0, 1)], 0, 1.0);
        assert_eq!(
            text.to_string(),
            "# TYPE h histogram\n\
             h_bucket{le=\"0\"} 1\n\
             h_bucket{le=\"0.5\"} 1\n\
             h_bucket{le=\"10\"} 3\n\
             h_bucket{le=\"+Inf\"} 6\n\
             h_sum 99.5\n\
             h_count 6\n\
             # TYPE with_label histogram\n\
             with_label_bucket{k=\"v\",le=\"1\"} 1\n\
             with_label_bucket{k=\"v\",le=\"+Inf\"} 1\n\
             with_label_sum{k=\"v\"} 1\n\
             with_label_count{k=\"v\"} 1\n"
        );
    }

    #[test]
    fn numbers_are_written_so_that_prometheus_reads_them() {
        let cases = [
            (Value::Unsigned(u64::MAX), "18446744073709551615"),
            (Value::Signed(i64::MIN), "-9223372036854775808"),
            (Value::Float(f64::NAN), "NaN"),
            (Value::Float(f64::INFINITY), "+Inf"),
            (Value::Float(f64::NEG_INFINITY), "-Inf"),
            (Value::Float(15.0), "15"),
            (Value::Float(0.1), "0.1"),
        ];
        for (value, text) in cases {
            assert_eq!(value.to_string(), text);
        }
    }
}
