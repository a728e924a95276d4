//! The command line, with the names of `relaycases`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Runs derp-client through a list of cases against a relay.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The relay as a URL, http or https; instead of --host and --port.
    #[arg(long, conflicts_with_all = ["host", "port", "plain"])]
    pub(crate) url: Option<String>,
    /// The relay's name or address, as in its certificate.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// The relay's DERP port.
    #[arg(long, default_value_t = 443)]
    pub(crate) port: u16,
    /// The DERP port speaks HTTP, not HTTPS.
    #[arg(long)]
    pub(crate) plain: bool,
    /// The address to connect to, if it is not the host.
    #[arg(long)]
    pub(crate) dial: Option<String>,
    /// A PEM file with the roots to trust. Without it, the certificate that the relay shows at the
    /// start is the one to accept.
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
    /// sha256-raw:HEX of the one certificate to accept.
    #[arg(long)]
    pub(crate) pin: Option<String>,
    /// The mesh key, 64 digits; without it no cases for the mesh.
    #[arg(long, conflicts_with = "mesh_key_file")]
    pub(crate) mesh_key: Option<String>,
    /// A file with the mesh key.
    #[arg(long)]
    pub(crate) mesh_key_file: Option<PathBuf>,
    /// A shell command that restarts the relay with the same key and ports; without it no cases
    /// for that.
    #[arg(long)]
    pub(crate) restart_with: Option<String>,
    /// Leave out the WebSocket cases.
    #[arg(long)]
    pub(crate) no_ws: bool,
    /// The relay does not offer to start without a greeting.
    #[arg(long)]
    pub(crate) no_fast_start: bool,
    /// Also the cases that take a minute or more.
    #[arg(long)]
    pub(crate) slow: bool,
    /// Run only the cases whose name contains this.
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Print the names of the cases that the flags select, and stop.
    #[arg(long)]
    pub(crate) list: bool,
    /// Fail unless exactly this many cases were run.
    #[arg(long)]
    pub(crate) expect_cases: Option<usize>,
    /// Seconds for each case.
    #[arg(long, default_value_t = 20)]
    pub(crate) case_timeout: u64,
}

impl Args {
    /// Whether the case with this name is to be run.
    pub(crate) fn selects(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|part| name.contains(part))
    }

    pub(crate) fn case_timeout(&self) -> Duration {
        // A relay is silent for up to 65 seconds.
        Duration::from_secs(if self.slow {
            self.case_timeout.max(90)
        } else {
            self.case_timeout
        })
    }
}
