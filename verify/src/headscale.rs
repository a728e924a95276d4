//! A Headscale server: its list of nodes, or its own admission endpoint.
//!
//! [`Headscale`] reads the list that Headscale's API gives to the holder of an API key: it can
//! leave out expired nodes, and admit by user and tag. [`HeadscaleVerify`] asks `/verify`, which
//! needs no key and knows no such conditions.
//!
//! A status that is not 200 is never Headscale's word on a client. It comes from a proxy in front,
//! or says that the API key is of no use, and is an outage like any other.

mod list;
mod node;

pub use list::{Headscale, HeadscaleOptions};
pub use node::{NodeListError, NodeRules, parse_nodes};

use async_trait::async_trait;

use crate::Verifier;
use crate::admission::Admission;
use crate::candidate::Candidate;
use crate::http::{HttpClient, HttpConfigError, HttpOptions};
use crate::verdict::{Verdict, VerifyError};

/// Admits whom a Headscale server's `/verify` admits: every node it knows, expired or not.
#[derive(Debug)]
pub struct HeadscaleVerify(Admission);

impl HeadscaleVerify {
    /// Asks the server at `url`, which is its `server_url`. Blocks while files are read.
    ///
    /// # Errors
    /// [`HttpConfigError`] says what of `url` or `options` cannot be used.
    pub fn new(url: &str, options: HttpOptions) -> Result<Self, HttpConfigError> {
        let http = HttpClient::new(url, options)?;
        let http = below(http, "/verify");
        Ok(Self(Admission::over(http)))
    }
}

#[async_trait]
impl Verifier for HeadscaleVerify {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let answer = self.0.verify(client).await;
        answer.map_err(VerifyError::never_a_denial)
    }
}

/// The server asked for `path` below the path of its URL, unless the URL has that path already.
fn below(http: HttpClient, path: &str) -> HttpClient {
    let given = http.path().split('?').next().unwrap_or_default();
    let given = given.trim_end_matches('/');
    if given.ends_with(path) {
        return http;
    }
    let path = format!("{given}{path}");
    http.with_path(&path)
}
