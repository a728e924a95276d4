//! How many instructions a packet costs, counted by valgrind and compared with `counts.txt`.
//!
//! Unlike a time, a count does not depend on what else the machine does, so it can fail a change.
//! To be the same on every machine it leaves out what is chosen by the processor: ciphers and
//! `memcpy` have a variant for each. Counted are only the functions that Rust made, which their
//! mangled names tell; the kernel is not seen at all. `PERFORMANCE.md` says what this is blind to.
//! The compiler matters: after a new one the counts are recorded anew, in a commit of its own.

mod profile;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::shell;
use profile::Profile;

#[derive(Args)]
pub(crate) struct Options {
    /// Records the counts instead of comparing them.
    #[arg(long, conflicts_with = "shape")]
    update: bool,
    /// Tells what each function of Rust's contributes, and each other as well.
    #[arg(long)]
    functions: bool,
    /// Only the shapes whose names contain this.
    #[arg(long)]
    shape: Option<String>,
}

/// How much more than was recorded passes, in percent.
const TOLERANCE: u64 = 3;
/// How many turns are counted. The result is the same for any number, but for the odd division.
const TURNS: &str = "100";

const HEADER: &str = "\
# Instructions of Rust code for each packet, by the shapes of xtask/testbed/packet-path.
# `cargo xtask counts` compares, and fails where one has grown by more than 3 %;
# `cargo xtask counts --update` writes this file.
";

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        shell::works("valgrind", &["--version"]),
        "valgrind is needed"
    );
    shell::run("cargo build --release --locked --quiet -p testbed-packet-path")?;
    let mut counts = BTreeMap::new();
    for name in shapes()? {
        let wanted = options.shape.as_ref();
        if wanted.is_some_and(|wanted| !name.contains(wanted)) {
            continue;
        }
        let counted = count(&name)?;
        if options.functions {
            println!("{name}");
            for (function, instructions) in counted.profile.costliest(25) {
                println!("{:>8}  {function}", instructions / counted.packets);
            }
        }
        counts.insert(name, counted.profile.of_rust().div_ceil(counted.packets));
    }
    ensure!(!counts.is_empty(), "no shape is called that");
    if options.update {
        return Ok(fs::write(file(), table(&counts))?);
    }
    compare(&counts, &recorded()?)
}

fn file() -> PathBuf {
    shell::root().join("xtask/counts.txt")
}

fn program() -> PathBuf {
    shell::release_dir().join("packet-path")
}

fn shapes() -> Result<Vec<String>> {
    let output = Command::new(program()).output()?;
    ensure!(output.status.success(), "no list of shapes");
    let names = String::from_utf8(output.stdout)?;
    Ok(names.lines().map(str::to_owned).collect())
}

struct Counted {
    packets: u64,
    profile: Profile,
}

fn count(shape: &str) -> Result<Counted> {
    let dir = tempfile::TempDir::new()?;
    let out = dir.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--demangle=no"])
        .args(["--toggle-collect=*counted_turn*", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program())
        .args([shape, TURNS])
        .output()
        .context("cannot run valgrind")?;
    if !output.status.success() {
        bail!("{shape}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let packets = String::from_utf8(output.stdout)?.trim().parse()?;
    ensure!(packets > 0, "{shape}: nothing was relayed");
    let profile = Profile::parse(&fs::read_to_string(&out)?)?;
    ensure!(profile.of_rust() > 0, "{shape}: nothing was counted");
    Ok(Counted { packets, profile })
}

fn table(counts: &BTreeMap<String, u64>) -> String {
    let mut text = HEADER.to_owned();
    for (name, count) in counts {
        writeln!(text, "{name:<24}{count:>6}").expect("a string takes everything");
    }
    text
}

fn recorded() -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(file()).context("xtask/counts.txt")?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line
                .split_once(' ')
                .with_context(|| format!("xtask/counts.txt: {line}"))?;
            Ok((name.to_owned(), count.trim().parse()?))
        })
        .collect()
}

fn compare(counts: &BTreeMap<String, u64>, recorded: &BTreeMap<String, u64>) -> Result<()> {
    let mut grown = Vec::new();
    for (name, count) in counts {
        let Some(before) = recorded.get(name) else {
            bail!("{name} has no record: `cargo xtask counts --update`");
        };
        let word = verdict(*count, *before);
        println!("{name:<24}{count:>6}, recorded {before:>6}{word}");
        if word == GROWN {
            grown.push(name.as_str());
        }
    }
    ensure!(
        grown.is_empty(),
        "{} costs more instructions than recorded; where that is meant, `cargo xtask counts --update`",
        grown.join(", ")
    );
    Ok(())
}

const GROWN: &str = "  GROWN";

/// What is to be said of a count beside an earlier one.
fn verdict(count: u64, before: u64) -> &'static str {
    if count * 100 > before * (100 + TOLERANCE) {
        GROWN
    } else if count * (100 + TOLERANCE) < before * 100 {
        "  less: record it"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_percent_pass_and_more_does_not() {
        let words = [600, 500, 514, 515, 516, 480].map(|count| verdict(count, 500));
        assert_eq!(words, [GROWN, "", "", "", GROWN, "  less: record it"]);
    }

    #[test]
    fn every_shape_has_a_record() {
        let text = table(&recorded().expect("it is a tracked file"));
        assert_eq!(text, fs::read_to_string(file()).expect("it is tracked"));
    }
}
