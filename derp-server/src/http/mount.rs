//! A relay inside of somebody else's HTTP server, such as one made with axum or hyper.
//!
//! That server owns TLS, so that there is no meta certificate, clients do not learn the relay's
//! key early, and each starts with a 101 response.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use derp_proto::http::{
    LATENCY_CHECK_PATH, PROBE_PATH, PUBLIC_KEY_HEADER, UPGRADE_DERP, UPGRADE_WEBSOCKET,
    VERSION_HEADER, WEBSOCKET_PROTOCOL,
};
use derp_proto::{NodePublic, PROTOCOL_VERSION};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::{DerpUpgrade, Route, Upgrade, route_at_any_path};
use super::pages::{probe, text, upgrade_required};
use super::serve::refusal;
use crate::websocket::WsStream;

/// What to do with a request.
#[derive(Debug)]
pub enum Mounted {
    /// Send this response; there is nothing more to do.
    Respond(Response<Bytes>),
    /// Send this response, which is a 101, and have the relay serve the connection.
    Upgrade {
        /// The response.
        response: Response<Bytes>,
        /// The connection.
        upgrading: Upgrading,
    },
}

/// Decides on a request that the embedding server has routed to the relay, by whatever path: an
/// upgrade, a probe (`/derp/probe`, `/derp/latency-check`), or a mistake.
///
/// `server_key` is the relay's public key.
pub fn mount<B>(request: &mut Request<B>, server_key: &NodePublic) -> Mounted {
    if matches!(request.uri().path(), PROBE_PATH | LATENCY_CHECK_PATH) {
        return Mounted::Respond(probe(request.method()));
    }
    let upgrade = match route_at_any_path(request) {
        Ok(Route::Upgrade(upgrade)) => upgrade,
        Ok(Route::Other) => return Mounted::Respond(upgrade_required()),
        Err(error) => return Mounted::Respond(refusal(error)),
    };
    if let Upgrade::Derp(DerpUpgrade {
        fast_start: true, ..
    }) = upgrade
    {
        // Its client reads no response, and would take one for frames. It would have to be told
        // so by TLS first, so that no client of Go's comes here.
        let why = "fast start needs a TLS listener of the relay's own\n";
        return Mounted::Respond(text(StatusCode::BAD_REQUEST, why));
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    set_upgrade_headers(response.headers_mut(), &upgrade, server_key);
    let on_upgrade = hyper::upgrade::on(request);
    Mounted::Upgrade {
        response,
        upgrading: Upgrading {
            on_upgrade,
            upgrade,
        },
    }
}

fn set_upgrade_headers(headers: &mut HeaderMap, upgrade: &Upgrade, server_key: &NodePublic) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    match upgrade {
        Upgrade::Derp(_) => {
            let key = HeaderValue::try_from(server_key.to_hex())
                .expect("hexadecimal digits are plain ASCII");
            headers.insert(UPGRADE, HeaderValue::from_static(UPGRADE_DERP));
            headers.insert(
                VERSION_HEADER,
                HeaderValue::from(u16::from(PROTOCOL_VERSION)),
            );
            headers.insert(PUBLIC_KEY_HEADER, key);
        }
        Upgrade::WebSocket { accept } => {
            let accept = HeaderValue::try_from(accept.as_str()).expect("base64 is plain ASCII");
            headers.insert(UPGRADE, HeaderValue::from_static(UPGRADE_WEBSOCKET));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            headers.insert(
                SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(WEBSOCKET_PROTOCOL),
            );
        }
    }
}

/// A connection whose 101 response is about to be sent.
#[derive(Debug)]
pub struct Upgrading {
    on_upgrade: OnUpgrade,
    upgrade: Upgrade,
}

impl Upgrading {
    /// Whether the client would rather have reached another node of the region.
    #[must_use]
    pub const fn is_not_ideal(&self) -> bool {
        matches!(
            self.upgrade,
            Upgrade::Derp(DerpUpgrade {
                ideal_node: true,
                ..
            })
        )
    }

    /// Waits until the response is sent, and returns the stream of DERP frames.
    ///
    /// # Errors
    /// Where the embedding server gave the connection up, or does not do upgrades.
    pub async fn stream(self) -> Result<MountedStream, hyper::Error> {
        let io = TokioIo::new(self.on_upgrade.await?);
        Ok(MountedStream(match self.upgrade {
            Upgrade::Derp(_) => Inner::Plain(io),
            Upgrade::WebSocket { .. } => Inner::WebSocket(Box::new(WsStream::new(io, &[]))),
        }))
    }
}

/// A client's stream of DERP frames, whatever carries it.
#[derive(Debug)]
pub struct MountedStream(Inner);

#[derive(Debug)]
enum Inner {
    Plain(TokioIo<Upgraded>),
    WebSocket(Box<WsStream<TokioIo<Upgraded>>>),
}

impl AsyncRead for MountedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Inner::WebSocket(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for MountedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Inner::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Inner::WebSocket(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Plain(io) => Pin::new(io).poll_flush(cx),
            Inner::WebSocket(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Inner::WebSocket(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests;
