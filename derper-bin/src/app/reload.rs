//! A new configuration for a relay that runs: what changes, changes for everybody and drops nobody.

use std::time::SystemTime;

use derp_ops::logging::Log;
use derp_server::Server;

use super::admit::Admit;
use super::numbers::Numbers;
use super::pages::OperatorPages;
use super::pages_config;
use super::verifiers::Verifiers;
use crate::bootstrap_dns::BootstrapDns;
use crate::config::Config;
use crate::problem::{Mistakes, Problem, chain};
use crate::service_manager;
use crate::signals;
use crate::tls::Caretaker;

/// What a new configuration can change.
pub(super) struct Reload<'a> {
    pub(super) server: &'a Server,
    pub(super) tls: Option<&'a Caretaker>,
    pub(super) admit: &'a Admit,
    pub(super) numbers: &'a Numbers,
    pub(super) pages: &'a OperatorPages,
    pub(super) bootstrap_dns: &'a BootstrapDns,
    pub(super) log: Option<&'a Log>,
    /// What the log shows.
    pub(super) filter: String,
    /// The port that clients come to.
    pub(super) port: u16,
}

impl Reload<'_> {
    /// Changes over to a new configuration. Where there are mistakes in it, they are told and
    /// everything stays.
    ///
    /// # Errors
    /// The mistakes.
    pub(super) fn on(&mut self, reload: signals::Reload) -> Result<(), Mistakes> {
        let usable = reload.and_then(|(config, now)| {
            self.stay_closed(&config)?;
            Ok((config, now))
        });
        self.numbers.note_reload(usable.is_ok());
        let outcome = usable.map(|(config, now)| self.apply(config, now));
        if let Err(mistakes) = &outcome {
            for mistake in mistakes.iter() {
                tracing::error!("not reloaded: {mistake}");
            }
        }
        service_manager::ready();
        outcome
    }

    /// A file that was cut off must not open the relay: who means that can restart it.
    fn stay_closed(&self, config: &Config) -> Result<(), Mistakes> {
        let mut problems = Vec::new();
        if config.admission.is_open() && !self.admit.current().is_open() {
            problems.push(Problem::new(
                "this would be an OPEN RELAY from now on, for nothing says any more who may use \
                 it; where that is meant, restart the relay",
            ));
        }
        Mistakes::unless_empty(problems)
    }

    fn apply(&mut self, config: Config, now: SystemTime) {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        self.set_filter(&config);
        let old = self.server.tunables();
        if *old != config.tunables {
            tracing::info!(?old, new = ?config.tunables, "limits and times changed");
            self.server.set_tunables(config.tunables.clone());
        }
        self.numbers.note_config(&config);
        match Verifiers::new(&config.admission, Some(&self.admit.current())) {
            Ok(verifiers) => self.admit.replace(verifiers),
            Err(err) => tracing::error!(error = chain(&err), "the old verifiers stay"),
        }
        if let Some(tls) = self.tls {
            tls.reload(&config.tls, now);
        }
        self.pages.set_rules(config.debug.clone(), config.pages.ace);
        self.server
            .pages()
            .set_config(pages_config(&config, self.port));
        let names = config.pages.bootstrap_dns;
        if self.bootstrap_dns.set_names(names.clone()) {
            tracing::info!(?names, "the names of bootstrap DNS changed");
        }
        tracing::info!("configuration reloaded; ports, names and keys change with a restart");
    }

    fn set_filter(&mut self, config: &Config) {
        let new = &config.logging.filter;
        let Some(log) = self.log.filter(|_| self.filter != *new) else {
            return;
        };
        tracing::info!(old = self.filter, new, "the log's level changes");
        match log.set_filter(new) {
            Ok(()) => self.filter.clone_from(new),
            Err(err) => tracing::error!(%err, "the log's level stays"),
        }
    }
}
