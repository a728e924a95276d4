//! Does the relay answer what clients ask over HTTP (`cmd/derper/derper.go`)?
//!
//! Clients measure with `/derp/probe`, older ones with `/derp/latency-check`, and look for captive
//! portals with `/generate_204` and a challenge that a portal does not repeat. The certificate is
//! the TLS probe's concern.

use std::io;

use ::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HOST, USER_AGENT};
use ::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use derp_proto::DerpNode;
use derp_proto::http::{
    CHALLENGE_HEADER, GENERATE_204_PATH, LATENCY_CHECK_PATH, PROBE_PATH, RESPONSE_HEADER,
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::SendRequest;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::task::JoinSet;

use super::connection::random;
use super::dial::{DialFault, dial};
use super::witness;
use crate::deadline::{Deadline, TimedOut};
use crate::web;

/// What is wrong with a relay's pages.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpFault {
    /// There is no TCP connection.
    #[error(transparent)]
    Dial(#[from] DialFault),
    /// The map's: nothing that TLS could ask for.
    #[error("HostName {0:?} is no host name")]
    HostName(String),
    /// The node's: no TLS.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The node's: it does not speak HTTP.
    #[error("{path}: the node does not answer in HTTP")]
    NoHttp {
        /// What was asked for.
        path: &'static str,
        /// What came instead.
        source: hyper::Error,
    },
    /// The node's: another status.
    #[error(
        "{path}: the node answers {status} instead of {wanted}; is it a DERP relay, and does \
             every proxy in front of it pass this path on?"
    )]
    Status {
        /// What was asked for.
        path: &'static str,
        /// What came.
        status: StatusCode,
        /// What clients expect.
        wanted: StatusCode,
    },
    /// The node's: browsers may not read the answer.
    #[error(
        "{path}: the answer lacks the header Access-Control-Allow-Origin: *, without which \
             clients in browsers cannot measure"
    )]
    NotForBrowsers {
        /// What was asked for.
        path: &'static str,
    },
    /// Somebody else answered, or something on the way changed the answer.
    #[error(
        "{GENERATE_204_PATH}: the challenge {sent:?} came back as {got:?} and not as {wanted:?}; \
             clients take this for a captive portal; does something in front of the relay answer \
             in its place or remove headers?"
    )]
    Challenge {
        /// What was sent.
        sent: String,
        /// What came.
        got: String,
        /// What was to come.
        wanted: String,
    },
    /// It took too long.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

/// Where pages are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// Where DERP is, over TLS: all pages.
    Derp,
    /// Here, without TLS: only what must work without it.
    Plain(u16),
}

pub(super) async fn probe(
    node: &DerpNode,
    port: Port,
    deadline: Deadline,
) -> Result<(), HttpFault> {
    let mut asking = Asking::new(node, port, deadline);
    if port == Port::Derp {
        for path in [PROBE_PATH, LATENCY_CHECK_PATH] {
            let headers = asking.page(path, None, StatusCode::OK).await?;
            if headers
                .get(ACCESS_CONTROL_ALLOW_ORIGIN)
                .is_none_or(|origin| origin != "*")
            {
                return Err(HttpFault::NotForBrowsers { path });
            }
        }
    }
    // Random, so that no cache can have the answer.
    let sent = format!("ts_{:016x}", u64::from_ne_bytes(random()));
    let (path, no_content) = (GENERATE_204_PATH, StatusCode::NO_CONTENT);
    let headers = asking.page(path, Some(&sent), no_content).await?;
    let got = headers
        .get(RESPONSE_HEADER)
        .map_or(&b""[..], |value| value.as_bytes());
    let wanted = format!("response {sent}");
    if got != wanted.as_bytes() {
        let got = String::from_utf8_lossy(got).chars().take(SHOWN).collect();
        return Err(HttpFault::Challenge { sent, got, wanted });
    }
    Ok(())
}

/// Asks for one page after the other, on one connection if the node keeps it open.
struct Asking {
    node: DerpNode,
    port: Port,
    host: String,
    deadline: Deadline,
    connection: Option<SendRequest<Empty<Bytes>>>,
    /// Ends with the value.
    drivers: JoinSet<()>,
}

impl Asking {
    fn new(node: &DerpNode, port: Port, deadline: Deadline) -> Self {
        let mut node = node.clone();
        if let Port::Plain(plain) = port {
            node.derp_port = plain.into();
        }
        Self {
            host: host_header(&node, port),
            node,
            port,
            deadline,
            connection: None,
            drivers: JoinSet::new(),
        }
    }

    /// Asks for a page, reads it, and returns its headers.
    async fn page(
        &mut self,
        path: &'static str,
        challenge: Option<&str>,
        wanted: StatusCode,
    ) -> Result<HeaderMap, HttpFault> {
        let mut request = Request::get(path)
            .header(HOST, &self.host)
            .header(USER_AGENT, web::user_agent());
        if let Some(challenge) = challenge {
            request = request.header(CHALLENGE_HEADER, challenge);
        }
        let Ok(request) = request.body(Empty::new()) else {
            return Err(HttpFault::HostName(self.node.host_name.clone()));
        };
        let no_http = |source| HttpFault::NoHttp { path, source };
        let mut sender = self.connection(no_http).await?;
        let deadline = self.deadline;
        let sending = sender.send_request(request);
        let response = deadline.keep("waiting for a page", sending).await?;
        let (head, body) = response.map_err(no_http)?.into_parts();
        if head.status != wanted {
            let status = head.status;
            return Err(HttpFault::Status {
                path,
                status,
                wanted,
            });
        }
        // What stands in it is of no interest, but it is in the way of the next one.
        let body = Limited::new(body, LONGEST_PAGE).collect();
        let is_read = deadline.keep("reading a page", body).await?.is_ok();
        self.connection = Some(sender).filter(|_| is_read);
        Ok(head.headers)
    }

    async fn connection(
        &mut self,
        no_http: impl Fn(hyper::Error) -> HttpFault,
    ) -> Result<SendRequest<Empty<Bytes>>, HttpFault> {
        if let Some(mut open) = self.connection.take()
            && self
                .deadline
                .keep("waiting for a page", open.ready())
                .await?
                .is_ok()
        {
            return Ok(open);
        }
        let tcp = dial(&self.node, self.deadline).await?;
        if let Port::Plain(_) = self.port {
            return web::open(tcp, &mut self.drivers).await.map_err(no_http);
        }
        let name = ServerName::try_from(self.node.host_name.clone());
        let name = name.map_err(|_| HttpFault::HostName(self.node.host_name.clone()))?;
        let handshake = witness::connect(tcp, name);
        let tls = self
            .deadline
            .keep("waiting for the TLS handshake", handshake);
        let tls = tls.await?.map_err(HttpFault::Handshake)?;
        web::open(tls, &mut self.drivers).await.map_err(no_http)
    }
}

/// The host with its port, where that is not the scheme's own.
fn host_header(node: &DerpNode, port: Port) -> String {
    let host = match node.host_name.as_str() {
        ipv6 if ipv6.contains(':') => format!("[{ipv6}]"),
        name => name.to_owned(),
    };
    match (port, node.derp_port()) {
        (Port::Derp, Some(443)) | (Port::Plain(80), _) | (_, None) => host,
        (_, Some(other)) => format!("{host}:{other}"),
    }
}

/// The longest page that is read; those that are asked for are empty.
const LONGEST_PAGE: usize = 64 << 10;
/// How many characters of somebody's header an error has.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests;
