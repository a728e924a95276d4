//! Links in Markdown files lead to files and headings that exist. Links to other sites are not
//! followed.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Finds the links of all Markdown files below `root` that lead nowhere.
pub(super) fn lead_somewhere(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    for file in markdown_files(root)? {
        let text = read(&file)?;
        let name = file.strip_prefix(root).unwrap_or(&file).display();
        for link in links(&text) {
            if let Some(what) = fault(&file, link)? {
                faults.push(format!("{name}: the link to {link}: {what}"));
            }
        }
    }
    Ok(())
}

fn fault(file: &Path, link: &str) -> Result<Option<String>> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() {
        file.to_owned()
    } else {
        file.with_file_name("").join(path)
    };
    if !target.exists() {
        return Ok(Some("there is no such file".to_owned()));
    }
    if heading.is_empty() || target.extension().is_none_or(|extension| extension != "md") {
        return Ok(None);
    }
    let is_there = anchors(&read(&target)?).contains(heading);
    Ok((!is_there).then(|| format!("it has no heading #{heading}")))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

/// The lines of a text that are not in blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            return false;
        }
        !is_code
    })
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| {
        let targets = line.split("](").skip(1);
        targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
    })
}

/// What can follow `#`, by the rules that forges have for headings.
fn anchors(text: &str) -> HashSet<String> {
    let headings = prose(text).filter_map(|line| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len()).then(|| heading.trim())
    });
    headings.map(anchor).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn markdown_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        // What a fuzzer found is no document.
        if path.is_dir() && !matches!(name, "target" | "corpus") && !name.starts_with('.') {
            files.extend(markdown_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text);
        write(
            "a.md",
            "# One `thing`, and more\n[b](b.md#the-end) [web](https://example.com/x#y)\n\
             [here](#one-thing-and-more) [gone](c.md)\n```\n[code](nowhere)\n# no heading\n```\n\
             [not here](#no-heading) ![picture](b.md)\n",
        )
        .expect("written");
        write("b.md", "## The end\n[up](a.md#two)\n").expect("written");
        let mut faults = Vec::new();
        lead_somewhere(root.path(), &mut faults).expect("read");
        assert_eq!(
            faults,
            [
                "a.md: the link to c.md: there is no such file",
                "a.md: the link to #no-heading: it has no heading #no-heading",
                "b.md: the link to a.md#two: it has no heading #two",
            ]
        );
    }
}
