//! Programs that run while a story is told.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running program with its output in a file; ended when dropped.
pub(super) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it.
    pub(super) fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log)?;
        let child = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self { child, log })
    }

    /// Waits until it listens on `port`.
    pub(super) fn listens(&mut self, port: u16) -> Result<()> {
        self.wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// Waits until it has made `file`.
    pub(super) fn makes(&mut self, file: &Path) -> Result<()> {
        self.wait_until(|| file.exists())
    }

    fn wait_until(&mut self, is_so: impl Fn() -> bool) -> Result<()> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a bound on a wait for another program"
        )]
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}:\n{}", self.log());
            }
            if is_so() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("it is not ready:\n{}", self.log())
    }

    /// What it has written.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
