//! The commands and configurations in the guide are understood by the program that they are for.

use std::path::{Path, PathBuf};

use derper::args::Args;
use derper::env::Vars;
use derper::start::Start;

fn guide() -> impl Iterator<Item = (String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace");
    let docs = std::fs::read_dir(root.join("docs")).expect("a guide");
    let mut pages: Vec<PathBuf> = docs.map(|entry| entry.expect("an entry").path()).collect();
    pages.push(root.join("README.md"));
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages.into_iter().map(|path| {
        let text = std::fs::read_to_string(&path).expect("a page");
        (path.display().to_string(), text)
    })
}

/// The blocks of a page that are in this language.
fn blocks<'a>(page: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    fenced.filter_map(move |block| {
        let (first, rest) = block.split_once('\n')?;
        (first == language).then_some(rest)
    })
}

/// What is said of files that this machine does not have, and of what a fragment leaves out.
const ELSEWHERE: [&str; 3] = ["No such file", "does not exist", "tls.mode is not set"];

/// What else is wrong with it.
fn mistakes(words: Vec<String>) -> Vec<String> {
    let vars = Vars::from([("HOME".to_owned(), "/home/nobody".to_owned())]);
    let args = match Args::parse(words, &vars) {
        Ok(args) => args,
        Err(exit) => return vec![exit.text],
    };
    assert_eq!(args.ignored, Vec::<String>::new());
    let Err(mistakes) = (Start { args, vars }).config() else {
        return Vec::new();
    };
    let mistakes = mistakes.to_string();
    let lines = mistakes.lines().filter(|line| line.starts_with("  "));
    let lines = lines.filter(|line| !ELSEWHERE.iter().any(|words| line.contains(words)));
    lines.map(str::to_owned).collect()
}

#[test]
fn its_commands_are_understood() {
    let mut count = 0;
    for (path, page) in guide() {
        for block in blocks(&page, "sh") {
            for line in block.replace("\\\n", " ").lines() {
                let line = line.split(" #").next().unwrap_or_default().trim();
                let Some(words) = line.trim_start_matches("./").strip_prefix("derper ") else {
                    continue;
                };
                let words = words.split_whitespace().filter(|word| *word != "…");
                let mistakes = mistakes(words.map(str::to_owned).collect());
                assert!(mistakes.is_empty(), "{path}: {line}: {mistakes:#?}");
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn its_configurations_are_understood() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("derper.toml");
    let mut count = 0;
    for (path, page) in guide() {
        for block in blocks(&page, "toml") {
            std::fs::write(&file, block).expect("a file");
            let words = ["--config".to_owned(), file.display().to_string()];
            let mistakes = mistakes(words.into());
            assert!(mistakes.is_empty(), "{path}: {block}: {mistakes:#?}");
            count += 1;
        }
    }
    assert!(count > 8, "{count}");
}
