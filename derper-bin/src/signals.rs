//! Signals: SIGINT and SIGTERM stop the relay, SIGHUP has it read its files again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::clock;
use crate::config::Config;
use crate::start::Start;

/// What the shell says of a process that a signal ended: 128 and SIGINT's number.
const EXIT_INTERRUPTED: i32 = 130;

/// Ready at the first SIGINT or SIGTERM. A second one ends the process at once, for whoever does
/// not want to wait for clients to leave.
///
/// # Errors
/// The system refuses.
pub fn shutdown() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        either(&mut interrupt, &mut terminate).await;
        tokio::spawn(async move {
            either(&mut interrupt, &mut terminate).await;
            tracing::warn!("stopped by a second signal");
            std::process::exit(EXIT_INTERRUPTED);
        });
    })
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// A new configuration after each SIGHUP, and when it was read. A broken one is told and left
/// out, so that the old one stays.
///
/// # Errors
/// The system refuses.
pub fn reloads(start: Start) -> io::Result<mpsc::Receiver<(Config, std::time::SystemTime)>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match start.config() {
                Ok(config) => {
                    if sender.send((config, clock::wall())).await.is_err() {
                        return;
                    }
                }
                Err(mistakes) => {
                    for mistake in mistakes.iter() {
                        tracing::error!("not reloaded: {mistake}");
                    }
                }
            }
        }
    });
    Ok(receiver)
}
