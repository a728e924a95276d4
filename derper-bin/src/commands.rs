//! Commands that print something and end: each is text made from the settings or the
//! configuration, without side effects. Some ask the relay that runs.

mod admin;
mod config_example;
mod config_print;
mod derp_map;
mod doctor;
mod healthcheck;
mod shell;
mod top;

use crate::args::Command;
use crate::config::Config;
use crate::gather::gather;
use crate::start::{self, Start};

/// What a command prints, and how it ends.
#[derive(Debug)]
pub struct Output {
    /// For standard output.
    pub text: String,
    /// Whether all is well; else the program's status is 1.
    pub is_good: bool,
}

/// What the command prints, or `None` for a command that runs the relay.
///
/// # Errors
/// The command needs a configuration, and there are mistakes in it; or the relay is not well.
pub fn run(start: &Start) -> anyhow::Result<Option<Output>> {
    if let Command::Doctor(what) = &start.args.command {
        return doctor::run(start, what).map(Some);
    }
    let text = text(start)?;
    Ok(text.map(|text| Output {
        text,
        is_good: true,
    }))
}

fn text(start: &Start) -> anyhow::Result<Option<String>> {
    let text = match &start.args.command {
        Command::Run | Command::Quickstart(_) | Command::Doctor(_) => return Ok(None),
        Command::CheckConfig => start::summary(&start.config()?),
        Command::ConfigPrint => {
            // Told beside the values, for they show where a mistake comes from.
            let gathered = gather(start.args.clone(), &start.vars);
            let mistakes = start.config().err();
            let problems: Vec<_> = mistakes.iter().flat_map(|it| it.iter()).collect();
            config_print::print(&gathered.sources, &problems)
        }
        Command::ConfigExample => config_example::example(),
        Command::Clients { json } => admin::clients(start, *json)?,
        Command::Close(key) => admin::close(start, key)?,
        Command::Reload => admin::reload(start)?,
        Command::Top => {
            top::run(start)?;
            String::new()
        }
        Command::Healthcheck => healthcheck::run(start.doorway()?)?,
        Command::DerpMap(format) => derp_map::print(&start.config()?, *format)?,
        Command::Completions(which) => shell::completions(*which),
        Command::Man => shell::man()?,
    };
    Ok(Some(text))
}

/// What clients need to know of a relay with this configuration.
///
/// # Errors
/// Clients cannot know it yet.
fn hint(config: &Config) -> anyhow::Result<crate::derpmap_hint::Hint> {
    use crate::config::Tls;
    let pin = match &config.tls {
        Tls::Off => anyhow::bail!(
            "the relay serves plain HTTP, which no client speaks; name the proxy that does TLS in \
             the map, or turn TLS on"
        ),
        Tls::Files(files) => files.self_signed_pin(),
        Tls::Create { files, .. } => anyhow::bail!(
            "{} is not made yet, and clients must know its hash; start the relay once",
            files.cert.display()
        ),
        Tls::Acme(_) => None,
    };
    Ok(crate::derpmap_hint::Hint {
        host: config.host.clone(),
        // Where a proxy has the port, clients know that one.
        derp_port: config.public_port.unwrap_or(config.listen.address.port),
        stun_port: config.stun.map(|stun| stun.address.port),
        pin,
        can_port80: config.listen.http.is_some_and(|http| http.port == 80),
    })
}
