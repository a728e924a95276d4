//! The first process of the container `derper:tailscaled`: it starts a tailscaled and the relay
//! that asks it who belongs to the tailnet, and ends with the first of them that ends.
//!
//! It is root, as tailscaled has to be, and so are the files that people mount; the relay is not,
//! and speaks to the internet. Its words and variables are passed on to the relay as they are.

mod certificates;
mod children;
mod places;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use derper::start;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::certificates::Certificates;
use crate::children::{Child, Children};

/// How often mounted certificates are looked at: those who renew them do it weeks before the end.
const LOOK: Duration = Duration::from_secs(30);
/// How long tailscaled may take to end, once the relay has.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(err) => {
            tell(&format!("{err:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<ExitCode> {
    // Before anything is started, so that no signal and no end falls into a gap.
    let mut ended = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;

    places::prepare()?;
    let mut certificates = Certificates::default();
    certificates.copy().context("mounted certificates")?;
    let mut children = Children::default();
    children.start(Child::Tailscaled, &mut places::tailscaled())?;
    let relay = &mut places::relay();
    if let Err(err) = children.start(Child::Relay, relay) {
        children.send(Child::Tailscaled, Signal::TERM);
        return Err(err);
    }
    let mut look = tokio::time::interval(LOOK);

    let (who, code) = loop {
        tokio::select! {
            _ = ended.recv() => {
                if let Some(end) = children.reap() {
                    break end;
                }
            }
            // The relay tells its clients to go elsewhere, and ends; then everything does.
            _ = terminate.recv() => children.send(Child::Relay, Signal::TERM),
            _ = interrupt.recv() => children.send(Child::Relay, Signal::INT),
            _ = hangup.recv() => children.send(Child::Relay, Signal::HUP),
            _ = look.tick() => {
                // What was copied stays until something better is there.
                if let Err(err) = certificates.copy() {
                    tell(&format!("mounted certificates: {err:#}"));
                }
            }
        }
    };
    let other = match who {
        Child::Relay => Child::Tailscaled,
        Child::Tailscaled => {
            tell("tailscaled has ended, and the relay knows nobody without it");
            Child::Relay
        }
    };
    children.send(other, Signal::TERM);
    let leave = async {
        while children.reap().is_none() {
            ended.recv().await;
        }
    };
    // Whoever does not end is ended with the container.
    let _late = tokio::time::timeout(PATIENCE, leave).await;
    Ok(match who {
        Child::Relay => ExitCode::from(code),
        Child::Tailscaled => ExitCode::FAILURE,
    })
}

/// Says something where the container's log is.
fn tell(text: &str) {
    start::print(&format!("derper-init: {text}\n"), false);
}
