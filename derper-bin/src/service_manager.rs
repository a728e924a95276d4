//! What systemd wants to hear: that the relay serves, that it reads its files again, that it stops,
//! and that it is alive (`sd_notify(3)`). Nobody hears it where no service manager listens.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;

/// How often the status line is renewed where no watchdog asks for more.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// The relay serves, for the first time or with a new configuration.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The relay reads its files again; [`ready`] follows.
pub fn reloading() {
    // systemd wants to know when (`Type=notify-reload`).
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of a reload"),
    }
}

/// The relay takes no more clients, and ends within `at_most`.
pub fn stopping(at_most: Duration) {
    let at_most = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    notify(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(at_most),
    ]);
}

/// Says every few seconds that the relay is alive, and how it is, for ever.
pub async fn keep_alive(status: impl Fn() -> String) -> Infallible {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    // Twice as often as it is missed.
    let watchdog = sd_notify::watchdog_enabled().map(|interval| interval / 2);
    let interval = watchdog.map_or(STATUS_INTERVAL, |watchdog| watchdog.min(STATUS_INTERVAL));
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        let status = status();
        notify(&[NotifyState::Status(&status), NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told anything");
    }
}
