//! What the web pages say.

use derp_server::{Home, HomeError, UnknownPaths};

use super::reader::Reader;
use crate::bootstrap_dns::{Names, Unpublished};
use crate::host::Host;
use crate::settings::{ACE, BOOTSTRAP_DNS, HOME, UNKNOWN_PATHS, UNPUBLISHED_DNS};

/// What the web pages say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// What `/` answers.
    pub home: Home,
    /// What paths answer that lead nowhere.
    pub unknown_paths: UnknownPaths,
    /// The names that `/bootstrap-dns` tells of.
    pub bootstrap_dns: Names,
    /// Whether CONNECT requests are led to Tailscale's control servers.
    pub ace: bool,
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
        let published = reader.list(&BOOTSTRAP_DNS);
        for name in &published {
            if !is_name(name) {
                reader.reject(&BOOTSTRAP_DNS, format_args!("{name:?} is not a host name"));
            }
        }
        let bootstrap_dns = Names {
            published,
            unpublished: unpublished(reader),
        };
        Self {
            home,
            unknown_paths,
            bootstrap_dns,
            ace: reader.switch(&ACE),
        }
    }
}

/// Names, each perhaps with the name behind a slash whose TXT record says how many are told.
fn unpublished(reader: &mut Reader<'_>) -> Vec<Unpublished> {
    let mut names = Vec::new();
    for text in reader.list(&UNPUBLISHED_DNS) {
        let (name, txt) = match text.split_once('/') {
            // With nothing behind the slash everybody is told.
            Some((name, txt)) => (name, Some(txt).filter(|txt| !txt.is_empty())),
            None => (text.as_str(), None),
        };
        if !is_name(name) || !txt.is_none_or(is_txt_name) {
            let what = format_args!("{text:?} is not a host name; write NAME or NAME/TXTNAME");
            reader.reject(&UNPUBLISHED_DNS, what);
        }
        names.push(Unpublished {
            name: name.to_owned(),
            txt: txt.map(str::to_owned),
        });
    }
    names
}

fn is_name(text: &str) -> bool {
    matches!(text.parse(), Ok(Host::Name(_)))
}

/// Names that are no host's may have more characters in them.
fn is_txt_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let labels = text.trim_end_matches('.').split('.');
    text.len() < 255
        && text.bytes().all(is_allowed)
        && labels
            .into_iter()
            .all(|label| (1..64).contains(&label.len()))
}
