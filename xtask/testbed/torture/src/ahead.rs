//! Good clients that are served before an attack which takes all of the machine's time.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::thread::gettid;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::process::Process;

/// A thread for good clients that goes ahead of all others, as the relay does. In earnest attackers
/// have machines of their own; here whoever shares the CPUs with them would wait for the scheduler,
/// and that would be taken for the relay's doing.
#[derive(Debug)]
pub(crate) struct Ahead {
    runtime: Option<Runtime>,
    /// Why they do not go ahead: only root may take priority.
    refused: Option<String>,
}

impl Ahead {
    pub(crate) async fn new(relay: Process) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let thread = runtime.spawn(async { gettid() }).await?;
        let thread = thread.as_raw_nonzero().to_string();
        let refused = go_ahead(&["--all-tasks"], &relay.0.to_string())
            .and_then(|()| go_ahead(&[], &thread))
            .err();
        Ok(Self {
            runtime: Some(runtime),
            refused: refused.map(|error| error.to_string()),
        })
    }

    /// Why times tell of the scheduler more than of the relay, where they do.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Runs what good clients do. Their sockets are best opened in there as well.
    pub(crate) fn spawn<F>(&self, clients: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let runtime = self
            .runtime
            .as_ref()
            .expect("it is there until it is dropped");
        runtime.spawn(clients)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Whoever runs tasks must not wait for others to end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Gives the thread `id`, or whatever else `whom` makes of it, the lowest real-time priority.
fn go_ahead(whom: &[&str], id: &str) -> Result<()> {
    let output = Command::new("chrt")
        .args(whom)
        .args(["--fifo", "--pid", "1", id])
        .stdin(Stdio::null())
        .output()
        .context("running chrt(1) of util-linux")?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", why.trim());
    Ok(())
}
