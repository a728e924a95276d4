//! "Did you mean …?": the known word that is nearest to a mistyped one.

/// The nearest of `known` to `word`, where at most a third of its letters (and at least one) are
/// off or swapped with their neighbour; the first of several equally near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|&(off, candidate)| off <= allowed && off < candidate.chars().count())
        .min_by_key(|&(off, _)| off)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["hostname", "http-port", "home", "a"];
        let cases = [
            ("hostnme", Some("hostname")),
            ("http-prot", Some("http-port")),
            ("hoem", Some("home")),
            ("x", None),
            ("verify", None),
            ("", None),
        ];
        for (word, suggestion) in cases {
            assert_eq!(nearest(word, known), suggestion, "{word}");
        }
    }
}
