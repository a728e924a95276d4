//! The verifiers that the reference's flags ask for: a tailscaled, an admission controller, or
//! both, which then must agree. Each client is asked about once, and nothing is remembered, as in
//! `derp/derpserver/derpserver.go`.

use std::path::PathBuf;
use std::sync::Arc;

use derp_verify::{
    Admission, AllOf, CacheOptions, Cached, FailMode, HttpConfigError, HttpOptions, Tailscaled,
    Verifier, VerifyCounters,
};

use crate::config::GoVerify;

/// Where tailscaled listens on Linux (`paths/paths.go`).
pub(crate) const TAILSCALED_SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

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
        if flags.tailscaled {
            let socket = flags.socket.clone();
            let socket = socket.unwrap_or_else(|| PathBuf::from(TAILSCALED_SOCKET));
            // A tailscaled that does not answer admits nobody, whatever the other flag says.
            let options = CacheOptions::uncached();
            let verifier = Cached::new("tailscaled", Tailscaled::new(socket), options);
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
