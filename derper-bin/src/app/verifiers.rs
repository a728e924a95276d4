//! Whom the relay asks about its clients: what the configuration says, put together.
//!
//! Rules of their own are in `derp-verify`; exchanging these while the relay runs, and asking
//! again about clients that are connected, is [`super::admit`]'s and [`super::recheck`]'s part.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use derp_proto::NodePublic;
use derp_verify::{
    AllOf, AllowAll, AnyOf, CacheOptions, Cached, Candidate, Counted, Denied, Headscale,
    HttpConfigError, Verdict, Verifier, VerifyCounters, VerifyError,
};

use super::admitters::Admitters;
use super::ends::Ends;
use super::go_verify::GoVerifiers;
use crate::config::{Admission, Lists, Opened, OurVerify, Policy, Remote};

/// What decides who is admitted, as of one configuration.
pub(super) struct Verifiers {
    all: Arc<dyn Verifier>,
    /// Set where the reference's flags ask for it; then there is nothing else.
    go: Option<GoVerifiers>,
    lists: Lists,
    ours: OurVerify,
    remotes: Vec<Asked>,
    counters: Vec<Arc<VerifyCounters>>,
    ends: Ends,
    /// Who admitted the clients that are here; it outlives these verifiers.
    admitters: Arc<Admitters>,
}

/// A remote that is asked.
#[derive(Clone)]
struct Asked {
    remote: Remote,
    verifier: Arc<dyn Verifier>,
    /// A list of nodes that wants to be kept fresh.
    nodes: Option<Arc<Headscale>>,
}

impl Verifiers {
    /// Puts together what `admission` says. What `before` knows stays known: the verdicts of
    /// remotes that have not changed, and all counters.
    ///
    /// # Errors
    /// A URL or a file cannot be used.
    pub(super) fn new(
        admission: &Admission,
        before: Option<&Self>,
    ) -> Result<Self, HttpConfigError> {
        let mut made = Self {
            all: Arc::new(AllowAll),
            go: None,
            lists: admission.lists.clone(),
            ours: admission.ours.clone(),
            remotes: Vec::new(),
            counters: Vec::new(),
            ends: Ends::default(),
            admitters: before.map_or_else(Arc::default, |before| Arc::clone(&before.admitters)),
        };
        if !admission.go.is_empty() {
            let go = match before.and_then(|before| before.go.clone()) {
                Some(go) => go,
                None => GoVerifiers::new(&admission.go)?,
            };
            made.all = Arc::clone(&go.verifier);
            made.counters.clone_from(&go.counters);
            made.go = Some(go);
            return Ok(made);
        }
        let mut admitting: Vec<(Arc<str>, Arc<dyn Verifier>)> = Vec::new();
        if let Some(list) = made.lists.allow.clone() {
            let counters = made.counters_for("allowlist", before);
            let list = Arc::new(Counted::new(counters, list));
            admitting.push(("allowlist".into(), list));
        }
        for remote in &admission.ours.remotes {
            let known = before.and_then(|before| before.still_good(remote, &admission.ours));
            let counters = made.counters_for(&remote.name, before);
            let asked = match known {
                Some(asked) => asked,
                None => Asked::new(remote, &admission.ours, counters)?,
            };
            admitting.push((remote.name.as_str().into(), Arc::clone(&asked.verifier)));
            made.remotes.push(asked);
        }
        let all: Arc<dyn Verifier> = match (admitting.len(), made.ours.policy) {
            (0, _) => Arc::new(AllowAll),
            (1, _) => admitting.swap_remove(0).1,
            (_, Policy::Any) => Arc::new(AnyOf::named(admitting)),
            (_, Policy::All) => {
                let unnamed = admitting.into_iter().map(|(_, verifier)| verifier);
                Arc::new(AllOf::new(unnamed.collect()))
            }
        };
        made.all = match made.lists.deny.clone() {
            Some(list) => {
                let counters = made.counters_for("denylist", before);
                Arc::new(Denied::first(Counted::new(counters, list), all))
            }
            None => all,
        };
        Ok(made)
    }

    fn counters_for(&mut self, name: &str, before: Option<&Self>) -> Arc<VerifyCounters> {
        let mut known = before.iter().flat_map(|before| &before.counters);
        let counters = match known.find(|counters| counters.name() == name) {
            Some(counters) => Arc::clone(counters),
            None => Arc::new(VerifyCounters::new(name)),
        };
        self.counters.push(Arc::clone(&counters));
        counters
    }

    fn still_good(&self, remote: &Remote, ours: &OurVerify) -> Option<Asked> {
        let holds = |ours: &OurVerify| (ours.cache, ours.stale, ours.fail, ours.timeout);
        let known = self.remotes.iter().find(|asked| asked.remote == *remote);
        known.filter(|_| holds(&self.ours) == holds(ours)).cloned()
    }

    /// Whether everybody is admitted, or everybody but those on a list.
    pub(super) fn is_open(&self) -> bool {
        self.go.is_none() && self.lists.allow.is_none() && self.remotes.is_empty()
    }

    /// How often each verifier gave which result.
    pub(super) fn counters(&self) -> &[Arc<VerifyCounters>] {
        &self.counters
    }

    /// The lists, whose files are to be followed.
    pub(super) const fn lists(&self) -> &Lists {
        &self.lists
    }

    /// Lists of nodes that are to be kept fresh.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Arc<Headscale>> {
        self.remotes.iter().filter_map(|asked| asked.nodes.clone())
    }

    /// Who admitted the clients that are here.
    pub(super) fn admitters(&self) -> &Admitters {
        &self.admitters
    }

    /// Who admitted the client that is here, if that is known, and is still asked by that name.
    pub(super) fn admitter_of(&self, key: &NodePublic) -> Option<Arc<str>> {
        let is_asked = |name: &Arc<str>| self.counters.iter().any(|it| it.name() == &**name);
        self.admitters.of(key).filter(is_asked)
    }

    /// The ends of verdicts that hold for less than the interval.
    pub(super) const fn ends(&self) -> &Ends {
        &self.ends
    }

    /// How often connected clients are asked about again. The reference never does.
    pub(super) fn interval(&self) -> Option<Duration> {
        let asks = self.go.is_none() && !self.remotes.is_empty();
        self.ours.interval.filter(|_| asks)
    }
}

#[derp_verify::async_trait]
impl Verifier for Verifiers {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let answer = self.all.verify(client).await;
        if let Ok(verdict) = &answer
            && verdict.allow
            && let Some(name) = &verdict.admitted_by
        {
            self.admitters.note(client.key, name);
        }
        if let Ok(verdict) = &answer
            && verdict.allow
            && let (Some(holds), Some(interval)) = (verdict.time_to_live, self.interval())
            && holds < interval
            // One that holds for no time was given for want of an answer, or is not to be kept.
            && !holds.is_zero()
        {
            self.ends.note(client.key, holds);
        }
        answer
    }
}

impl Asked {
    fn new(
        remote: &Remote,
        ours: &OurVerify,
        counters: Arc<VerifyCounters>,
    ) -> Result<Self, HttpConfigError> {
        let mut options = CacheOptions::default();
        options.allow = ours.cache;
        options.stale = ours.stale;
        options.fail_mode = ours.fail;
        options.timeout = ours.timeout;
        let mut nodes = None;
        let verifier: Arc<dyn Verifier> = match remote.open()? {
            Opened::Tailscaled(one) => Arc::new(Cached::counting(counters, one, options)),
            Opened::HeadscaleVerify(one) => Arc::new(Cached::counting(counters, one, options)),
            Opened::Url(one) => Arc::new(Cached::counting(counters, one, options)),
            Opened::HeadscaleNodes(one) => {
                nodes = Some(Arc::clone(&one));
                Arc::new(Cached::counting(counters, one, options))
            }
        };
        Ok(Self {
            remote: remote.clone(),
            verifier,
            nodes,
        })
    }
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verifiers").field(&self.to_string()).finish()
    }
}

/// Who is admitted, for the log.
impl fmt::Display for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self
            .counters
            .iter()
            .map(|counters| counters.name())
            .filter(|name| *name != "denylist")
            .collect();
        let all = self.go.is_some() || self.ours.policy == Policy::All;
        match names.as_slice() {
            [] => f.write_str("everybody")?,
            [one] => write!(f, "whom {one} admits")?,
            several if all => write!(f, "whom all of {} admit", several.join(", "))?,
            several => write!(f, "whom any of {} admits", several.join(", "))?,
        }
        let path = self.lists.deny.as_ref().and_then(|list| list.path());
        match path.map(Path::display) {
            Some(path) => write!(f, ", but nobody in {path}"),
            None => Ok(()),
        }
    }
}
