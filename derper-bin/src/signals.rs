//! Signals: SIGINT and SIGTERM stop the relay, SIGHUP has it read its files again.

use std::io;
use std::time::SystemTime;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::clock;
use crate::config::Config;
use crate::problem::Mistakes;
use crate::service_manager;
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

/// What reading the configuration again led to: a new configuration and when it was read, or what is wrong with it.
pub type Reload = Result<(Config, SystemTime), Mistakes>;

/// Reads the configuration anew after each SIGHUP.
///
/// # Errors
/// The system refuses.
pub fn reloads(start: Start) -> io::Result<mpsc::Receiver<Reload>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            service_manager::reloading();
            if sender.send(read(&start)).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Reads the configuration as it is now.
pub(crate) fn read(start: &Start) -> Reload {
    start.config().map(|config| (config, clock::wall()))
}
