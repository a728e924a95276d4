//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use derp_proto::MeshKey;
use testbed_derpspec::{Numbered, Pace, Side, Target, Trust};

/// Checks any DERP server against numbered rules.
#[derive(Debug, Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of a command line are independent of each other"
)]
pub(crate) struct Args {
    /// The server: https or http, a name or an address, and perhaps a port.
    #[arg(required_unless_present = "list")]
    url: Option<String>,
    /// Connect to this address and port instead of the URL's.
    #[arg(long)]
    dial: Option<String>,
    /// Where the server answers STUN; several times for several addresses of the same host.
    #[arg(long, value_name = "ADDR:PORT")]
    stun: Vec<SocketAddr>,
    /// The port of plain HTTP that accompanies TLS.
    #[arg(long)]
    http_port: Option<u16>,
    /// Believe the certificate with this hash only: sha256-raw:HEX, as in DERP maps.
    #[arg(long, group = "trust")]
    pin: Option<String>,
    /// Believe any certificate.
    #[arg(long, group = "trust")]
    insecure: bool,
    /// Believe certificates of the authorities in this PEM file.
    #[arg(long, group = "trust", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The file with the key that relays of the region show each other.
    #[arg(long, value_name = "FILE")]
    mesh_key_file: Option<PathBuf>,
    /// Only the case or section with this number, or the cases whose rules contain this.
    #[arg(long, value_name = "N|TEXT")]
    only: Vec<String>,
    /// Show the cases, and run none.
    #[arg(long)]
    pub(crate) list: bool,
    /// Print JSON, a document on each line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also the cases that take many seconds.
    #[arg(long)]
    slow: bool,
    /// Where derpkit and the reference differ, want this.
    #[arg(long = "as", value_name = "SERVER")]
    like: Option<Like>,
    /// How many seconds a case waits for what must happen.
    #[arg(long, default_value_t = 2.0)]
    patience: f32,
    /// How many cases run at a time.
    #[arg(long, default_value_t = 8)]
    pub(crate) jobs: usize,
    /// Check the cases: each must fail where answers are changed in ways that it must notice.
    #[arg(long)]
    pub(crate) self_test: bool,
}

/// Whom a server is like.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Like {
    Derpkit,
    Reference,
}

impl Args {
    /// Whether a case is to be run.
    pub(crate) fn selects(&self, case: &Numbered) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| case.is_meant_by(text))
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs_f32(self.patience.clamp(0.1, 600.0))
    }

    pub(crate) fn pace(&self) -> Pace {
        Pace {
            jobs: self.jobs.max(1),
            patience: self.patience(),
            side: self.like.map(|like| match like {
                Like::Derpkit => Side::Derpkit,
                Like::Reference => Side::Reference,
            }),
        }
    }

    /// The server, which has taken a connection.
    pub(crate) async fn target(&self) -> anyhow::Result<Target> {
        let url = self.url.as_deref().context("no URL")?;
        let trust = match (&self.pin, &self.ca, self.insecure) {
            (Some(pin), _, _) => Trust::from_pin(pin)?,
            (_, Some(ca), _) => Trust::from_ca_file(ca)?,
            (_, _, true) => Trust::Anybody,
            _ if url.starts_with("http://") => Trust::Anybody,
            _ => anyhow::bail!("whom to trust? --ca FILE, --pin sha256-raw:HEX or --insecure"),
        };
        let mut target = Target::from_url(url, trust)?;
        target.dial.clone_from(&self.dial);
        target.stun.clone_from(&self.stun);
        target.http_port = self.http_port;
        target.slow = self.slow;
        if let Some(path) = &self.mesh_key_file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("--mesh-key-file {}", path.display()))?;
            target.mesh_key = Some(MeshKey::from_secret_text(&text).context("the mesh key")?);
        }
        target.answers().await?;
        Ok(target)
    }
}
