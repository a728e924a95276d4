//! The relay's own numbers, as its page for Prometheus tells them.

use std::collections::HashMap;

/// Numbers by their names, labels included.
#[derive(Debug, Default)]
pub(crate) struct Metrics(HashMap<String, f64>);

impl Metrics {
    /// Reads the text form. Lines that are no samples are left out.
    pub(crate) fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(sample).collect())
    }

    /// A count; none where the relay does not tell it.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are whole, and far from the limits of a float"
    )]
    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        self.0.get(name).map(|&value| value as u64)
    }

    /// The sum of a family's counts over those whose labels contain `label`.
    pub(crate) fn sum(&self, family: &str, label: &str) -> u64 {
        let labels = |name: &str| Some(name.strip_prefix(family)?.contains(label));
        let names = self.0.keys().filter(|name| labels(name) == Some(true));
        names.filter_map(|name| self.count(name)).sum()
    }

    /// How many different samples there are.
    pub(crate) fn series(&self) -> u64 {
        self.0.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# TYPE a counter\na 3\nb{kind=\"x\"} 4\nno sample\n\n";
        let metrics = Metrics::parse(text);
        let counts = ["a", "b{kind=\"x\"}", "b"].map(|name| metrics.count(name));
        assert_eq!(counts, [Some(3), Some(4), None]);
        assert_eq!(metrics.series(), 2);
    }

    #[test]
    fn counts_of_a_family_are_summed_by_a_label() {
        let text = "a{x=\"1\",y=\"1\"} 3\na{x=\"1\",y=\"2\"} 4\na{x=\"2\"} 5\nb{x=\"1\"} 6\n";
        assert_eq!(Metrics::parse(text).sum("a", "x=\"1\""), 7);
    }
}
