//! Mistakes in a configuration: collected, so that an operator hears of all of them at once.

use std::fmt;

use crate::settings::Setting;
use crate::sources::{Given, Origin};

/// One mistake: what was set to what, what is wrong with it, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// A mistake that is not in one value alone. `text` names the flag or key and the remedy.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A mistake in the value of `setting`.
    #[must_use]
    pub fn in_value(setting: &Setting, given: &Given, what: impl fmt::Display) -> Self {
        let Given { text, origin } = given;
        if setting.secret {
            return Self(format!("{origin}: {what}"));
        }
        Self(match origin {
            Origin::File { .. } => format!("{origin} = {text:?}: {what}"),
            _ => format!("{origin} {text:?}: {what}"),
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a configuration cannot be used: never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(Vec<Problem>);

impl Mistakes {
    /// `Err` with the problems, or `Ok` where there are none.
    ///
    /// # Errors
    /// Where `problems` is not empty.
    pub fn unless_empty(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Self(problems))
        }
    }

    /// The problems, one text each.
    pub fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => only.fmt(f),
            all => {
                write!(f, "the configuration has {} mistakes:", all.len())?;
                all.iter()
                    .try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for Mistakes {}

/// An error with all that led to it, in one line.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        text.push_str(": ");
        text.push_str(&err.to_string());
        source = err.source();
    }
    text
}
