//! How much of the codec the committed inputs of the fuzz targets reach: they are replayed on the
//! stable toolchain, and lines are counted by the compiler's own instrumentation.
//!
//! Only the codec and who compiles its generic functions are instrumented, by a script in front of
//! the compiler: flags for all crates would compile every dependency anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::shell;

/// Folders of sources, and what part of their lines the inputs have to reach, in percent.
const FLOORS: &[(&str, f64)] = &[("derp-proto/src/", 95.0)];
/// The crates that are instrumented: all that depend on the codec, for a small function of it may be
/// compiled into whoever calls it, and what is called there alone would not be counted. The codec is
/// compiled in one piece here and nowhere else: so cargo does not mistake any of them for the same
/// without counters.
const INSTRUMENTED: &str =
    "derp_proto|derp_client|derp_mesh|derp_ops|derp_server|derp_verify|derper|derpkit_fuzz|replay";
const ONE_PIECE: &str = "profile.dev.package.derp-proto.codegen-units=1";
/// What the toolchain calls the tools that read what instrumented programs write.
const TOOLS: &str = "llvm-tools";

/// Lines of one folder.
#[derive(Debug, Default)]
struct Lines {
    all: u64,
    reached: u64,
}

/// Replays all inputs, prints what they reach, and fails where that is below a floor.
pub(crate) fn run() -> Result<()> {
    let tools = tools()?;
    let place = shell::target_dir().join("coverage");
    let profiles = place.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles)?;
    }
    fs::create_dir_all(&place)?;
    let wrapper = wrapper(&place)?;
    let replay = || {
        let mut cargo = shell::command("cargo");
        cargo.args(["test", "--manifest-path", "fuzz/Cargo.toml", "--locked"]);
        // What the workspace shares with it is there already.
        cargo.arg("--target-dir").arg(shell::target_dir());
        cargo.args(["--config", ONE_PIECE]);
        // How crates are cut into units decides what is compiled into callers: alike everywhere.
        cargo.env("CARGO_INCREMENTAL", "0");
        cargo.env("RUSTC_WRAPPER", &wrapper);
        // %p is the process, %m the program: nobody writes where another one does.
        cargo.env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
        cargo
    };
    shell::run_command(&mut replay(), "the replay of the fuzz targets' inputs")?;
    let program = replay_program(replay().args(["--no-run", "--message-format=json"]))?;

    let raw: Vec<_> = fs::read_dir(&profiles)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    let merged = place.join("merged.profdata");
    let mut merge = Command::new(tools.join("llvm-profdata"));
    merge.args(["merge", "--sparse", "-o"]).arg(&merged);
    shell::run_command(merge.args(raw), "llvm-profdata")?;
    let mut export = Command::new(tools.join("llvm-cov"));
    export.args(["export", "--summary-only"]).arg(&program);
    export.arg("--instr-profile").arg(&merged);
    let output = export.output().context("cannot run llvm-cov")?;
    ensure!(output.status.success(), "llvm-cov: {}", output.status);
    let report = serde_json::from_slice(&output.stdout).context("what llvm-cov tells")?;

    for (folder, floor) in FLOORS {
        let Lines { all, reached } = lines(&report, &shell::root().join(folder), true)?;
        ensure!(all > 0, "{folder} has no lines");
        #[expect(clippy::cast_precision_loss, reason = "some thousands of lines")]
        let percent = 100.0 * reached as f64 / all as f64;
        println!("{folder}: {reached} of {all} lines, {percent:.1} % (floor {floor} %)");
        ensure!(percent >= *floor, "the inputs reach too little of {folder}");
    }
    Ok(())
}

/// A script that runs the compiler, which is told to count where a crate is of interest.
fn wrapper(place: &Path) -> Result<PathBuf> {
    let path = place.join("rustc");
    // cargo sets the variable to the name of the crate as Cargo.toml of its package has it.
    let script = format!(
        "#!/bin/sh\ncase \"$CARGO_CRATE_NAME\" in\n{INSTRUMENTED}) \
         exec \"$@\" -Cinstrument-coverage ;;\nesac\nexec \"$@\"\n"
    );
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The folder of the toolchain's own tools; they are installed where they are missing.
fn tools() -> Result<PathBuf> {
    let print = |what: &str| -> Result<String> {
        let output = shell::command("rustc").args(["--print", what]).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let tools = Path::new(&print("target-libdir")?).with_file_name("bin");
    if !tools.join("llvm-cov").exists() {
        shell::run(&format!("rustup component add {TOOLS}"))?;
    }
    Ok(tools)
}

/// The program of the replay, as cargo tells it.
fn replay_program(cargo: &mut Command) -> Result<String> {
    let output = cargo.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines() {
        let message: Value = serde_json::from_str(line)?;
        let is_replay = message.pointer("/target/name") == Some(&Value::from("replay"));
        if let Some(program) = message.get("executable").and_then(Value::as_str)
            && is_replay
        {
            return Ok(program.to_owned());
        }
    }
    bail!("cargo tells of no program of the replay")
}

/// The lines of the files under `folder`; prints those of each file when `told`.
fn lines(report: &Value, folder: &Path, told: bool) -> Result<Lines> {
    let files = report.pointer("/data/0/files").and_then(Value::as_array);
    let mut sum = Lines::default();
    for file in files.context("llvm-cov tells of no files")? {
        let name = file.get("filename").and_then(Value::as_str);
        let Some(name) = name.and_then(|name| Path::new(name).strip_prefix(folder).ok()) else {
            continue;
        };
        let count = |field| {
            let count = file.pointer(&format!("/summary/lines/{field}"));
            count.and_then(Value::as_u64).unwrap_or_default()
        };
        let (all, reached) = (count("count"), count("covered"));
        if told {
            println!("  {}: {reached} of {all}", name.display());
        }
        sum.all += all;
        sum.reached += reached;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_summed_of_one_folder_alone() {
        let file = |name: &str, count: u64, covered: u64| {
            let lines = serde_json::json!({"count": count, "covered": covered});
            serde_json::json!({"filename": name, "summary": {"lines": lines}})
        };
        let files = [
            file("/a/b.rs", 10, 9),
            file("/a/c/d.rs", 5, 5),
            file("/e.rs", 7, 0),
        ];
        let report = serde_json::json!({"data": [{"files": files}]});
        let Lines { all, reached } = lines(&report, Path::new("/a"), false).expect("a report");
        assert_eq!((all, reached), (15, 14));
    }
}
