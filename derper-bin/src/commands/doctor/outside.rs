//! The relay as its clients reach it.

use std::net::IpAddr;

use anyhow::Context;
use derp_client::ServerUrl;
use derp_proto::DerpNode;

use super::finding::Findings;
use super::own_pin;
use crate::commands::hint;
use crate::config::Config;
use crate::host::Host;

/// The usual port of STUN.
const STUN_PORT: u16 = 3478;

/// Where clients look for the relay, and what they expect there.
#[derive(Debug, Clone)]
pub(super) struct Outside {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) is_tls: bool,
    /// STUN's port; `None` where there is to be none.
    pub(super) stun_port: Option<u16>,
    /// Whether somebody expects port 80 to answer.
    pub(super) wants_port_80: bool,
    /// The hash that the certificate must have, in place of an authority's word.
    pub(super) pin: Option<String>,
    /// Whether it was named by hand, for whoever looks from another machine.
    pub(super) is_named: bool,
}

impl Outside {
    /// The relay at `url`; what the URL does not say comes from the configuration, or is usual.
    ///
    /// # Errors
    /// It is no URL of a relay.
    pub(super) fn of_url(url: &str, config: Option<&Config>) -> anyhow::Result<Self> {
        let url: ServerUrl = url
            .parse()
            .context("--url: write it like https://derp.example.com or https://192.0.2.1:8443")?;
        let host = url.host().to_string();
        let stun = config.map(|config| config.stun.map(|stun| stun.address.port));
        Ok(Self {
            host: host.parse().context("--url")?,
            port: url.port(),
            is_tls: url.is_tls(),
            stun_port: stun.unwrap_or(Some(STUN_PORT)),
            wants_port_80: config.is_some_and(has_port_80),
            pin: config.and_then(own_pin),
            is_named: true,
        })
    }

    /// The relay of this configuration, by its name and the port that clients come to.
    pub(super) fn of_config(config: &Config, findings: &mut Findings) -> Option<Self> {
        let mut hint = match hint(config) {
            Ok(hint) => hint,
            Err(err) => {
                findings.warn(
                    "certificate",
                    format!("{err:#}"),
                    "look at the relay as its clients reach it with --url",
                );
                return None;
            }
        };
        if let Some(port) = config.public_port {
            hint.derp_port = port;
        }
        Some(Self {
            host: hint.host,
            port: hint.derp_port,
            is_tls: true,
            stun_port: hint.stun_port,
            wants_port_80: hint.can_port80,
            pin: hint.pin,
            is_named: false,
        })
    }

    /// Expects what the entry of a DERP map says, where nothing else says so.
    pub(super) fn expect(&mut self, entry: &DerpNode) {
        self.stun_port = entry.stun_port();
        self.wants_port_80 = entry.can_port80;
        if entry
            .cert_name
            .starts_with(derp_proto::http::CERT_PIN_PREFIX)
        {
            self.pin = Some(entry.cert_name.clone());
        }
    }

    /// The host as it stands in URLs and `Host` headers, with its port where that is unusual.
    pub(super) fn authority(&self) -> String {
        let host = match &self.host {
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            host => host.to_string(),
        };
        match (self.port, self.is_tls) {
            (443, true) | (80, false) => host,
            (port, _) => format!("{host}:{port}"),
        }
    }
}

fn has_port_80(config: &Config) -> bool {
    config.listen.http.is_some_and(|http| http.port == 80)
}
