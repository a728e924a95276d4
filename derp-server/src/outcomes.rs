//! What became of each connection: exactly one thing, so that the counts add up.

use crate::error::AcceptError;
use crate::metrics::{Gauge, MetricKind, MetricVisitor, Sample, Value};

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident $label:literal,)*) => {
        /// What became of a connection, once that is known.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Outcome {
            $($(#[$doc])* $name,)*
        }

        impl Outcome {
            /// All of them.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            /// The metric's label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

outcomes! {
    /// A client was admitted.
    Client "client",
    /// It wanted pages.
    Pages "pages",
    /// An authority looked at a certificate that is made for that.
    Challenge "challenge",
    /// As many clients are there as may be.
    FullOfClients "clients",
    /// As many connections are on their way to a login as may be.
    FullOfLogins "pending_logins",
    /// They hold as many bytes as they may.
    FullOfBytes "pending_login_bytes",
    /// It had said nothing or had no key, and made room for another.
    GaveWay "gave_way",
    /// As many connections for pages are there as may be: it had one answer.
    FullOfPages "page_connections",
    /// Its network comes too often.
    NetworkRate "network_rate",
    /// Its key comes too often.
    KeyRate "key_rate",
    /// The PROXY header was missing or wrong.
    ProxyHeader "proxy_header",
    /// The TLS handshake failed.
    Tls "tls",
    /// There was no certificate to show.
    NoCertificate "no_certificate",
    /// The request was not understood.
    Request "request",
    /// It did not prove its key.
    Login "login",
    /// A step took too long.
    TooSlow "too_slow",
    /// The verifier turned it away.
    Denied "denied",
    /// The verifier had no answer.
    Unverified "unverified",
    /// It broke, or the other end went.
    Broken "broken",
    /// The relay was stopping.
    Stopping "stopping",
}

impl Outcome {
    /// What a connection that failed like this came to.
    pub(crate) const fn of(error: &AcceptError) -> Self {
        match error {
            AcceptError::Io(_) => Self::Broken,
            AcceptError::Proxy(_) => Self::ProxyHeader,
            AcceptError::Tls(_) => Self::Tls,
            AcceptError::NoCertificate => Self::NoCertificate,
            AcceptError::Request(_) => Self::Request,
            AcceptError::Handshake(_) => Self::Login,
            AcceptError::TooSlow { .. } => Self::TooSlow,
            AcceptError::Denied(_) => Self::Denied,
            AcceptError::Unverified(_) => Self::Unverified,
            AcceptError::Full(budget) => budget.outcome(),
            AcceptError::GaveWay => Self::GaveWay,
            AcceptError::Stopping => Self::Stopping,
            // It was a client.
            AcceptError::Session(_) => Self::Client,
        }
    }
}

/// How many connections came to what; with those that are on their way, all that were handed over.
#[derive(Debug, Default)]
pub struct Outcomes([Gauge; Outcome::ALL.len()]);

impl Outcomes {
    pub(crate) fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].add(1);
    }

    /// How many connections came to this.
    #[must_use]
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].get()
    }

    /// How many came to anything.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(Gauge::get).sum()
    }

    pub(crate) fn visit(&self, visitor: &mut dyn MetricVisitor) {
        for outcome in Outcome::ALL {
            visitor.sample(&Sample {
                name: "derper_connections",
                kind: MetricKind::Counter,
                labels: &[("outcome", outcome.label())],
                value: Value::Whole(self.get(outcome)),
            });
        }
    }
}
