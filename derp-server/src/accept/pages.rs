//! Connections that want pages: how long each may stay, and what it may still become.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use derp_verify::ConnMeta;

use super::{BoxedIo, Front};
use crate::error::AcceptError;
use crate::forwarded::TrustedProxies;
use crate::http::{self, NoTunnel, PagePlace};
use crate::listener::ListenOptions;
use crate::login::{within, within_rest};
use crate::outcomes::Outcome;
use crate::pending::Pending;
use crate::socket::Socket;

/// What a connection that pages are served on counts among.
enum Room<'a> {
    /// Those that may stay.
    Pages(PagePlace<'a>),
    /// There are enough of these: it has one answer, on its way to a login as before.
    Pending(Pending<'a>),
}

impl Room<'_> {
    fn may_keep(&self) -> bool {
        match self {
            Self::Pages(place) => place.may_keep(),
            Self::Pending(_) => false,
        }
    }

    const fn outcome(&self) -> Outcome {
        match self {
            Self::Pages(_) => Outcome::Pages,
            Self::Pending(_) => Outcome::FullOfPages,
        }
    }

    /// Waits until the connection has to go, which may take no longer than a login.
    async fn is_over(&self, limit: Duration) {
        match self {
            Self::Pages(_) => std::future::pending().await,
            Self::Pending(pending) => tokio::select! {
                () = pending.shed() => {}
                () = tokio::time::sleep(limit) => {}
            },
        }
    }
}

impl Front {
    /// Serves what there is on port 80 beside a listener for TLS, to a socket on which something
    /// has come.
    pub(super) async fn serve_port_80<S: Socket>(
        &self,
        mut socket: S,
        conn: &mut ConnMeta,
        options: &ListenOptions,
        pending: Pending<'_>,
        waited: Duration,
    ) -> Result<(), AcceptError> {
        let asked = async {
            let waited = self
                .receive_proxy_header(&mut socket, conn, options, waited)
                .await?;
            let (received, _) = self.read_head(&mut socket, &pending, waited).await?;
            Ok(received)
        };
        let limit = self.hub.tunables().login_timeout;
        let asked = Box::pin(async { within_rest("login", limit, waited, pin!(asked)).await });
        let asked = self.unless_over(asked, &pending).await;
        let received = asked.inspect_err(|error| self.count(error))?;
        let room = self.room_for_pages(pending);
        let (pages, trusted) = (Arc::clone(&self.pages), &options.trusted_proxies);
        let (conn, keeps) = (conn.clone(), || room.may_keep());
        tokio::select! {
            () = http::serve_port_80(socket, received.into(), pages, conn, trusted, keeps) => {}
            () = self.hub.stopped() => {}
            () = room.is_over(limit) => {}
        }
        self.note(room.outcome());
        Ok(())
    }

    pub(super) async fn serve_pages(
        &self,
        stream: BoxedIo,
        received: Vec<u8>,
        conn: ConnMeta,
        trusted: &TrustedProxies,
        pending: Pending<'_>,
    ) -> Result<(), AcceptError> {
        let room = self.room_for_pages(pending);
        let (pages, keeps) = (Arc::clone(&self.pages), || room.may_keep());
        let limit = self.hub.tunables().login_timeout;
        let (received, versions) = (received.into(), &self.hub.metrics.tls_versions);
        // Made where it is awaited, for what is moved is in the future twice.
        let asked = tokio::select! {
            asked = http::serve_pages(
                stream, received, pages, conn, trusted, versions, keeps
            ) => asked,
            () = self.hub.stopped() => None,
            () = room.is_over(limit) => None,
        };
        let outcome = room.outcome();
        drop(room);
        let Some(http::Asked {
            stream,
            received,
            wanted,
            conn,
        }) = asked
        else {
            self.note(outcome);
            return Ok(());
        };
        let upgrade = match wanted {
            http::Wanted::Upgrade(upgrade) => upgrade,
            http::Wanted::Tunnel(target) => {
                self.note(outcome);
                let led = tokio::select! {
                    led = http::tunnel(stream, received, &target, &self.pages) => led,
                    () = self.hub.stopped() => Ok(()),
                };
                if let Err(why) = led {
                    self.tell_of_no_tunnel(&target, &why);
                }
                return Ok(());
            }
        };
        // A proxy that keeps its connections may use one of them for a client after all.
        let pending = self.begin_login().inspect_err(|error| self.count(error))?;
        pending.has_spoken();
        let login = async {
            let limit = self.hub.tunables().login_timeout;
            let login = self.log_in_any(stream, received.into(), &upgrade, &conn, &pending);
            within("login", limit, pin!(login)).await
        };
        let admitted = self.unless_over(Box::pin(login), &pending).await;
        let (stream, admitted) = admitted.inspect_err(|error| self.count(error))?;
        drop(pending);
        self.serve_client(stream, admitted).await
    }

    fn tell_of_no_tunnel(&self, target: &str, why: &NoTunnel) {
        let Some(untold) = self.hub.tell() else {
            return;
        };
        match why {
            NoTunnel::Full => tracing::warn!(target, untold, "{why}"),
            NoTunnel::Connect(error) => tracing::info!(target, %error, untold, "{why}"),
        }
    }

    /// Room among connections for pages, where there is some; then there is room for a login more.
    fn room_for_pages<'a>(&'a self, pending: Pending<'a>) -> Room<'a> {
        let max = self.hub.tunables().max_page_connections;
        match self.page_places.take(max) {
            Some(place) => Room::Pages(place),
            None => Room::Pending(pending),
        }
    }
}
