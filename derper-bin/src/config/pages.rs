//! What the web pages say.

use derp_server::{Home, HomeError, UnknownPaths};

use super::reader::Reader;
use crate::host::Host;
use crate::settings::{BOOTSTRAP_DNS, HOME, UNKNOWN_PATHS};

/// What the web pages say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// What `/` answers.
    pub home: Home,
    /// What paths answer that lead nowhere.
    pub unknown_paths: UnknownPaths,
    /// The names that `/bootstrap-dns` publishes.
    pub bootstrap_dns: Vec<String>,
}

impl Pages {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let home = reader.value(&HOME, |text| {
            let refused = "write blank, or a URL that begins with http:// or https://";
            text.parse().map_err(|_: HomeError| refused.to_owned())
        });
        let unknown_paths = reader.value(&UNKNOWN_PATHS, |text| match text {
            "home" => Ok(UnknownPaths::Home),
            "404" => Ok(UnknownPaths::NotFound),
            _ => Err("write home or 404".to_owned()),
        });
        let bootstrap_dns = reader.list(&BOOTSTRAP_DNS);
        for name in &bootstrap_dns {
            if !matches!(name.parse(), Ok(Host::Name(_))) {
                reader.reject(&BOOTSTRAP_DNS, format_args!("{name:?} is not a host name"));
            }
        }
        Self {
            home,
            unknown_paths,
            bootstrap_dns,
        }
    }
}
