//! Waiting for what has to happen, and no longer than that takes.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything may take that should take no time, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The future's output, which has to come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Looks until `holds` does. For what nobody announces, such as counters.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(1)).await;
    }
}
