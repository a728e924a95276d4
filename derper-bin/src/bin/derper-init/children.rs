//! Processes: two of its own, and whoever is left behind by others.

use std::process::Command;

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

/// What the shell adds to a signal's number, for a status.
const BY_SIGNAL: i32 = 128;

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    Tailscaled,
    Relay,
}

/// Those that run.
#[derive(Debug, Default)]
pub(crate) struct Children(Vec<(Child, Pid)>);

impl Children {
    /// Starts one.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn start(&mut self, child: Child, command: &mut Command) -> anyhow::Result<()> {
        let name = command.get_program().to_owned();
        let started = command
            .spawn()
            .with_context(|| format!("cannot start {}", name.display()))?;
        // It is waited for by its number, with all others.
        self.0.push((child, Pid::from_child(&started)));
        Ok(())
    }

    /// Sends a signal to one, if it runs.
    pub(crate) fn send(&self, child: Child, signal: Signal) {
        for (_, pid) in self.0.iter().filter(|(one, _)| *one == child) {
            // One that has just ended is told of by itself.
            let _gone = kill_process(*pid, signal);
        }
    }

    /// Takes note of all processes that have ended; the first one of its own and its status.
    ///
    /// The first process of a container is everybody's heir: what `exec` in it left behind stays
    /// in the table of processes until somebody asks.
    pub(crate) fn reap(&mut self) -> Option<(Child, u8)> {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(at) = self.0.iter().position(|(_, own)| *own == pid) else {
                continue;
            };
            let (child, _) = self.0.remove(at);
            return Some((child, code(status)));
        }
        None
    }
}

/// A status as shells tell it.
fn code(status: WaitStatus) -> u8 {
    let killed = || status.terminating_signal().map(|signal| BY_SIGNAL + signal);
    let code = status.exit_status().or_else(killed);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
