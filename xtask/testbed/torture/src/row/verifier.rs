//! An admission controller that lies, breaks, sends elsewhere or is gone. The relay is told to
//! turn clients away that it has no answer for.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, timeout};

use super::controller::{Answer, Controller, http};
use crate::args::Cli;
use crate::random;
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::still_well;

/// By when a client knows that a controller cannot be reached.
const MOST_GONE: Duration = Duration::from_secs(2);
/// By when it is turned away while one hangs.
const MOST_HANG: Duration = Duration::from_secs(6);
/// By when clients are admitted again once the controller answers as it should.
const MOST_RECOVERY: Duration = Duration::from_secs(5);

/// What was decided about clients.
#[derive(Default)]
struct Decisions {
    admitted: Vec<&'static str>,
    longest: Duration,
}

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let port = cli.controller_port.context("--controller-port")?;
    let logins = cli.scale(20, 3);

    let good = http("200 OK", "", r#"{"Allow":true}"#);
    let controller = Controller::start(port, Answer::Bytes(good.clone())).await?;
    if let Err(error) = admitted(&relay).await {
        bail!("a good controller's client is not admitted: {error:#}");
    }
    controller.stop().await;

    let elsewhere = Controller::start(0, Answer::Bytes(good.clone())).await?;
    let answers = answers(&elsewhere.addr().to_string());
    let count = answers.len();
    let mut odd = Decisions::default();
    for (name, answer) in answers {
        let controller = Controller::start(port, Answer::Bytes(answer)).await?;
        odd.log_in(&relay, name, logins.min(3)).await;
        controller.stop().await;
    }
    let mut recovery = recover(&relay, port, &good).await?;
    let mut gone = Decisions::default();
    gone.log_in(&relay, "gone", logins).await;
    recovery = recovery.max(recover(&relay, port, &good).await?);
    let controller = Controller::start(port, Answer::Hang).await?;
    let mut hung = Decisions::default();
    hung.log_in(&relay, "hung", logins).await;
    controller.stop().await;
    recovery = recovery.max(recover(&relay, port, &good).await?);

    let mut report = Report::new(
        cli.times(),
        format!("{count} odd answers, one that is gone, one that hangs"),
    );
    let admitted: Vec<_> = [&odd, &gone, &hung]
        .into_iter()
        .flat_map(|decisions| decisions.admitted.clone())
        .collect();
    report.check(
        format!("admitted {} {}", admitted.len(), admitted.join(", "))
            .trim_end()
            .to_owned(),
        "0",
        admitted.is_empty(),
    );
    report.at_most("redirects followed", elsewhere.asked(), 0);
    report.deadline("decided while gone", gone.longest, MOST_GONE);
    report.deadline("while hung", hung.longest, MOST_HANG);
    report.deadline("admits again after", recovery, MOST_RECOVERY);
    elsewhere.stop().await;
    let controller = Controller::start(port, Answer::Bytes(good)).await?;
    still_well(&relay, &mut report).await?;
    controller.stop().await;
    Ok(report)
}

/// Lets a good controller answer until a client is admitted again; returns how long that took.
async fn recover(relay: &Relay, port: u16, good: &[u8]) -> Result<Duration> {
    let controller = Controller::start(port, Answer::Bytes(good.to_vec())).await?;
    let start = Instant::now();
    while admitted(relay).await.is_err() {
        ensure!(
            start.elapsed() < MOST_RECOVERY * 4,
            "nobody is admitted any more"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = start.elapsed();
    controller.stop().await;
    Ok(took)
}

impl Decisions {
    /// `count` logins at a time.
    async fn log_in(&mut self, relay: &Relay, name: &'static str, count: usize) {
        let mut logins = tokio::task::JoinSet::new();
        for _ in 0..count {
            let relay = relay.clone();
            logins.spawn(async move {
                let start = Instant::now();
                (admitted(&relay).await.is_ok(), start.elapsed())
            });
        }
        for (admitted, took) in logins.join_all().await {
            self.longest = self.longest.max(took);
            if admitted {
                self.admitted.push(name);
            }
        }
    }
}

async fn admitted(relay: &Relay) -> Result<()> {
    let (key, dial) = (random::key(), Dial::default());
    timeout(Duration::from_secs(20), relay.client(&key, &dial)).await??;
    Ok(())
}

/// Answers that admit nobody, whoever reads them by the reference's rules.
fn answers(elsewhere: &str) -> Vec<(&'static str, Vec<u8>)> {
    let allow = r#"{"Allow":true}"#;
    let redirect = format!("Location: http://{elsewhere}/\r\n");
    let whole = http("200 OK", "", allow);
    vec![
        ("denial", http("200 OK", "", r#"{"Allow":false}"#)),
        ("status 500", http("500 Internal Server Error", "", allow)),
        ("status 403", http("403 Forbidden", "", allow)),
        ("status 201", http("201 Created", "", allow)),
        ("status 301", http("301 Moved Permanently", &redirect, "")),
        ("status 302", http("302 Found", &redirect, "")),
        ("status 303", http("303 See Other", &redirect, "")),
        ("status 307", http("307 Temporary Redirect", &redirect, "")),
        ("status 308", http("308 Permanent Redirect", &redirect, "")),
        ("empty body", http("200 OK", "", "")),
        ("HTML", http("200 OK", "", "<html>Allow</html>")),
        (
            "text for a truth",
            http("200 OK", "", r#"{"Allow":"true"}"#),
        ),
        ("number for a truth", http("200 OK", "", r#"{"Allow":1}"#)),
        ("null", http("200 OK", "", "null")),
        ("half an object", http("200 OK", "", r#"{"Allow":true"#)),
        (
            "late answer",
            http("200 OK", "", &format!("{}{allow}", " ".repeat(5000))),
        ),
        ("cut short", whole[..whole.len() - 3].to_vec()),
        ("no HTTP", b"Allow\r\n\r\n".to_vec()),
        (
            "endless head",
            [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 200_000]].concat(),
        ),
        ("nothing", Vec::new()),
    ]
}
