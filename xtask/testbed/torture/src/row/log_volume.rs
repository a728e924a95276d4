//! How much strangers make the relay write.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::args::Cli;
use crate::link::Link;
use crate::random::Dice;
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::still_well;

const AT_A_TIME: usize = 64;
/// The most lines a second.
const MOST_LINES: u64 = 10;
/// The longest line, in bytes.
const MOST_LINE: u64 = 512;

/// What is to reach no log as it is: colours, new lines, text from right to left.
const NASTY: &str = "\x1b[31mroot\x1b[0m\u{202e}nimda\r\nlevel=ERROR all is lost";

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let connects: u64 = cli.scale(1_000_000, 20_000);
    let log = cli.log.as_ref().context("--log")?;
    let before = lines(Some(log))?;
    let series = relay.metrics().await?.series();
    let start = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let (relay, next) = (relay.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= connects {
                    return;
                }
                // What the relay answers is not looked at.
                let _refused = connect(&relay, number).await;
            }
        });
    }
    tasks.join_all().await;
    let took = start.elapsed();
    let written = Written::of(log, before)?;

    let over = if relay.has_tls() { "TLS" } else { "plain HTTP" };
    let mut report = Report::new(cli.quick, format!("{connects} connections over {over}"));
    let per_second = written.lines / took.as_secs().max(1);
    report.at_most("lines a second", per_second, MOST_LINES);
    report.at_most("longest line", written.longest, MOST_LINE);
    report.at_most("control characters", written.controls, 0);
    let more = relay.metrics().await?.series().saturating_sub(series);
    report.at_most("new series", more, 0);
    still_well(&relay, &mut report).await?;
    Ok(report)
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
