//! Checks every relay of a DERP map: `cargo run -p derpprobe-bin --example map_checker MAP.json`.

use std::time::Duration;

use derp_client::ProxyEnvironment;
use derp_proto::DerpMap;
use derpprobe::plan::{PlanOptions, plan};
use derpprobe::probe::Prober;
use derpprobe::report::Report;
use derpprobe::run::run_one;
use derpprobe::trust::Trust;

#[expect(clippy::print_stdout, reason = "the report is what it is for")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("name a file with a map")?;
    let map = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let prober = Prober::new(Trust::of_system(), None, ProxyEnvironment::default());
    let report = check(&map, &prober).await?;
    print!("{report}");
    std::process::exit(report.exit_code().into())
}

/// What is good and what is bad: certificates, logins with a packet there and back, and STUN.
pub(crate) async fn check(
    map: &DerpMap,
    prober: &Prober,
) -> Result<Report, derpprobe::plan::PlanError> {
    // How often each is due; here each runs once, and has four fifths of that time.
    let often = Some(Duration::from_secs(15));
    let kinds = PlanOptions {
        tls: often,
        mesh: often,
        stun: often,
        ..PlanOptions::default()
    };
    let mut outcomes = Vec::new();
    for probe in plan(map, &kinds)? {
        outcomes.push(run_one(prober, &probe).await);
    }
    Ok(Report::of(outcomes))
}
