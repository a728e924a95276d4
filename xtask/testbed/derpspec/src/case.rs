//! What a case is, and what it needs to be run.

use std::fmt;
use std::future::Future;
use std::ops::BitOr;
use std::pin::Pin;

use crate::context::Cx;
use crate::fault::Fault;
use crate::verdict::{Failure, Side};

/// A rule for servers, and how it is checked.
#[derive(Clone, Copy)]
pub struct Case {
    /// What a server does, in a sentence.
    pub rule: &'static str,
    /// Where that is said: an RFC, or a file of the reference.
    pub source: &'static str,
    /// Who has to keep the rule.
    pub level: Level,
    /// What it takes to run the case.
    pub needs: Needs,
    /// The faults that the case must notice.
    pub red_by: &'static [Fault],
    pub(crate) run: fn(Cx) -> Story,
}

/// A case that runs. A side is told by cases about documented differences only.
pub(crate) type Story = Pin<Box<dyn Future<Output = Result<Option<Side>, Failure>> + Send>>;

/// Who has to keep a rule.
#[derive(Debug, Clone, Copy)]
pub enum Level {
    /// Every server: clients depend on it, or an RFC demands it.
    Must,
    /// Every server, though its clients live without.
    Should,
    /// derpkit and the reference differ, on purpose; DEVIATIONS.md says why.
    Differs {
        /// What derpkit does.
        derpkit: &'static str,
        /// What the reference does.
        reference: &'static str,
        /// Words of the line in DEVIATIONS.md.
        page: &'static str,
    },
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::Differs { .. } => "DIFFERS",
        })
    }
}

/// What a case asks of the command line, or what the command line gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs(u16);

impl Needs {
    /// Nothing but the URL.
    pub const NOTHING: Self = Self(0);
    /// The URL begins with `https`.
    pub const TLS: Self = Self(1);
    /// The URL has an address in place of a name.
    pub const IP: Self = Self(2);
    /// The mesh key.
    pub const MESH: Self = Self(4);
    /// A STUN address, IPv4.
    pub const STUN4: Self = Self(8);
    /// A STUN address, IPv6.
    pub const STUN6: Self = Self(16);
    /// A second STUN address of the same host, IPv4.
    pub const STUN4_TWICE: Self = Self(32);
    /// The plain HTTP port beside TLS.
    pub const HTTP_PORT: Self = Self(64);
    /// Time.
    pub const SLOW: Self = Self(128);
    /// The URL has a name in place of an address.
    pub const NAME: Self = Self(256);

    const NAMES: [(Self, &'static str); 9] = [
        (Self::TLS, "an https URL"),
        (Self::IP, "an address as the host"),
        (Self::NAME, "a name as the host"),
        (Self::MESH, "--mesh-key-file"),
        (Self::STUN4, "--stun with an IPv4 address"),
        (Self::STUN6, "--stun with an IPv6 address"),
        (
            Self::STUN4_TWICE,
            "--stun with two IPv4 addresses of the host",
        ),
        (Self::HTTP_PORT, "--http-port"),
        (Self::SLOW, "--slow"),
    ];

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What of this `given` lacks, in words.
    #[must_use]
    pub fn missing_from(self, given: Self) -> Vec<&'static str> {
        Self::NAMES
            .iter()
            .filter(|(need, _)| self.0 & need.0 != 0 && given.0 & need.0 == 0)
            .map(|(_, name)| *name)
            .collect()
    }
}

impl BitOr for Needs {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}

impl Case {
    pub(crate) const fn new(
        level: Level,
        rule: &'static str,
        source: &'static str,
        run: fn(Cx) -> Story,
    ) -> Self {
        Self {
            rule,
            source,
            level,
            needs: Needs::NOTHING,
            red_by: &[],
            run,
        }
    }

    /// The same case, which needs this as well.
    pub(crate) const fn needs(mut self, needs: Needs) -> Self {
        self.needs = self.needs.and(needs);
        self
    }

    /// The same case, which must notice these faults.
    pub(crate) const fn red_by(mut self, faults: &'static [Fault]) -> Self {
        self.red_by = faults;
        self
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("rule", &self.rule)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// A case that every server must pass: `must!(function(arguments), rule, source)`.
macro_rules! must {
    ($run:ident($($arg:expr),*), $rule:expr, $source:expr) => {
        $crate::case::Case::new($crate::case::Level::Must, $rule, $source, |cx| {
            Box::pin(async move { $run(&cx $(, $arg)*).await.map(|()| None) })
        })
    };
}

/// A case that every server should pass.
macro_rules! should {
    ($run:ident($($arg:expr),*), $rule:expr, $source:expr) => {
        $crate::case::Case::new($crate::case::Level::Should, $rule, $source, |cx| {
            Box::pin(async move { $run(&cx $(, $arg)*).await.map(|()| None) })
        })
    };
}

/// A case that tells which of two documented behaviours a server has.
macro_rules! differs {
    (
        $run:ident($($arg:expr),*), $rule:expr, $source:expr,
        derpkit: $derpkit:expr, reference: $reference:expr, page: $page:expr
    ) => {
        $crate::case::Case::new(
            $crate::case::Level::Differs {
                derpkit: $derpkit,
                reference: $reference,
                page: $page,
            },
            $rule,
            $source,
            |cx| Box::pin(async move { $run(&cx $(, $arg)*).await.map(Some) }),
        )
    };
}

pub(crate) use {differs, must, should};
