//! Which versions of TLS are in use, for whoever wants to know what it would break to refuse one.

use derp_verify::TlsVersion;

use crate::metrics::{Gauge, MetricKind, MetricVisitor, Sample, Value};

/// Requests and clients, by their version of TLS. Those without TLS, or with a proxy's, are in
/// none (`cmd/derper/derper.go`, `tlsRequestVersion` and `tlsActiveVersion`).
#[derive(Debug, Default)]
pub struct TlsVersions {
    requests: [Gauge; TlsVersion::ALL.len()],
    clients: [Gauge; TlsVersion::ALL.len()],
}

impl TlsVersions {
    pub(crate) fn count_request(&self, version: Option<TlsVersion>) {
        if let Some(version) = version {
            self.requests[version as usize].add(1);
        }
    }

    pub(crate) fn comes(&self, version: Option<TlsVersion>) {
        if let Some(version) = version {
            self.clients[version as usize].add(1);
        }
    }

    pub(crate) fn goes(&self, version: Option<TlsVersion>) {
        if let Some(version) = version {
            self.clients[version as usize].sub(1);
        }
    }

    /// How many requests came over this version, those of clients and those for pages.
    #[must_use]
    pub fn requests(&self, version: TlsVersion) -> u64 {
        self.requests[version as usize].get()
    }

    /// How many clients are connected over this version.
    #[must_use]
    pub fn clients(&self, version: TlsVersion) -> u64 {
        self.clients[version as usize].get()
    }

    pub(crate) fn visit(&self, visitor: &mut dyn MetricVisitor) {
        type Count = fn(&TlsVersions, TlsVersion) -> u64;
        let families: [(&str, MetricKind, Count); 2] = [
            (
                "derper_tls_request_version",
                MetricKind::Untyped,
                Self::requests,
            ),
            (
                "derper_tls_active_version",
                MetricKind::Gauge,
                Self::clients,
            ),
        ];
        for (name, kind, count) in families {
            for version in TlsVersion::ALL {
                visitor.sample(&Sample {
                    name,
                    kind,
                    labels: &[("version", version.label())],
                    value: Value::Whole(count(self, version)),
                });
            }
        }
    }
}
