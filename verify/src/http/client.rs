//! A client of one server.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, excerpt};
use super::connect::connect;
use super::exchange::{Fault, Line, Request, exchange};
use super::pool::Pool;
use super::secret::{Credentials, Secret, SecretError};
use super::target::{Place, Target, TargetError};
use super::tls;
use crate::verdict::VerifyError;

/// How a server is asked, where the defaults do not do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Proves to the server who asks; default none.
    pub credentials: Option<Credentials>,
    /// A PEM file with the certificates that the server's chain may end in, in place of those
    /// that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// An `http://` URL of a proxy that is to pass connections on (with CONNECT). By default
    /// there is none, whatever the environment says. Unix sockets need none.
    pub proxy: Option<String>,
    /// How long an answer may take, all in all; default 5 s.
    pub timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            ca_file: None,
            proxy: None,
            timeout: Duration::from_secs(5),
        }
    }
}

/// A server that cannot be asked as wanted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpConfigError {
    /// The URL is wrong.
    #[error("bad URL")]
    Url(#[from] TargetError),
    /// The proxy's URL is wrong, or not an `http` one.
    #[error("bad URL of a proxy")]
    Proxy(#[source] TargetError),
    /// The secret cannot be used.
    #[error("bad credentials")]
    Credentials(#[from] SecretError),
    /// No trusted certificates could be read.
    #[error("cannot read trusted certificates{}", in_file(path.as_ref()))]
    Roots {
        /// The file, or `None` for the system's.
        path: Option<PathBuf>,
        /// Why.
        source: io::Error,
    },
}

fn in_file(path: Option<&PathBuf>) -> String {
    path.map(|path| format!(" in {}", path.display()))
        .unwrap_or_default()
}

/// Asks one server, over a few connections that are kept open.
pub(crate) struct HttpClient {
    target: Target,
    proxy: Option<Target>,
    tls: Option<Arc<ClientConfig>>,
    credentials: Option<Credentials>,
    timeout: Duration,
    pool: Pool,
}

/// What is asked, and what it may cost.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) method: &'static str,
    pub(crate) body: Option<&'a [u8]>,
    /// The longest answer in bytes.
    pub(crate) max_answer: usize,
}

impl HttpClient {
    /// A client of the server at `url`. Blocks while files are read.
    pub(crate) fn new(url: &str, options: HttpOptions) -> Result<Self, HttpConfigError> {
        let target = Target::parse(url)?;
        let proxy = options.proxy.as_deref().map(proxy).transpose();
        let proxy = proxy.map_err(HttpConfigError::Proxy)?;
        if let Some(credentials) = &options.credentials {
            credentials.check()?;
        }
        let needs_tls = matches!(target.place, Place::Tcp { is_tls: true, .. });
        let tls = match needs_tls.then(|| tls::config(options.ca_file.as_deref())) {
            None => None,
            Some(Ok(config)) => Some(config),
            Some(Err(source)) => {
                let path = options.ca_file;
                return Err(HttpConfigError::Roots { path, source });
            }
        };
        Ok(Self {
            target,
            proxy,
            tls,
            credentials: options.credentials,
            timeout: options.timeout,
            pool: Pool::default(),
        })
    }

    /// The same server, asked for another path.
    #[cfg(feature = "headscale")]
    pub(crate) fn with_path(mut self, path: &str) -> Self {
        self.target = self.target.with_path(path);
        self
    }

    /// The path of the URL, with its query.
    #[cfg(feature = "headscale")]
    pub(crate) fn path(&self) -> &str {
        &self.target.path
    }

    /// The body of an answer with status 200.
    ///
    /// # Errors
    /// [`VerifyError::Unreachable`] and [`VerifyError::TimedOut`] until the answer begins,
    /// [`VerifyError::Refused`] for any other status, and [`VerifyError::BadAnswer`] for an answer
    /// that is malformed, too long or does not come whole.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<Vec<u8>, VerifyError> {
        let secret = self.secret().await?;
        let deadline = Instant::now() + self.timeout;
        let answer = self.answer(question, secret.as_ref(), deadline).await?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(VerifyError::refused(self.quoting(&answer.body), status)),
        }
    }

    fn quoting(&self, body: &[u8]) -> String {
        if body.is_empty() {
            return self.target.to_string();
        }
        format!("{} ({})", self.target, excerpt(body))
    }

    async fn answer(
        &self,
        question: Question<'_>,
        secret: Option<&(&str, Secret)>,
        deadline: Instant,
    ) -> Result<Answer, VerifyError> {
        let lines: Vec<Line<'_>> = secret
            .map(|(name, value)| (*name, value.expose()))
            .into_iter()
            .collect();
        let request = Request {
            method: question.method,
            target: &self.target.path,
            host: &self.target.host_header,
            lines: &lines,
            body: question.body,
            max_body: question.max_answer,
        };
        if let Some(mut kept) = self.pool.take() {
            match exchange(&mut kept, request, deadline).await {
                Ok(answer) => return Ok(self.keep(kept, answer)),
                // The server closed it while the request was on its way.
                Err(Fault::Connection {
                    unanswered: true, ..
                }) => self.pool.clear(),
                Err(fault) => return Err(self.error(fault)),
            }
        }
        let stream = connect(&self.target, self.proxy.as_ref(), self.tls.as_ref());
        let stream = timeout_at(deadline, stream).await;
        let stream = stream.map_err(|_| VerifyError::TimedOut(self.timeout))?;
        let mut stream = stream.map_err(|source| self.unreachable(source))?;
        match exchange(&mut stream, request, deadline).await {
            Ok(answer) => Ok(self.keep(stream, answer)),
            Err(fault) => Err(self.error(fault)),
        }
    }

    fn keep(&self, stream: Box<dyn super::connect::Stream>, answer: Answer) -> Answer {
        if answer.reusable {
            self.pool.put(stream);
        }
        answer
    }

    async fn secret(&self) -> Result<Option<(&str, Secret)>, VerifyError> {
        let Some(credentials) = &self.credentials else {
            let user = self.target.authorization.clone();
            return Ok(user.map(|user| ("Authorization", user.into())));
        };
        let name = credentials.header_name();
        match credentials.value().await {
            Ok(value) => Ok(Some((name, value))),
            // The fault is on this side, and must not look as if the server were away.
            Err(err) => Err(VerifyError::BadAnswer(format!(
                "{} was not asked: {err}",
                self.target
            ))),
        }
    }

    fn error(&self, fault: Fault) -> VerifyError {
        match fault {
            Fault::Connection { source, .. } => self.unreachable(source),
            Fault::TimedOut => VerifyError::TimedOut(self.timeout),
            Fault::Answer(why) => VerifyError::BadAnswer(format!("{}: {why}", self.target)),
        }
    }

    fn unreachable(&self, source: io::Error) -> VerifyError {
        VerifyError::Unreachable {
            what: self.target.to_string(),
            source,
        }
    }
}

fn proxy(url: &str) -> Result<Target, TargetError> {
    let target = Target::parse(url)?;
    match target.place {
        Place::Tcp { is_tls: false, .. } => Ok(target),
        _ => Err(TargetError::Scheme),
    }
}

impl fmt::Display for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("target", &self.target.to_string())
            .finish_non_exhaustive()
    }
}
