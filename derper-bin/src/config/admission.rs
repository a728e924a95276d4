//! Who may use the relay: by the reference's flags and their rules, or by our own options. The two
//! do not mix, for the same words would mean different things.

mod lists;
mod ours;
mod remote;

use std::path::PathBuf;

use derp_verify::{Admission as Controller, HttpOptions};

pub use self::lists::Lists;
pub use self::ours::{OurVerify, Policy};
pub use self::remote::{Opened, Remote, Source};
use super::reader::Reader;
use crate::problem::chain;
use crate::settings::{
    REQUIRE_VERIFICATION, SOCKET, Setting, VERIFY_CLIENT_URL, VERIFY_CLIENT_URL_FAIL_OPEN,
    VERIFY_CLIENTS,
};

/// Who may use the relay.
#[derive(Debug)]
pub struct Admission {
    /// Lists of keys, as their files were.
    pub lists: Lists,
    /// Whom else our own options ask, and how.
    pub ours: OurVerify,
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
    fn read(reader: &mut Reader<'_>) -> Self {
        let go = Self {
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
        go
    }

    /// Whether the flags ask nobody.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.tailscaled && self.url.is_none()
    }

    /// The flags that ask somebody.
    fn given(&self) -> impl Iterator<Item = &'static Setting> {
        let asked = [
            (&VERIFY_CLIENTS, self.tailscaled),
            (&VERIFY_CLIENT_URL, self.url.is_some()),
        ];
        asked
            .into_iter()
            .filter_map(|(setting, asked)| asked.then_some(setting))
    }
}

impl Admission {
    pub(super) fn read(reader: &mut Reader<'_>, derp: bool) -> Self {
        let go = GoVerify::read(reader);
        refuse_mixture(reader, &go);
        let problems_before = reader.problem_count();
        let admission = Self {
            lists: Lists::read(reader),
            ours: OurVerify::read(reader),
            go,
        };
        // What was asked for and is broken is a mistake of its own, and not an open relay.
        let is_broken =
            ours::admits_by_anything(reader) && reader.problem_count() > problems_before;
        if derp && admission.is_open() && !is_broken {
            be_open(reader);
        }
        admission
    }

    /// Whether everybody may use the relay, or everybody but those on a list.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.lists.allow.is_none() && self.ours.remotes.is_empty() && self.go.is_empty()
    }

    /// Whether there is somebody to ask whose answer takes a while.
    #[must_use]
    pub const fn asks_others(&self) -> bool {
        !self.ours.remotes.is_empty() || !self.go.is_empty()
    }
}

fn refuse_mixture(reader: &mut Reader<'_>, go: &GoVerify) {
    for theirs in go.given() {
        let theirs = reader.name_of(theirs);
        for setting in ours::all() {
            let Some(given) = reader.given(setting) else {
                continue;
            };
            reader.problem(format!(
                "{theirs} and {} cannot be combined: the first follows the reference's rules and \
                 the second ours; remove one of them",
                given.origin
            ));
        }
    }
}

fn be_open(reader: &mut Reader<'_>) {
    if reader.switch(&REQUIRE_VERIFICATION) {
        let name = reader.name_of(&REQUIRE_VERIFICATION);
        reader.problem(format!(
            "{name}: this would be an OPEN RELAY, for nothing says who may use it; name a list of \
             keys with --allowlist, or somebody to ask with --verify-tailscaled, \
             --verify-headscale or --verify-url"
        ));
        return;
    }
    reader.warn(
        "this is an OPEN RELAY: everybody who knows its address may use it; list the keys of your \
         nodes in a file and name it with --allowlist",
    );
}
