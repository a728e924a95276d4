//! How much strangers make the relay write.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use derp_proto::{ClientInfo, NodePrivate};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::args::Cli;
use crate::link::Link;
use crate::random::{self, Dice};
use crate::relay::{Dial, PATIENCE, Relay};
use crate::report::Report;
use crate::watch::still_well;

/// The most lines a second.
const MOST_LINES: u64 = 10;
/// The longest line, in bytes.
const MOST_LINE: u64 = 512;

/// How many clients the relay says its verifier turned away.
const DENIED: &str = "derper_verify_denied";

/// What is to reach no log as it is: colours, new lines, text from right to left.
const NASTY: &str = "\x1b[31mroot\x1b[0m\u{202e}nimda\r\nlevel=ERROR all is lost";

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let connects: u64 = cli.scale(1_000_000, 20_000);
    let log = cli.log.as_ref().context("--log")?;
    let before = lines(Some(log))?;
    let series = relay.metrics().await?.series();
    let start = Instant::now();
    let next = Arc::default();
    let stranger = relay.clone();
    let attack = super::in_parallel(&next, connects, move |number| {
        let relay = stranger.clone();
        async move {
            // What the relay answers is not looked at.
            let _refused = connect(&relay, number).await;
        }
    });
    attack.await?;
    let took = start.elapsed();
    let written = Written::of(log, before)?;

    let over = if relay.has_tls() { "TLS" } else { "plain HTTP" };
    let mut report = Report::new(cli.times(), format!("{connects} connections over {over}"));
    written.tell(&mut report, took);
    let more = relay.metrics().await?.series().saturating_sub(series);
    report.at_most("new series", more, 0);
    still_well(&relay, &mut report).await?;
    Ok(report)
}

/// The same by many that log in with keys that are not admitted, and say that they are something
/// nasty.
pub(super) async fn run_denied(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let logins: u64 = cli.scale(100_000, 2_000);
    let log = cli.log.as_ref().context("--log")?;
    let key = admitted(&relay, cli.allowlist.as_ref().context("--allowlist")?).await?;
    let before = lines(Some(log))?;
    let (denied, series) = {
        let metrics = relay.metrics().await?;
        (metrics.count(DENIED), metrics.series())
    };
    let start = Instant::now();
    let next = Arc::default();
    let stranger = relay.clone();
    let attack = super::in_parallel(&next, logins, move |number| {
        let relay = stranger.clone();
        async move { log_in(&relay, number).await.is_ok() }
    });
    let attack = attack.await?;
    let took = start.elapsed();
    let written = Written::of(log, before)?;

    let mut report = Report::new(cli.times(), format!("{logins} logins"));
    written.tell(&mut report, took);
    let metrics = relay.metrics().await?;
    let more = metrics.series().saturating_sub(series);
    report.at_most("new series", more, 0);
    let admitted = attack.iter().filter(|admitted| **admitted).count();
    report.at_most("admitted", admitted as u64, 0);
    if let (Some(before), Some(after)) = (denied, metrics.count(DENIED)) {
        // So it is known that each came as far as the verifier.
        let denied = after.saturating_sub(before);
        report.check(
            format!("denied {denied}"),
            logins.to_string(),
            denied == logins,
        );
    }
    let stays = relay.client(&key, &Dial::default()).await.is_ok();
    report.check(format!("its own client is let in: {stays}"), "true", stays);
    Ok(report)
}

/// A key that the relay admits, once it has read the list that it follows.
async fn admitted(relay: &Relay, list: &Path) -> Result<NodePrivate> {
    let key = random::key();
    std::fs::write(list, format!("{}\n", key.public()))?;
    let let_in = async {
        while relay.client(&key, &Dial::default()).await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_secs(60), let_in)
        .await
        .context("the relay does not follow its list")?;
    Ok(key)
}

/// A login with a new key by a client with a nasty name.
async fn log_in(relay: &Relay, number: u64) -> Result<()> {
    let mut dice = Dice::new(number);
    let mut link = relay.connect(&Dial::from(dice.loopback())).await?;
    link.upgrade().await?;
    let long = "x".repeat(dice.below(9000));
    let info = ClientInfo {
        app_name: format!("{NASTY}{number}{long}"),
        ..ClientInfo::plain()
    };
    timeout(PATIENCE, link.log_in_as(&random::key(), &info)).await?
}

async fn connect(relay: &Relay, number: u64) -> Result<()> {
    let mut dice = Dice::new(number);
    let dial = Dial::from(dice.loopback());
    let long = "x".repeat(dice.below(9000));
    let request = match dice.below(4) {
        0 => format!("GET /{NASTY} HTTP/1.1\r\nHost: {NASTY}\r\n\r\n"),
        1 => format!("GET /{number} HTTP/1.1\r\nHost: a\r\nUser-Agent: {NASTY}{long}\r\n\r\n"),
        2 => format!("GET /derp HTTP/1.1\r\nHost: {number}\r\nUpgrade: {NASTY}\r\n\r\n"),
        _ => format!("{NASTY}{long}\r\n\r\n"),
    };
    // Most stop before TLS does: with it, the attacker works as much as the relay.
    if !relay.has_tls() || !dice.once_in(20) {
        let mut tcp = relay.tcp(&dial).await?;
        tcp.write_all(request.as_bytes()).await?;
        tcp.shutdown().await?;
        let mut link = Link::new(Box::new(tcp));
        let _late = timeout(Duration::from_millis(5), link.ended()).await;
        return Ok(());
    }
    let mut link = relay.connect(&dial).await?;
    link.send_bytes(request.as_bytes()).await?;
    let _late = timeout(Duration::from_millis(5), link.ended()).await;
    Ok(())
}

/// How many lines a log has; none without a log.
pub(super) fn lines(log: Option<&PathBuf>) -> Result<u64> {
    let Some(log) = log else { return Ok(0) };
    Ok(BufReader::new(File::open(log)?).split(b'\n').count() as u64)
}

/// What a log has more than it had.
struct Written {
    lines: u64,
    longest: u64,
    controls: u64,
}

impl Written {
    /// Tells what strangers made the relay write within `took`.
    fn tell(&self, report: &mut Report, took: Duration) {
        // In the second that has begun there may be as many as in a whole one.
        let per_second = self.lines.div_ceil(took.as_secs() + 1);
        report.at_most("lines a second", per_second, MOST_LINES);
        report.at_most("longest line", self.longest, MOST_LINE);
        report.at_most("control characters", self.controls, 0);
    }

    fn of(log: &PathBuf, before: u64) -> Result<Self> {
        let mut written = Self {
            lines: 0,
            longest: 0,
            controls: 0,
        };
        for line in BufReader::new(File::open(log)?)
            .split(b'\n')
            .skip(usize::try_from(before)?)
        {
            let line = line?;
            written.lines += 1;
            written.longest = written.longest.max(line.len() as u64);
            let is_control = |byte: &&u8| **byte < b' ' && **byte != b'\t';
            written.controls += line.iter().filter(is_control).count() as u64;
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_since_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "an old \x1b line\n").unwrap();
        let before = lines(Some(&log)).unwrap();
        std::fs::write(&log, "an old \x1b line\nnew\nnew \r too\n").unwrap();
        let written = Written::of(&log, before).unwrap();
        assert_eq!(
            (written.lines, written.longest, written.controls),
            (2, 9, 1)
        );
    }
}
