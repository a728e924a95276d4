//! The verifiers that the reference's flags ask for: a tailscaled, an admission controller, or
//! both, which then must agree. Each client is asked about once, and nothing is remembered, as in
//! `derp/derpserver/derpserver.go`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use derp_verify::{
    Admission, AllOf, CacheOptions, Cached, Candidate, ConnMeta, FailMode, HttpConfigError,
    HttpOptions, Tailscaled, Verifier, VerifyCounters, VerifyError,
};

use crate::config::GoVerify;
use crate::problem::chain;

/// Where tailscaled listens on Linux (`paths/paths.go`).
pub(crate) const TAILSCALED_SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// How long a tailscaled has for all that is asked to find out what is wrong with it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is asked, and what came of it.
#[derive(Debug, Clone)]
pub(super) struct GoVerifiers {
    pub(super) verifier: Arc<dyn Verifier>,
    pub(super) counters: Vec<Arc<VerifyCounters>>,
}

impl GoVerifiers {
    /// Those that `flags` ask for, which must be one at least.
    pub(super) fn new(flags: &GoVerify) -> Result<Self, HttpConfigError> {
        let mut asked: Vec<Arc<dyn Verifier>> = Vec::new();
        let mut counters = Vec::new();
        if let Some(tailscaled) = tailscaled(flags) {
            // A tailscaled that does not answer admits nobody, whatever the other flag says.
            let options = CacheOptions::uncached();
            let verifier = Cached::new("tailscaled", tailscaled, options);
            counters.push(verifier.counters());
            asked.push(Arc::new(verifier));
        }
        if let Some(url) = &flags.url {
            let mut options = CacheOptions::uncached();
            if flags.url_fail_open {
                options.fail_mode = FailMode::Open;
            }
            let controller = Admission::lenient(url, HttpOptions::default())?;
            let verifier = Cached::new("url", controller, options);
            counters.push(verifier.counters());
            asked.push(Arc::new(verifier));
        }
        let verifier = Arc::new(AllOf::new(asked));
        Ok(Self { verifier, counters })
    }
}

/// The tailscaled that `-verify-clients` asks.
pub(super) fn tailscaled(flags: &GoVerify) -> Option<Tailscaled> {
    let socket = flags.socket.clone();
    let socket = socket.unwrap_or_else(|| PathBuf::from(TAILSCALED_SOCKET));
    flags.tailscaled.then(|| Tailscaled::new(socket))
}

/// What is wrong with a tailscaled, found out by asking it about its own node as about a client.
pub(super) async fn problem(tailscaled: &Tailscaled) -> Option<String> {
    let asked = async {
        let Some(own) = tailscaled.own_key().await? else {
            return Ok(Some("tailscaled is not logged in".to_owned()));
        };
        let conn = ConnMeta::default();
        let verdict = tailscaled.verify(&Candidate::new(own, &conn)).await?;
        let refused = || format!("tailscaled does not know its own node: {}", verdict.reason);
        Ok((!verdict.allow).then(refused))
    };
    let answer: Result<Option<String>, VerifyError> =
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(VerifyError::TimedOut(PATIENCE)),
        };
    answer.unwrap_or_else(|err| Some(format!("tailscaled: {}", chain(&err))))
}
