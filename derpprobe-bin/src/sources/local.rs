//! The map that the tailscaled of this machine uses (`client/local/local.go`).
//!
//! This is the map with everything that the tailnet's policy adds and takes away. Any user of the
//! machine may ask for it.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::deadline::{Deadline, TimedOut};
use crate::web;

/// Where tailscaled listens on Linux (`paths/paths.go`).
pub const DEFAULT_SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// A tailscaled that does not tell its map.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalError {
    /// Nobody listens.
    #[error(
        "no tailscaled at {0}; is it running? In a container its folder must be mounted; another \
             socket is given as -derp-map local:/PATH"
    )]
    NotRunning(PathBuf, #[source] io::Error),
    /// It cannot be reached.
    #[error("cannot connect to tailscaled at {0}")]
    Connect(PathBuf, #[source] io::Error),
    /// It does not speak HTTP.
    #[error("what listens at {0} does not answer in HTTP; is it tailscaled?")]
    Http(PathBuf, #[source] hyper::Error),
    /// It does not give it to us.
    #[error("tailscaled answers {0}; may this user ask it?")]
    Status(StatusCode),
    /// It has none yet.
    #[error("tailscaled has no DERP map; is it logged in? `tailscale up` logs in")]
    NoMap,
    /// It is longer than any map.
    #[error("tailscaled sends more than {0} bytes")]
    TooLong(usize),
    /// It broke off.
    #[error("tailscaled's answer broke off")]
    BrokeOff(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

impl LocalError {
    /// Whether it did not answer. It may be starting again.
    #[must_use]
    pub const fn is_transport(&self) -> bool {
        !matches!(self, Self::Status(_) | Self::TooLong(_))
    }
}

/// Asks for the map, of which there may be `limit` bytes.
pub(crate) async fn get(
    socket: &Path,
    limit: usize,
    deadline: Deadline,
) -> Result<Bytes, LocalError> {
    let connecting = deadline.keep("connecting to tailscaled", UnixStream::connect(socket));
    let stream = connecting.await?.map_err(|err| {
        let socket = socket.to_owned();
        match err.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                LocalError::NotRunning(socket, err)
            }
            _ => LocalError::Connect(socket, err),
        }
    })?;
    let request = Request::get("/localapi/v0/derpmap")
        .header(HOST, "local-tailscaled.sock")
        .body(Empty::new())
        .expect("a fixed request is well-formed");
    // Holds what drives the connection until the body is read.
    let mut drivers = JoinSet::new();
    let exchange = async {
        let mut sender = web::open(stream, &mut drivers).await?;
        sender.send_request(request).await
    };
    let response = deadline.keep("waiting for tailscaled's answer", exchange);
    let no_http = |err| LocalError::Http(socket.to_owned(), err);
    let response = response.await?.map_err(no_http)?;
    if response.status() != StatusCode::OK {
        return Err(LocalError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), limit).collect();
    let body = match deadline.keep("reading tailscaled's map", body).await? {
        Ok(body) => body.to_bytes(),
        Err(err) if err.is::<LengthLimitError>() => return Err(LocalError::TooLong(limit)),
        Err(err) => return Err(LocalError::BrokeOff(err)),
    };
    if body.trim_ascii() == b"null" {
        return Err(LocalError::NoMap);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::UnixListener;

    use super::*;
    use crate::report::in_words;
    use crate::web::script;

    /// What is got from a tailscaled that answers this, and what it was asked.
    async fn asked(answer: Vec<u8>, limit: usize) -> (Result<Bytes, String>, String) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("tailscaled.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            script::answer_one(stream, &answer).await
        };
        let deadline = Deadline::after(Duration::from_secs(10));
        let (got, request) = tokio::join!(get(&socket, limit, deadline), serving);
        (got.map_err(|err| in_words(&err)), request)
    }

    #[tokio::test]
    async fn tailscaled_is_asked_as_its_own_client_asks() {
        let (map, request) = asked(script::ok(b"{}"), 2).await;
        assert_eq!(map.unwrap(), "{}");
        assert_eq!(
            request,
            "GET /localapi/v0/derpmap HTTP/1.1\r\nhost: local-tailscaled.sock\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn what_is_not_a_map_says_what_to_do() {
        let denied = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec();
        for (answer, words) in [
            (
                script::ok(b"null\n"),
                "tailscaled has no DERP map; is it logged in? `tailscale up` logs in",
            ),
            (
                denied,
                "tailscaled answers 403 Forbidden; may this user ask it?",
            ),
            (
                script::ok(&[b' '; 11]),
                "tailscaled sends more than 10 bytes",
            ),
        ] {
            assert_eq!(asked(answer, 10).await.0.unwrap_err(), words);
        }
        let deadline = Deadline::after(Duration::from_secs(10));
        let nobody = get(Path::new("/nonexistent/sock"), 10, deadline).await;
        let nobody = nobody.unwrap_err();
        assert!(nobody.is_transport());
        let words = in_words(&nobody);
        let start = "no tailscaled at /nonexistent/sock; is it running?";
        assert!(words.starts_with(start), "{words}");
    }
}
