//! The list of cases itself.

use std::collections::HashSet;
use std::fs;

use testbed_derpspec::{Level, SECTIONS, all};

/// A list that shrinks unseen would pass as well.
const CASES: usize = 446;

#[test]
fn the_list_is_as_long_as_it_was() {
    assert_eq!(all().count(), CASES);
    assert!(SECTIONS.iter().all(|section| !section.cases.is_empty()));
}

#[test]
fn each_case_has_a_fault_to_notice() {
    for numbered in all() {
        assert!(!numbered.case.red_by.is_empty(), "{}", numbered.number());
    }
}

#[test]
fn rules_are_sentences_that_stand_once_in_their_section() {
    let mut seen = HashSet::new();
    for numbered in all() {
        let rule = numbered.case.rule;
        assert!(rule.ends_with('.'), "{rule}");
        assert!(seen.insert((numbered.section, rule)), "{rule}");
        assert!(!numbered.case.source.is_empty(), "{rule}");
    }
}

#[test]
fn each_difference_is_a_line_of_the_page_about_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../DEVIATIONS.md");
    let text = fs::read_to_string(path).expect("the page");
    for numbered in all() {
        if let Level::Differs { page, .. } = numbered.case.level {
            assert!(text.contains(page), "{}: {page}", numbered.number());
        }
    }
}

#[test]
fn cases_are_meant_by_number_section_or_words() {
    let meant = |text: &str| -> Vec<String> {
        let cases = all().filter(|case| case.is_meant_by(text));
        cases.map(|case| case.number()).collect()
    };
    assert_eq!(meant("1.2"), ["1.2"]);
    let stun = SECTIONS.iter().find(|section| section.title == "STUN");
    assert_eq!(Some(meant("stun").len()), stun.map(|stun| stun.cases.len()));
    assert_eq!(meant("4").len(), SECTIONS[3].cases.len());
    assert_eq!(meant("65,537 bytes ends the connection").len(), 1);
    assert_eq!(meant("no such words"), [""; 0]);
}
