//! Each test that SECURITY.md names exists. A name that outlived its test would promise a lot.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::shell;
use crate::torture;

/// What is in front of a name in backticks that is no function's.
const FUZZ: &str = "fuzz ";
const TORTURE: &str = "torture ";

/// Adds a fault for each name in the table that nothing has.
pub(super) fn tests_exist(files: &[PathBuf], faults: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(shell::root().join("SECURITY.md")).context("SECURITY.md")?;
    let mut functions = BTreeSet::new();
    for file in files {
        functions.extend(functions_in(&fs::read_to_string(file)?));
    }
    let mut rows = 0;
    for test in text.lines().filter_map(last_cell).flat_map(tests_of) {
        rows += 1;
        let exists = match test {
            Named::Function(name) => functions.contains(name),
            Named::Fuzz(name) => shell::root().join("fuzz/corpus").join(name).is_dir(),
            Named::Torture(name) => torture::has_row(name),
            Named::Nothing(_) => false,
        };
        if !exists {
            faults.push(format!("SECURITY.md names {test:?}, which does not exist"));
        }
    }
    if rows == 0 {
        faults.push("SECURITY.md names no test: has its table another form?".to_owned());
    }
    Ok(())
}

/// A test in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named<'a> {
    Function(&'a str),
    Fuzz(&'a str),
    Torture(&'a str),
    /// In a form that is none of these.
    Nothing(&'a str),
}

/// The last cell of a row, but not of the head or the line below it.
fn last_cell(line: &str) -> Option<&str> {
    let (_, cell) = line
        .strip_prefix("| ")?
        .strip_suffix(" |")?
        .rsplit_once(" | ")?;
    (cell != "test").then_some(cell)
}

fn tests_of(cell: &str) -> impl Iterator<Item = Named<'_>> {
    cell.split(", ").map(|test| {
        let Some((kind, name)) = test.strip_suffix('`').and_then(|test| test.split_once('`'))
        else {
            return Named::Nothing(test);
        };
        match kind {
            "" => Named::Function(name),
            FUZZ => Named::Fuzz(name),
            TORTURE => Named::Torture(name),
            _ => Named::Nothing(test),
        }
    })
}

/// The names of the functions in a Rust file.
fn functions_in(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("fn ")?;
        Some(rest.split_once('(')?.0.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_read_from_the_last_cell() {
        let row = "| a threat | what keeps it | `a_story`, fuzz `frames`, torture `churn`, some |";
        let tests: Vec<_> = tests_of(last_cell(row).unwrap()).collect();
        let expected = [
            Named::Function("a_story"),
            Named::Fuzz("frames"),
            Named::Torture("churn"),
            Named::Nothing("some"),
        ];
        assert_eq!(tests, expected);
        assert_eq!(last_cell("| threat | kept by | test |"), None);
        assert_eq!(last_cell("|---|---|---|"), None);
    }
}
