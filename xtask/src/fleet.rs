//! A fleet with a fault of each kind, and our probe beside it: does it find them all, and nothing
//! else? In the terminal, on its page, in its metrics and in its exit code.
//!
//! Everything is on loopback: a region of three relays, two of ours meshed with Go's; and three
//! relays of ours that are regions by themselves: one whose certificate has expired, one that
//! refuses strangers, and one that was killed.

mod relays;
mod watch;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use self::relays::Fleet;
use self::watch::Watch;
use crate::{builds, peers, shell};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Keep the fleet and the probe's page until this is ended
    #[arg(long)]
    stay: bool,
    /// Put pictures of the page there; needs Chromium
    #[arg(long, value_name = "DIRECTORY")]
    pictures: Option<PathBuf>,
}

/// What is wrong with the fleet: a probe, and words that its message must have.
const FAULTS: [(&str, &str); 13] = [
    ("derp/dead/dead/dead/mesh", "Connection refused"),
    ("derp/dead/dead/http", "Connection refused"),
    ("derp/dead/dead/info", "Connection refused"),
    ("derp/dead/dead/tls", "Connection refused"),
    ("derp/dead/dead/udp", "no STUN answer"),
    ("derp/dead/dead/ws", "Connection refused"),
    ("derp/old/old/info", "cannot connect to node old"),
    ("derp/old/old/old/mesh", "cannot connect to node old"),
    ("derp/old/old/tls", "has expired"),
    ("derp/old/old/ws", "cannot connect to node old"),
    (
        "derp/private/private/info",
        "instead of admitting the probe",
    ),
    (
        "derp/private/private/private/mesh",
        "instead of admitting the probe",
    ),
    ("derp/private/private/ws", "instead of admitting the probe"),
];

/// How many probes are good: the map's, those of the meshed region, and what others still do. A list that shrinks unseen would pass as well.
const GOOD: usize = 36;

pub(crate) fn run(options: &Options) -> Result<()> {
    let ours = builds::release()?;
    let go = peers::install_tailscale(peers::GO_VERSION, &["derper"])?;
    let fleet = Fleet::start(&ours.join("derper"), &go.join("derper"))?;
    println!("{} relays are there", fleet.len());

    once(&fleet)?;
    knowing(&fleet)?;
    let watch = Watch::start(probe(&fleet).args(["-tls-interval", "2s"]))?;
    watch.until_all_are_known()?;
    on_the_page(&watch)?;
    in_the_metrics(&watch)?;
    println!(
        "all {} faults are on the page and in the metrics",
        FAULTS.len()
    );
    if let Some(folder) = &options.pictures {
        pictures(&watch, folder)?;
    }
    if options.stay {
        println!(
            "the page is at http://{}/; the map is {}",
            watch.address(),
            fleet.map().display()
        );
        println!("press Enter to end");
        std::io::stdin().read_line(&mut String::new())?;
    }
    Ok(())
}

/// The probe as whoever runs the fleet would start it.
fn probe(fleet: &Fleet) -> Command {
    let mut probe = shell::command(shell::release_dir().join("derpprobe"));
    probe.env("SSL_CERT_FILE", fleet.authority());
    probe.arg("-derp-map").arg(fleet.map());
    probe.args(["-spread=false", "-all"]);
    probe
}

/// One round, as a person sees it.
fn once(fleet: &Fleet) -> Result<()> {
    let output = probe(fleet).arg("-once").output()?;
    let text = String::from_utf8(output.stdout)?;
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let found: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("bad: "))
        .collect();
    ensure!(
        found.len() == FAULTS.len(),
        "{} faults, not {}",
        found.len(),
        FAULTS.len()
    );
    for (name, words) in FAULTS {
        let told = |line: &&&str| line.starts_with(&format!("{name}: ")) && line.contains(words);
        ensure!(
            found.iter().find(told).is_some(),
            "{name} is not told as {words:?}"
        );
    }
    let good = text
        .lines()
        .filter(|line| line.starts_with("good: "))
        .count();
    ensure!(good == GOOD, "{good} probes are good, not {GOOD}");
    let code = output.status.code();
    ensure!(code == Some(1), "the exit code is {code:?}, not 1");
    Ok(())
}

/// A relay that refuses strangers is as it should be, for whoever says so.
fn knowing(fleet: &Fleet) -> Result<()> {
    let only = [
        "-once",
        "-region-code",
        "private",
        "-expect-refused",
        "private",
    ];
    let output = probe(fleet).args(only).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "the private relay is bad:\n{text}");
    ensure!(
        text.contains("good: derp/private/private/admission"),
        "nobody was refused:\n{text}"
    );
    println!("the private relay is good with -expect-refused private");
    Ok(())
}

fn on_the_page(watch: &Watch) -> Result<()> {
    let overview = watch.get("/")?;
    for words in [
        "Connection refused",
        "has expired",
        "instead of admitting the probe",
    ] {
        ensure!(
            overview.contains(words),
            "the page does not say {words:?}:\n{overview}"
        );
    }
    for (name, words) in FAULTS {
        let code = name.split('/').nth(1).context("a region's code")?;
        let page = watch.get(&format!("/region/{code}"))?;
        ensure!(
            page.contains(words),
            "{code}'s page does not say {words:?}:\n{page}"
        );
    }
    Ok(())
}

fn in_the_metrics(watch: &Watch) -> Result<()> {
    let metrics = watch.get("/metrics")?;
    let failed: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("derpprobe_result{") && line.ends_with(" 0"))
        .collect();
    ensure!(failed.len() == FAULTS.len(), "{failed:#?}");
    for (name, _) in FAULTS {
        let label = format!("name=\"{name}\"");
        ensure!(
            failed.iter().any(|line| line.contains(&label)),
            "{name} is not in {failed:#?}"
        );
    }
    Ok(())
}

/// The page on a desk, on a telephone and in the dark, to be looked at.
fn pictures(watch: &Watch, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let light = "--blink-settings=preferredColorScheme=1";
    let dark = "--blink-settings=preferredColorScheme=0";
    let views = [
        ("overview", "/", "1280,900", light),
        ("overview-dark", "/", "1280,900", dark),
        ("overview-phone", "/", "500,1400", light),
        ("region", "/region/ams", "1280,1800", light),
        ("region-dead", "/region/dead", "1280,1200", light),
    ];
    for (name, path, size, scheme) in views {
        let picture = folder.join(format!("{name}.png"));
        let mut chromium = Command::new("chromium");
        chromium.args(["--headless", "--no-sandbox", "--hide-scrollbars", scheme]);
        chromium.arg(format!("--window-size={size}"));
        chromium.arg(format!("--screenshot={}", picture.display()));
        chromium.arg(format!("http://{}{path}", watch.address()));
        let output = chromium.output().context("cannot start chromium")?;
        ensure!(
            output.status.success(),
            "chromium ended with {}",
            output.status
        );
        println!("{}", picture.display());
    }
    Ok(())
}
