//! The nodes of a Headscale server, kept fresh.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use derp_proto::NodePublic;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::below;
use super::node::{NodeRules, parse_nodes};
use crate::Verifier;
use crate::candidate::Candidate;
use crate::http::{Credentials, HttpClient, HttpConfigError, HttpOptions, Question};
use crate::verdict::{Verdict, VerifyError};

/// How a Headscale server's list of nodes is read, and whom of it the relay admits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HeadscaleOptions {
    /// Which nodes are admitted; by default all.
    pub rules: NodeRules,
    /// How often [`Headscale::keep_fresh`] reads the list; default 30 s.
    pub refresh: Duration,
    /// How old a list may be that clients are admitted by; default 60 s.
    pub max_age: Duration,
    /// Trusted certificates, proxy and timeout. Its credentials are not used.
    pub http: HttpOptions,
}

impl Default for HeadscaleOptions {
    fn default() -> Self {
        Self {
            rules: NodeRules::default(),
            refresh: Duration::from_secs(30),
            max_age: Duration::from_secs(60),
            http: HttpOptions::default(),
        }
    }
}

/// Admits the nodes of a Headscale server, by the list that its API gives (`/api/v1/node`).
///
/// A key that is not on the list, or a list that has grown old, makes for one more reading at
/// once, so that a node that has just joined comes in; but not within a second of the last.
pub struct Headscale {
    http: HttpClient,
    options: HeadscaleOptions,
    /// Held for a lookup or an exchange of pointers.
    list: RwLock<Arc<List>>,
    /// Held while the list is read, so that one request serves all who wait for it.
    reading: Mutex<LastReading>,
}

#[derive(Default)]
struct List {
    /// As many as 16 MiB of JSON hold.
    nodes: HashMap<NodePublic, Option<SystemTime>>,
    read_at: Option<Instant>,
}

#[derive(Default)]
struct LastReading {
    begun: Option<Instant>,
    failure: Option<VerifyError>,
}

impl Headscale {
    /// Asks the server at `url`, which is its `server_url`, with the API key in `api_key_file`.
    /// Blocks while files are read. The list is read when it is first needed.
    ///
    /// # Errors
    /// [`HttpConfigError`] says what of `url`, the file or `options` cannot be used.
    pub fn new(
        url: &str,
        api_key_file: PathBuf,
        options: HeadscaleOptions,
    ) -> Result<Self, HttpConfigError> {
        let mut http = options.http.clone();
        http.credentials = Some(Credentials::BearerFile(api_key_file));
        Ok(Self {
            http: below(HttpClient::new(url, http)?, "/api/v1/node"),
            options,
            list: RwLock::default(),
            reading: Mutex::default(),
        })
    }

    /// Reads the list now and then, for ever. A reading that fails leaves the list as it is.
    ///
    /// To be run beside the relay: without it, lists are read when clients come. Dropping the
    /// future loses nothing.
    pub async fn keep_fresh(&self) {
        loop {
            // The error comes again, to whoever asks about a client.
            drop(self.refresh().await);
            sleep(self.options.refresh).await;
        }
    }

    /// Reads the list, unless another reading began less than a second ago, and returns how many
    /// nodes are admitted.
    ///
    /// # Errors
    /// [`VerifyError`] of this reading or of that other one.
    pub async fn refresh(&self) -> Result<usize, VerifyError> {
        self.refresh_after(Instant::now()).await?;
        Ok(self.snapshot().nodes.len())
    }

    /// Makes sure that a reading began after `since`, or less than a second ago.
    async fn refresh_after(&self, since: Instant) -> Result<(), VerifyError> {
        let mut last = self.reading.lock().await;
        let now = Instant::now();
        let is_recent = last
            .begun
            .is_some_and(|begun| begun >= since || now.duration_since(begun) < LEAST_INTERVAL);
        if is_recent {
            return last.failure.clone().map_or(Ok(()), Err);
        }
        // A reading that is dropped half-way must count as none.
        let read = self.read().await;
        last.begun = Some(now);
        last.failure = match read {
            Ok(nodes) => {
                let read_at = Some(now);
                *self.list.write().unwrap_or_else(PoisonError::into_inner) =
                    Arc::new(List { nodes, read_at });
                None
            }
            Err(err) => Some(err),
        };
        last.failure.clone().map_or(Ok(()), Err)
    }

    async fn read(&self) -> Result<HashMap<NodePublic, Option<SystemTime>>, VerifyError> {
        let question = Question {
            method: "GET",
            body: None,
            max_answer: MAX_LIST,
        };
        let body = self.http.ask(question).await;
        let body = body.map_err(VerifyError::never_a_denial)?;
        parse_nodes(&body, &self.options.rules)
            .map_err(|err| VerifyError::BadAnswer(format!("{}: {err}", self.http)))
    }

    fn snapshot(&self) -> Arc<List> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a list that is young enough says of `key`.
    fn look_up(&self, key: &NodePublic) -> Option<Option<SystemTime>> {
        let list = self.snapshot();
        let is_young = list
            .read_at
            .is_some_and(|at| at.elapsed() <= self.options.max_age);
        list.nodes.get(key).copied().filter(|_| is_young)
    }
}

#[async_trait]
impl Verifier for Headscale {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let asked = Instant::now();
        let mut found = self.look_up(&client.key);
        if found.is_none_or(is_past) {
            self.refresh_after(asked).await?;
            found = self.look_up(&client.key);
        }
        Ok(match found {
            None => Verdict::deny(format!("not among the nodes that {} lists", self.http)),
            Some(expires) if is_past(expires) => {
                Verdict::deny(format!("its key has expired, says {}", self.http))
            }
            Some(_) => Verdict::allow(),
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
fn is_past(expires: Option<SystemTime>) -> bool {
    expires.is_some_and(|time| time <= SystemTime::now())
}

impl fmt::Debug for Headscale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headscale")
            .field("http", &self.http)
            .field("nodes", &self.snapshot().nodes.len())
            .finish_non_exhaustive()
    }
}

/// The longest list in bytes.
const MAX_LIST: usize = 16 << 20;
/// How much time there is at least between two readings.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
