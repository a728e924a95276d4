//! A command of the operator's that gets certificates, as by DNS-01 with whatever tool.
//!
//! It leaves its files where the relay looks for them; what they are worth is judged as of any
//! files. It is told what is wanted by its environment, and what it prints goes to the log.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::CertFiles;
use crate::env;
use crate::host::Host;

/// How much of what a run prints goes to the log.
const MAX_OUTPUT: u64 = 64 * 1024;

/// What to run, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program and its arguments, never none. No shell is between.
    pub command: Vec<String>,
    /// How long a run may take.
    pub timeout: Duration,
    /// How often it runs even if no certificate is near its end.
    pub every: Duration,
}

/// A run that failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HookError {
    /// The program could not be started.
    #[error("cannot run {0}")]
    Start(String, #[source] io::Error),
    /// The program did not end.
    #[error("{0} was not done after {1:?}, and was killed")]
    TooSlow(String, Duration),
    /// The program failed.
    #[error("{0} ended with {1}")]
    Failed(String, ExitStatus),
}

/// Ends all that a run has started when it is given up.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error says that nobody is left.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Hook {
    /// Runs the command for the certificate in `files`, which expires at `not_after` if it is
    /// there, and waits for its end.
    ///
    /// # Errors
    /// See [`HookError`].
    pub async fn run(
        &self,
        host: &Host,
        files: &CertFiles,
        not_after: Option<SystemTime>,
    ) -> Result<(), HookError> {
        let (program, arguments) = match self.command.split_first() {
            Some((program, arguments)) => (program.clone(), arguments),
            None => (String::new(), &[][..]),
        };
        tracing::info!(
            command = program,
            "running the command that gets certificates"
        );
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .envs(environment(host, files, not_after))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for secret in env::secrets() {
            command.env_remove(secret);
        }
        let mut child = command
            .spawn()
            .map_err(|err| HookError::Start(program.clone(), err))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let group = Group(pid.and_then(Pid::from_raw));
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(log_lines(stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(log_lines(stderr));
        }
        let ended = timeout(self.timeout, async {
            let status = child.wait().await;
            // What the program left running may hold its output open; it has the rest of the time.
            while readers.join_next().await.is_some() {}
            status
        })
        .await;
        drop(group);
        match ended {
            Err(_) => Err(HookError::TooSlow(program, self.timeout)),
            Ok(Err(err)) => Err(HookError::Start(program, err)),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(HookError::Failed(program, status)),
        }
    }
}

fn environment(
    host: &Host,
    files: &CertFiles,
    not_after: Option<SystemTime>,
) -> Vec<(&'static str, OsString)> {
    let not_after = not_after
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map(|time| time.as_secs().to_string())
        .unwrap_or_default();
    vec![
        ("DERP_HOSTNAME", host.to_string().into()),
        ("DERP_CERT_FILE", files.cert.clone().into()),
        ("DERP_KEY_FILE", files.key.clone().into()),
        ("DERP_CERT_NOT_AFTER", not_after.into()),
    ]
}

async fn log_lines(output: impl AsyncRead + Unpin) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    let mut left = MAX_OUTPUT;
    while left > 0 {
        line.clear();
        let read = (&mut output).take(left).read_until(b'\n', &mut line).await;
        match read {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read as u64),
        }
        let text = String::from_utf8_lossy(&line);
        tracing::info!(target: "derper::hook", "{}", text.trim_end());
    }
    tracing::warn!(target: "derper::hook", "more than {MAX_OUTPUT} bytes; the rest is left out");
    // A program that cannot write would wait.
    let _end = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
}
