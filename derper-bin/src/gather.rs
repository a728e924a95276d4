//! Collects what an operator gave from the command line, the environment and the file.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::args::{Args, Command};
use crate::env::{self, Vars};
use crate::file;
use crate::problem::Problem;
use crate::quickstart;
use crate::settings::{CONFIG, HOSTNAME};
use crate::sources::Sources;

/// What was given, and what is already known to be wrong with it.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The values.
    pub sources: Sources,
    /// Mistakes in the spelling of variables and of the file.
    pub problems: Vec<Problem>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// Reads the environment and the file that it or a flag names.
#[must_use]
pub fn gather(args: Args, vars: &Vars) -> Gathered {
    let from_env = env::read(vars);
    let mut gathered = Gathered {
        sources: Sources {
            flags: args.flags,
            env: from_env.values,
            ..Sources::default()
        },
        problems: from_env.problems,
        warnings: from_env.warnings,
    };
    if let [first, ..] = args.ignored.as_slice() {
        gathered.warnings.push(format!(
            "{first:?} and all after it is ignored, as the reference does: it is no flag (a \
             switch is turned off by -name=false)"
        ));
    }
    if let Command::Quickstart(host) = args.command {
        gathered.sources.preset = quickstart::preset(host);
        if gathered.sources.get(&HOSTNAME).is_none()
            && let Ok(own) = quickstart::own_address()
        {
            gathered.sources.preset = quickstart::preset(Some(own.to_string()));
            if quickstart::is_private(own) {
                gathered.warnings.push(format!(
                    "this machine's address {own} is reached only from nearby; if it has a public \
                     one, give that: derper quickstart ADDRESS"
                ));
            }
        }
    }
    let named = gathered
        .sources
        .get(&CONFIG)
        .filter(|given| !given.text.is_empty());
    if let Some(given) = named.cloned() {
        read_file(&mut gathered, given.text.into(), &given.origin.to_string());
    }
    gathered
}

fn read_file(gathered: &mut Gathered, path: PathBuf, named_by: &str) {
    match fs::read_to_string(&path) {
        Ok(text) => {
            let from_file = file::parse(&path, &text);
            gathered.sources.file_values = from_file.values;
            gathered.problems.extend(from_file.problems);
        }
        Err(err) => {
            let path = path.display();
            let what = match err.kind() {
                io::ErrorKind::NotFound => format!("{path} does not exist"),
                io::ErrorKind::IsADirectory => format!("{path} is a directory, not a file"),
                io::ErrorKind::InvalidData => format!("{path} is not a text file"),
                _ => format!("cannot read {path}: {err}"),
            };
            gathered
                .problems
                .push(Problem::new(format!("{named_by}: {what}")));
        }
    }
    gathered.sources.file = Some(path);
}
