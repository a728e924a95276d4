//! Our own options: whom to ask, how their answers are taken together, and how long they hold.

use std::time::Duration;

use derp_verify::FailMode;

use super::remote::{self, Remote};
use crate::config::reader::Reader;
use crate::settings::{
    ALL, ALLOWLIST, HEADSCALE_API_KEY_FILE, HEADSCALE_REFUSE_EXPIRED, HEADSCALE_TAGS,
    HEADSCALE_USERS, REQUIRE_VERIFICATION, Setting, VERIFY_CA_FILE, VERIFY_CACHE, VERIFY_FAIL,
    VERIFY_HEADSCALE, VERIFY_INTERVAL, VERIFY_POLICY, VERIFY_PROXY, VERIFY_STALE,
    VERIFY_TAILSCALED, VERIFY_TIMEOUT, VERIFY_URL, VERIFY_URL_BEARER_FILE, VERIFY_URL_HEADER,
    VERIFY_URL_HEADER_FILE,
};

/// How several answers are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Whom one admits is admitted.
    Any,
    /// Whom all admit is admitted.
    All,
}

/// What our own options say of verification, besides the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurVerify {
    /// Whom to ask.
    pub remotes: Vec<Remote>,
    /// How their answers, and the allowlist's, are taken together.
    pub policy: Policy,
    /// How often each connected client is asked about again; `None` for never.
    pub interval: Option<Duration>,
    /// How long an admission holds.
    pub cache: Duration,
    /// How old an admission may be that is used in an outage.
    pub stale: Duration,
    /// What becomes of others in an outage.
    pub fail: FailMode,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl OurVerify {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        refuse_what_has_no_effect(reader);
        let timeout = reader.duration_above_zero(&VERIFY_TIMEOUT);
        let ours = Self {
            remotes: remote::read(reader, timeout),
            policy: reader.value(&VERIFY_POLICY, |text| match text {
                "any" => Ok(Policy::Any),
                "all" => Ok(Policy::All),
                _ => Err("write any or all".to_owned()),
            }),
            interval: interval(reader),
            cache: reader.duration(&VERIFY_CACHE),
            stale: reader.duration(&VERIFY_STALE),
            fail: reader.value(&VERIFY_FAIL, |text| match text {
                "closed" => Ok(FailMode::Closed),
                "open" => Ok(FailMode::Open),
                _ => Err("write closed or open".to_owned()),
            }),
            timeout,
        };
        if ours.fail == FailMode::Open && !ours.remotes.is_empty() {
            let name = reader.name_of(&VERIFY_FAIL);
            reader.warn(format!(
                "{name}: everybody is admitted while a verifier cannot be reached; closed turns \
                 away those of whom nothing is known"
            ));
        }
        ours
    }
}

fn interval(reader: &mut Reader<'_>) -> Option<Duration> {
    let interval = reader.duration(&VERIFY_INTERVAL);
    if !interval.is_zero() && interval < LEAST_INTERVAL {
        reader.reject(
            &VERIFY_INTERVAL,
            "too often; give 1s or more, or 0 for never",
        );
    }
    (!interval.is_zero()).then_some(interval)
}

/// All of our own options about verification, but the one that only wants it to be there.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    ALL.iter().copied().filter(|setting| {
        setting.key.starts_with("verify.") && setting.key != REQUIRE_VERIFICATION.key
    })
}

/// Whether the options name somebody who admits clients.
pub(super) fn admits_by_anything(reader: &Reader<'_>) -> bool {
    [
        &ALLOWLIST,
        &VERIFY_TAILSCALED,
        &VERIFY_HEADSCALE,
        &VERIFY_URL,
    ]
    .into_iter()
    .any(|setting| reader.given(setting).is_some())
}

/// An option that changes nothing is a misunderstanding, and of those this part has none to spare.
fn refuse_what_has_no_effect(reader: &mut Reader<'_>) {
    let needs_headscale = "there is no Headscale server to ask; name one with --verify-headscale";
    let needs_api_key = "only a list of nodes says so much of them; name a file with an API key \
                         with --verify-headscale-api-key-file";
    let needs_url = "there is no admission controller to ask; name one with --verify-url";
    let needs_web = "there is nobody to ask over HTTP; name somebody with --verify-headscale or \
                     --verify-url";
    let is_given = |setting: &Setting| reader.given(setting).is_some();
    let has_url = is_given(&VERIFY_URL);
    let has_headscale = is_given(&VERIFY_HEADSCALE);
    let has_api_key = is_given(&HEADSCALE_API_KEY_FILE);
    let refuses_expired = is_given(&HEADSCALE_REFUSE_EXPIRED);
    let table: [(&Setting, bool, &str); 9] = [
        (&HEADSCALE_API_KEY_FILE, has_headscale, needs_headscale),
        (&HEADSCALE_USERS, has_api_key, needs_api_key),
        (&HEADSCALE_TAGS, has_api_key, needs_api_key),
        (
            &HEADSCALE_REFUSE_EXPIRED,
            has_api_key || !refuses_expired,
            needs_api_key,
        ),
        (&VERIFY_URL_BEARER_FILE, has_url, needs_url),
        (&VERIFY_URL_HEADER, has_url, needs_url),
        (&VERIFY_URL_HEADER_FILE, has_url, needs_url),
        (&VERIFY_CA_FILE, has_url || has_headscale, needs_web),
        (&VERIFY_PROXY, has_url || has_headscale, needs_web),
    ];
    for (setting, _, remedy) in table.into_iter().filter(|(_, has_effect, _)| !has_effect) {
        if reader.given(setting).is_some() {
            let name = reader.name_of(setting);
            reader.problem(format!("{name}: {remedy}"));
        }
    }
}

/// Clients are asked about one after another, and nobody needs to know sooner.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
