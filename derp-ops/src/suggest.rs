//! "Did you mean …?": the known word that is nearest to a mistyped one.

/// The nearest of `known` to `word`, where at most a third of its letters (and at least one) are
/// off; the first of several equally near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(off, candidate)| off <= allowed && off < candidate.chars().count())
        .min_by_key(|&(off, _)| off)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour to turn
/// `a` into `b` ("optimal string alignment").
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_off_are_counted() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("prot", "port", 1),
            ("same", "same", 0),
            ("ab", "ba", 1),
        ];
        for (a, b, off) in cases {
            assert_eq!((distance(a, b), distance(b, a)), (off, off), "{a} {b}");
        }
    }

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
