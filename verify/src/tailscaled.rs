//! The tailscaled of this machine, asked over its LocalAPI as the reference asks it
//! (`client/local/local.go`).
//!
//! Any version of tailscaled will do: those that cannot look up a node by its key are asked for
//! their whole status. Nothing is kept open between two requests, and the socket's path is looked
//! up at each, so that a tailscaled that was started again is found.

mod api;
mod status;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use derp_proto::NodePublic;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::api::{LocalApi, Whois};
use self::status::Status;
use crate::Verifier;
use crate::candidate::Candidate;
use crate::verdict::{Verdict, VerifyError};

/// Admits the nodes that a tailscaled sees, and its own node.
///
/// It sees what the tailnet's policy lets it see: nodes that the policy hides from the relay's
/// node are turned away. For several tailnets there are several of these in an
/// [`AnyOf`](crate::AnyOf).
#[derive(Clone)]
pub struct Tailscaled {
    api: LocalApi,
    /// What tailscaled last said of its own node. The lock is held while it is asked, so that one
    /// request serves all who wait.
    own: Arc<Mutex<Option<(Status, Instant)>>>,
    /// What an old tailscaled last said of all nodes. The lock is held while it is asked, so that
    /// one request serves all who wait.
    all: Arc<Mutex<Option<(Status, Instant)>>>,
}

impl Tailscaled {
    /// Asks the tailscaled that listens at `socket`. It need not run yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            api: LocalApi::new(socket.into()),
            own: Arc::default(),
            all: Arc::default(),
        }
    }

    /// With another limit on how long tailscaled may take for an answer; by default 5 s.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.api.timeout = timeout;
        self
    }

    /// Where it is asked.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.api.socket
    }

    /// The key of tailscaled's own node, asked for now; `None` while it is logged out.
    ///
    /// # Errors
    /// [`VerifyError`], which names the socket.
    pub async fn own_key(&self) -> Result<Option<NodePublic>, VerifyError> {
        Ok(self.api.status(false).await?.own)
    }

    /// Whether `key` is known after all, where `whois` has not found it, asked at `since`: as
    /// tailscaled's own node, which there are versions that do not find, or because tailscaled
    /// had not heard from its control server yet.
    async fn is_known_after_all(
        &self,
        key: &NodePublic,
        since: Instant,
    ) -> Result<bool, VerifyError> {
        let mut own = self.own.lock().await;
        let mut status = own.take().filter(|(_, asked)| *asked >= since);
        if status.is_none() {
            let asked = Instant::now();
            status = Some((self.api.status(false).await?, asked));
        }
        let (status, _) = own.insert(status.expect("it was asked for where it was missing"));
        if status.own == Some(*key) {
            return Ok(true);
        }
        if let Some(state) = status.ignorance() {
            return Err(self.api.knows_nobody(state));
        }
        drop(own);
        // It may have learnt of its tailnet between the two answers.
        Ok(self.api.whois(key).await? == Whois::Known)
    }

    /// Whether an old tailscaled has `key` among its peers, or for its own.
    async fn is_in_status(&self, key: &NodePublic) -> Result<bool, VerifyError> {
        let mut all = self.all.lock().await;
        if let Some((status, at)) = &*all
            && at.elapsed() < STATUS_AGE
        {
            return Ok(status.contains(key));
        }
        let asked = Instant::now();
        let status = self.api.status(true).await?;
        let is_known = status.contains(key);
        if let (false, Some(state)) = (is_known, status.ignorance()) {
            return Err(self.api.knows_nobody(state));
        }
        *all = Some((status, asked));
        Ok(is_known)
    }
}

#[async_trait]
impl Verifier for Tailscaled {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let asked = Instant::now();
        let is_known = match self.api.whois(&client.key).await? {
            Whois::Known => true,
            Whois::Unknown => self.is_known_after_all(&client.key, asked).await?,
            Whois::CannotTell => self.is_in_status(&client.key).await?,
        };
        if !is_known {
            return Ok(Verdict::deny(format!(
                "unknown to the tailscaled at {}",
                self.socket().display()
            )));
        }
        Ok(Verdict::allow())
    }
}

/// Whether a status is understood, and has `key`.
#[cfg(feature = "fuzzing")]
pub(crate) fn status_has(body: &[u8], key: &NodePublic) -> Option<bool> {
    let status: Status = serde_json::from_slice(body).ok()?;
    Some(status.contains(key))
}

impl fmt::Debug for Tailscaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tailscaled")
            .field("socket", &self.api.socket)
            .finish_non_exhaustive()
    }
}

/// How long a whole status holds: a node that was added passes within this time.
const STATUS_AGE: Duration = Duration::from_millis(500);
