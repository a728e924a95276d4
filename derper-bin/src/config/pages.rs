//! What the web pages say.

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

/// What `/` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// A page that says what this is.
    Default,
    /// Nothing, with status 200.
    Blank,
    /// A redirect.
    Redirect(String),
}

/// What paths answer that lead nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPaths {
    /// The home page, with status 200, as the reference.
    Home,
    /// Status 404.
    NotFound,
}

impl Pages {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let home = reader.value(&HOME, |text| match text {
            "" => Ok(Home::Default),
            "blank" => Ok(Home::Blank),
            url if is_web_url(url) => Ok(Home::Redirect(url.to_owned())),
            _ => Err("write blank, or a URL that begins with http:// or https://".to_owned()),
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

/// Whether this may stand in a `Location` header.
fn is_web_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
