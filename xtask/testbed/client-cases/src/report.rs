//! What is printed: JSON lines for the runner, problems for people.

use serde::Serialize;

/// The outcome of one case.
#[derive(Debug, Serialize)]
pub(crate) struct CaseLine {
    pub(crate) n: usize,
    pub(crate) name: &'static str,
    pub(crate) ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
    pub(crate) ms: u128,
}

/// The outcome of all of them.
#[derive(Debug, Serialize)]
pub(crate) struct SummaryLine {
    pub(crate) summary: bool,
    pub(crate) cases: usize,
    pub(crate) failed: usize,
    pub(crate) ms: u128,
}

/// Prints a report line to standard output.
pub(crate) fn print_report(line: &impl Serialize) {
    let json = serde_json::to_string(line);
    print_line(&json.expect("plain structs of numbers and strings serialise"));
}

/// Prints one line to standard output.
pub(crate) fn print_line(line: &str) {
    #[expect(
        clippy::print_stdout,
        reason = "standard output is what the runner reads"
    )]
    {
        println!("{line}");
    }
}

/// Prints to standard error.
pub(crate) fn print_problem(problem: &str) {
    #[expect(clippy::print_stderr, reason = "standard error is for people")]
    {
        eprintln!("client-cases: {problem}");
    }
}
