//! Who may use the relay.

use std::path::PathBuf;
use std::sync::Arc;

use derp_verify::{Admission as Controller, Allowlist, HttpOptions};

use super::reader::Reader;
use crate::problem::chain;
use crate::settings::{
    ALLOWLIST, SOCKET, VERIFY_CLIENT_URL, VERIFY_CLIENT_URL_FAIL_OPEN, VERIFY_CLIENTS,
};

/// Who may use the relay.
#[derive(Debug)]
pub struct Admission {
    /// Only these keys, if there is a list.
    pub allowlist: Option<Arc<Allowlist>>,
    /// What the reference's flags ask for.
    pub go: GoVerify,
}

/// The reference's verification flags. All that are set must agree on a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoVerify {
    /// Ask the local tailscaled.
    pub tailscaled: bool,
    /// Its socket; `None` for the platform's usual one.
    pub socket: Option<PathBuf>,
    /// Ask the admission controller at this URL.
    pub url: Option<String>,
    /// Admit clients while that controller is unreachable.
    pub url_fail_open: bool,
}

impl GoVerify {
    /// Whether the flags ask nobody.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.tailscaled && self.url.is_none()
    }
}

impl Admission {
    pub(super) fn read(reader: &mut Reader<'_>, derp: bool) -> Self {
        let go = GoVerify {
            tailscaled: reader.switch(&VERIFY_CLIENTS),
            socket: reader.path(&SOCKET),
            url: reader.given(&VERIFY_CLIENT_URL).map(|given| given.text),
            url_fail_open: reader.switch(&VERIFY_CLIENT_URL_FAIL_OPEN),
        };
        if let Some(url) = &go.url {
            if let Err(err) = Controller::lenient(url, HttpOptions::default()) {
                let name = reader.name_of(&VERIFY_CLIENT_URL);
                reader.problem(format!("{name}: {}", chain(&err)));
            }
            if go.url_fail_open {
                reader.warn(
                    "clients are admitted while the admission controller is unreachable, as the \
                     reference does; -verify-client-url-fail-open=false turns them away",
                );
            }
        }
        if let Some(list) = reader.given(&ALLOWLIST) {
            let asked = [
                (&VERIFY_CLIENTS, go.tailscaled),
                (&VERIFY_CLIENT_URL, go.url.is_some()),
            ];
            for (setting, _) in asked.into_iter().filter(|(_, asked)| *asked) {
                let theirs = reader.name_of(setting);
                reader.problem(format!(
                    "{theirs} and {} cannot be combined: the first follows the reference's rules \
                     and the second ours; remove one of them",
                    list.origin
                ));
            }
        }
        let allowlist = reader
            .path(&ALLOWLIST)
            .and_then(|path| match Allowlist::from_file(path) {
                Ok(list) => Some(Arc::new(list)),
                Err(err) => {
                    reader.problem(format!("{}: {}", reader.name_of(&ALLOWLIST), chain(&err)));
                    None
                }
            });
        let admission = Self { allowlist, go };
        if derp && admission.is_open() && reader.given(&ALLOWLIST).is_none() {
            reader.warn(
                "this is an OPEN RELAY: everybody who knows its address may use it; list the keys \
                 of your nodes in a file and name it with --allowlist",
            );
        }
        admission
    }

    /// Whether everybody may use the relay.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.allowlist.is_none() && self.go.is_empty()
    }
}
