//! The server under test: where it is, whom to trust, and what may be asked of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use derp_proto::MeshKey;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::case::Needs;
use crate::trust::Trust;
use crate::wire::{Hello, Wire};

/// A server, and what is known of it.
#[derive(Debug)]
pub struct Target {
    /// The host of the URL; what certificates and requests name.
    pub host: String,
    /// The port of the URL.
    pub port: u16,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// Where to connect to, with a port, where that is not host and port.
    pub dial: Option<String>,
    /// Whose certificate is believed.
    pub trust: Arc<Trust>,
    /// What other relays of its region show.
    pub mesh_key: Option<MeshKey>,
    /// The addresses of its STUN server.
    pub stun: Vec<SocketAddr>,
    /// The port of plain HTTP that accompanies TLS.
    pub http_port: Option<u16>,
    /// Whether cases that take many seconds are wanted.
    pub slow: bool,
}

impl Target {
    /// A server by its URL, `http` or `https`, with nothing else known of it.
    ///
    /// # Errors
    /// Says what is wrong with the URL.
    pub fn from_url(url: &str, trust: Trust) -> anyhow::Result<Self> {
        let (is_tls, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => bail!("{url}: a URL begins with http:// or https://"),
        };
        let authority = rest.split('/').next().unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an address in brackets are not a port's.
            Some((host, port)) if !port.ends_with(']') => (
                host,
                port.parse().with_context(|| format!("{url}: no port"))?,
            ),
            _ => (authority, if is_tls { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        ensure!(!host.is_empty(), "{url}: no host");
        Ok(Self {
            host: host.to_owned(),
            port,
            is_tls,
            dial: None,
            trust: Arc::new(trust),
            mesh_key: None,
            stun: Vec::new(),
            http_port: None,
            slow: false,
        })
    }

    /// What cases may ask for.
    #[must_use]
    pub fn gives(&self) -> Needs {
        let v4 = self.stun.iter().filter(|addr| addr.is_ipv4()).count();
        let is_ip = self.host.parse::<std::net::IpAddr>().is_ok();
        [
            (self.is_tls, Needs::TLS),
            (is_ip, Needs::IP),
            (!is_ip, Needs::NAME),
            (self.mesh_key.is_some(), Needs::MESH),
            (v4 > 0, Needs::STUN4),
            (v4 > 1, Needs::STUN4_TWICE),
            (v4 < self.stun.len(), Needs::STUN6),
            (self.http_port.is_some(), Needs::HTTP_PORT),
            (self.slow, Needs::SLOW),
        ]
        .into_iter()
        .filter(|(given, _)| *given)
        .fold(Needs::NOTHING, |all, (_, need)| all | need)
    }

    /// Sees that somebody takes connections there, and speaks TLS where that is meant.
    ///
    /// # Errors
    /// Where nobody does within ten seconds, or is not to be trusted.
    pub async fn answers(&self) -> anyhow::Result<()> {
        let address = self.address();
        let connecting = async {
            let tcp = TcpStream::connect(&address)
                .await
                .with_context(|| format!("cannot connect to {address}"))?;
            if self.is_tls {
                let opened = Wire::tls(tcp, self, &Hello::default()).await;
                opened.map_err(|refused| anyhow::anyhow!("{address}: no TLS: {}", refused.text))?;
            }
            Ok(())
        };
        timeout(Duration::from_secs(10), connecting)
            .await
            .with_context(|| format!("{address} does not answer"))?
    }

    /// What to connect to.
    pub(crate) fn address(&self) -> String {
        self.dial
            .clone()
            .unwrap_or_else(|| with_port(&self.host, self.port))
    }

    /// What to connect to for plain HTTP beside TLS.
    pub(crate) fn http_address(&self, port: u16) -> String {
        match self.dial.as_ref().and_then(|dial| dial.rsplit_once(':')) {
            Some((host, _)) => format!("{host}:{port}"),
            None => with_port(&self.host, port),
        }
    }

    /// What stands in `Host`.
    pub(crate) fn host_header(&self) -> String {
        with_port(&self.host, self.port)
    }
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_host_a_port_and_whether_there_is_tls() {
        let read = |url| {
            let target = Target::from_url(url, Trust::Anybody).unwrap();
            (target.is_tls, target.host.clone(), target.address())
        };
        let expected = |tls, host: &str, address: &str| (tls, host.to_owned(), address.to_owned());
        assert_eq!(
            read("https://a.test"),
            expected(true, "a.test", "a.test:443")
        );
        assert_eq!(
            read("http://a.test:81/derp"),
            expected(false, "a.test", "a.test:81")
        );
        assert_eq!(
            read("https://[::1]:8443/"),
            expected(true, "::1", "[::1]:8443")
        );
        assert_eq!(read("https://[::1]"), expected(true, "::1", "[::1]:443"));
        for bad in ["a.test", "ftp://a.test", "https://", "https://a.test:x"] {
            assert!(Target::from_url(bad, Trust::Anybody).is_err(), "{bad}");
        }
    }
}
