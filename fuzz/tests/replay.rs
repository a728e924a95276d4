//! Every committed input through its target, on the stable toolchain.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use derpkit_fuzz::TARGETS;

#[test]
fn every_committed_input_keeps_every_promise() {
    let mut broken = Vec::new();
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "corpus/{name} is empty");
        for path in inputs {
            let data = fs::read(&path).expect("an input can be read");
            if catch_unwind(|| target(&data)).is_err() {
                broken.push(path);
            }
        }
    }
    assert!(
        broken.is_empty(),
        "these inputs break a promise, see above: {broken:#?}"
    );
}

/// Short inputs reach every early return, and need no corpus.
#[test]
fn every_target_takes_nothing_and_next_to_nothing() {
    for (_, target) in TARGETS {
        target(&[]);
        for byte in 0..=u8::MAX {
            target(&[byte]);
            target(&[byte, 0]);
            target(&[byte, 0xff, byte]);
        }
    }
}

/// The list of targets, the programs and the corpora are kept by hand, in three places.
#[test]
fn every_target_has_a_program_and_a_corpus() {
    let listed: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let programs = names_in("fuzz_targets").into_iter();
    let programs: BTreeSet<_> = programs
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .collect();
    assert_eq!(programs, listed);
    assert_eq!(names_in("corpus"), listed);
}

/// The table of README.md is where a newcomer looks.
#[test]
fn every_target_has_a_row_in_the_table() {
    let readme = fs::read_to_string("README.md").expect("it can be read");
    let (_, table) = readme
        .split_once("| target | what it reads |\n|---|---|\n")
        .expect("the table has this head");
    let rows: Vec<_> = table
        .lines()
        .map_while(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, _)| name)
        .collect();
    let in_table: BTreeSet<_> = rows.iter().copied().collect();
    assert_eq!(in_table.len(), rows.len(), "a target has one row");
    assert_eq!(in_table, TARGETS.map(|(name, _)| name).into());
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new("corpus").join(target);
    let mut paths: Vec<_> = names_in(&folder)
        .into_iter()
        .map(|name| folder.join(name))
        .collect();
    paths.sort();
    paths
}

/// The names of what is in a folder of this crate, which is where cargo runs tests.
fn names_in(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let folder = folder.as_ref();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries
        .map(|entry| entry.expect("a folder can be read to its end").file_name())
        .map(|name| name.into_string().expect("our names are UTF-8"))
        .collect()
}
