//! The forms in which a report is printed, and the exit codes that go with them.

mod json;
mod junit;
mod nagios;

use std::str::FromStr;

use thiserror::Error;

use crate::report::Report;

pub use json::outcome as outcome_json;

/// A form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// A line for each probe, as the reference prints it.
    #[default]
    Text,
    /// An object with everything that was found.
    Json,
    /// XML that CI systems show as tests.
    Junit,
    /// A line for Nagios, Icinga and others that run its plugins.
    Nagios,
}

/// Text that names no form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is none of text, json, junit and nagios")]
pub struct FormatError(String);

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "junit" => Ok(Self::Junit),
            "nagios" => Ok(Self::Nagios),
            _ => Err(FormatError(text.to_owned())),
        }
    }
}

impl Format {
    /// The report in this form, with a line's end.
    #[must_use]
    pub fn render(self, report: &Report) -> String {
        match self {
            Self::Text => report.to_string(),
            Self::Json => json::render(report),
            Self::Junit => junit::render(report),
            Self::Nagios => nagios::render(report),
        }
    }

    /// The program's exit code: 0 where nothing is bad. Else it is 1, and in Nagios's form 2, which
    /// is there what is critical.
    #[must_use]
    pub fn exit_code(self, report: &Report) -> u8 {
        match self {
            Self::Nagios => 2 * report.exit_code(),
            Self::Text | Self::Json | Self::Junit => report.exit_code(),
        }
    }
}

#[cfg(test)]
mod tests;
