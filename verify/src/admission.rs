//! An admission controller at a URL, asked as the reference asks its own
//! (`derp/derpserver/derpserver.go`, `tailcfg/derpmap.go`).
//!
//! Redirects are answers like any other status that is not 200: refusals.

mod answer;

pub use answer::{AnswerError, Reading, parse_answer};

use async_trait::async_trait;
use derp_proto::NodePublic;

use crate::Verifier;
use crate::candidate::Candidate;
use crate::http::{HttpClient, HttpConfigError, HttpOptions, Question};
use crate::verdict::{Verdict, VerifyError};

/// Admits whom the controller at a URL admits.
///
/// It is told the client's key and IP address, and nothing else.
#[derive(Debug)]
pub struct Admission {
    http: HttpClient,
    reading: Reading,
}

impl Admission {
    /// Asks the controller at `url` (`http`, `https`, or `unix:///SOCKET[:/PATH]`), and takes
    /// only an exact answer. Blocks while files are read.
    ///
    /// # Errors
    /// [`HttpConfigError`] says what of `url` or `options` cannot be used.
    pub fn new(url: &str, options: HttpOptions) -> Result<Self, HttpConfigError> {
        Ok(Self {
            http: HttpClient::new(url, options)?,
            reading: Reading::Strict,
        })
    }

    /// Asks as [`Self::new`] does, and reads the answer as the reference does. Blocks while files
    /// are read.
    ///
    /// # Errors
    /// [`HttpConfigError`] says what of `url` or `options` cannot be used.
    pub fn lenient(url: &str, options: HttpOptions) -> Result<Self, HttpConfigError> {
        Ok(Self {
            reading: Reading::Lenient,
            ..Self::new(url, options)?
        })
    }

    #[cfg(feature = "headscale")]
    pub(crate) const fn over(http: HttpClient) -> Self {
        Self {
            http,
            reading: Reading::Strict,
        }
    }
}

#[async_trait]
impl Verifier for Admission {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let question = Question {
            method: "POST",
            body: Some(&request(&client.key, client)),
            max_answer: MAX_ANSWER,
        };
        let body = self.http.ask(question).await?;
        let mut verdict = parse_answer(&body, self.reading)
            .map_err(|err| VerifyError::BadAnswer(format!("{}: {err}", self.http)))?;
        if !verdict.allow {
            verdict.reason = format!("denied by {}", self.http).into();
        }
        Ok(verdict)
    }
}

/// `DERPAdmitClientRequest` as Go writes it. Neither keys nor addresses need escaping.
fn request(key: &NodePublic, client: &Candidate<'_>) -> Vec<u8> {
    let source = client.conn.client_addr().map(|addr| addr.ip().to_string());
    let source = source.unwrap_or_default();
    format!(r#"{{"NodePublic":"{key}","Source":"{source}"}}"#).into_bytes()
}

/// The longest answer in bytes, with all that trails it.
const MAX_ANSWER: usize = 4 << 10;
