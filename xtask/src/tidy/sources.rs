//! What manifests and pages say of sources: each dependency is used, nobody but the clock's own
//! file reads it, and ARCHITECTURE.md knows every file of the relay.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, Package};

use crate::shell;

/// The files of the core that read the clock.
const CLOCK_READERS: &[&str] = &["clock.rs"];
/// What a crate needs for a file of another crate that its tests include.
const FOR_INCLUDED: &[(&str, &str)] = &[("derper-bin", "crypto_box")];

/// Adds a fault for each dependency that no source of its kind mentions, and for each of the
/// workspace that no crate has.
pub(super) fn use_dependencies(metadata: &Metadata, faults: &mut Vec<String>) -> Result<()> {
    for package in &metadata.packages {
        let folder = package.manifest_path.parent().context("a folder")?;
        let shipped = text_of(&[folder.join("src"), folder.join("build.rs")])?;
        let tests =
            text_of(&["src", "tests", "examples", "benches"].map(|name| folder.join(name)))?;
        for (name, kind) in dependencies(package) {
            let text = match kind {
                DependencyKind::Development => &tests,
                _ => &shipped,
            };
            let is_used = mentions(text, &name.replace('-', "_"));
            if !is_used && !FOR_INCLUDED.contains(&(package.name.as_str(), name)) {
                faults.push(format!("{} has no use for {name} ({kind})", package.name));
            }
        }
    }
    let manifest = fs::read_to_string(shell::root().join("Cargo.toml"))?;
    for name in of_workspace(&manifest) {
        let mut all = metadata.packages.iter().flat_map(dependencies);
        if !all.any(|(dependency, _)| dependency == name) {
            faults.push(format!("no crate depends on {name}, which Cargo.toml has"));
        }
    }
    Ok(())
}

/// Adds a fault for each line of the core, tests excepted, that reads the clock.
pub(super) fn read_no_clock(files: &[PathBuf], faults: &mut Vec<String>) -> Result<()> {
    let core = shell::root().join("derp-server/src");
    for file in files {
        let Ok(name) = file.strip_prefix(&core) else {
            continue;
        };
        let name = name.display().to_string();
        if is_of_tests(&name) || CLOCK_READERS.contains(&name.as_str()) {
            continue;
        }
        let text = fs::read_to_string(file)?;
        for (n, line) in without_tests(&text).lines().enumerate() {
            // It is spelled in two parts, so that it is not found here.
            if line.contains(concat!("Instant::", "now")) {
                faults.push(format!(
                    "derp-server/src/{name}: line {} reads the clock; clock.rs does",
                    n + 1
                ));
            }
        }
    }
    Ok(())
}

/// Adds a fault for each file of the core that ARCHITECTURE.md does not know.
pub(super) fn are_on_the_map(faults: &mut Vec<String>) -> Result<()> {
    let page = fs::read_to_string(shell::root().join("ARCHITECTURE.md"))?;
    for entry in fs::read_dir(shell::root().join("derp-server/src"))? {
        let entry = entry?;
        let mut name = entry.file_name().into_string().unwrap_or_default();
        if entry.path().is_dir() {
            // A file beside it stands for it.
            if entry.path().with_extension("rs").exists() {
                continue;
            }
            name.push('/');
        }
        if !is_of_tests(&name) && name != "lib.rs" && !page.contains(&format!("`{name}`")) {
            faults.push(format!("ARCHITECTURE.md knows no derp-server/src/{name}"));
        }
    }
    Ok(())
}

fn dependencies(package: &Package) -> impl Iterator<Item = (&str, DependencyKind)> {
    let all = package.dependencies.iter();
    all.map(|one| (one.rename.as_ref().unwrap_or(&one.name).as_str(), one.kind))
}

/// The names under `[workspace.dependencies]`.
fn of_workspace(manifest: &str) -> impl Iterator<Item = &str> {
    let lines = manifest.lines();
    let section = lines.skip_while(|line| *line != "[workspace.dependencies]");
    let section = section.skip(1).take_while(|line| !line.starts_with('['));
    section.filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
}

/// All Rust below some folders, or in files.
fn text_of(places: &[impl AsRef<Path>]) -> Result<String> {
    let mut text = String::new();
    for place in places {
        let place = place.as_ref();
        if place.is_dir() {
            for file in super::rust_files(place)? {
                text.push_str(&fs::read_to_string(file)?);
            }
        } else if place.exists() {
            text.push_str(&fs::read_to_string(place)?);
        }
    }
    Ok(text)
}

/// Whether code, and not only a comment, has the word.
fn mentions(text: &str, word: &str) -> bool {
    let is_of_names = |c: char| c.is_alphanumeric() || c == '_';
    let code = text.lines().map(str::trim_start);
    let mut code = code.filter(|line| !line.starts_with("//"));
    code.any(|line| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            !before.is_some_and(is_of_names) && !after.is_some_and(is_of_names)
        })
    })
}

fn is_of_tests(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("_tests/") || name.starts_with("tests/")
}

/// A file without the tests at its end.
fn without_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests {")
        .map_or(text, |(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_mentioned_by_code_and_as_a_whole() {
        for (text, expected) in [
            ("use serde_json::Value;", true),
            ("    serde_json::from_str(text)", true),
            ("// serde_json would do", false),
            ("my_serde_json::x(); serde_jsonx::y()", false),
        ] {
            assert_eq!(mentions(text, "serde_json"), expected, "{text}");
        }
    }

    #[test]
    fn dependencies_of_the_workspace_are_those_of_its_section() {
        let manifest = "[a]\nx = 1\n[workspace.dependencies]\n# ours\nb = \"1\"\nc-d = { e = 2 }\n\n[f]\ng = 3\n";
        let names: Vec<_> = of_workspace(manifest).collect();
        assert_eq!(names, ["b", "c-d"]);
    }

    #[test]
    fn tests_at_the_end_of_a_file_may_read_the_clock() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        assert_eq!(without_tests(text), "fn a() {}\n");
        assert!(is_of_tests("http/serve/tests.rs") && is_of_tests("sim_tests/limits.rs"));
        assert!(!is_of_tests("http/serve.rs"));
    }
}
