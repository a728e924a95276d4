//! One connection from its first byte to a client's session: TLS, request, login, hand-over.

mod steps;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use derp_verify::ConnMeta;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::admitted::Admitted;
use crate::clock;
use crate::error::{AcceptError, Budget};
use crate::forwarded::TrustedProxies;
use crate::http::{self, Pages};
use crate::hub::Hub;
use crate::listener::ListenOptions;
use crate::login::{log_in, within};
use crate::outcomes::Outcome;
use crate::pending::{Logins, Pending};
use crate::proxy_protocol;
use crate::socket::Socket;
use crate::stream;

/// What connections need on their way to a login.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) hub: Arc<Hub>,
    pub(crate) pages: Arc<Pages>,
    pub(crate) logins: Logins,
}

/// A client that has logged in, by what becomes of its connection.
enum Fate<S> {
    /// A worker has it.
    HandedOver,
    /// Its stream is served by this task.
    Serve(S, Box<Admitted>),
    /// It is no client, and wants pages.
    Pages(S, Vec<u8>),
    /// It was an authority that wanted to see a certificate, and has.
    Challenged,
}

/// A stream that tasks serve.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

type BoxedIo = Box<dyn Io>;

impl Front {
    /// Serves a connected socket until it ends, or until a worker has taken it over.
    pub(crate) async fn accept_socket<S: Socket>(
        &self,
        socket: S,
        peer: &Option<SocketAddr>,
        conn: &mut Option<Box<ConnMeta>>,
        options: &ListenOptions,
    ) -> Result<(), AcceptError> {
        self.hub.metrics.gauges().accepts.add(1);
        let pending = self.begin_login().inspect_err(|error| self.count(error))?;
        // Until it has said something, a connection costs its socket and little more.
        let spoken = self.await_first_byte(&socket, peer, options).await;
        let left = spoken.inspect_err(|error| self.count(error))?;
        let conn = conn.insert(accepted(&socket, *peer, options));
        Box::pin(self.serve_spoken(socket, conn, options, pending, left)).await
    }

    /// Serves a socket on which something has come.
    async fn serve_spoken<S: Socket>(
        &self,
        socket: S,
        conn: &mut ConnMeta,
        options: &ListenOptions,
        pending: Pending<'_>,
        left: Duration,
    ) -> Result<(), AcceptError> {
        // The steps before a session need more memory than the session: it is given back.
        let login = Box::pin(self.log_in_socket(socket, conn, options, &pending, left));
        let outcome = self.unless_stopping(login).await;
        drop(pending);
        Box::pin(self.finish(outcome, conn, &options.trusted_proxies)).await
    }

    /// Waits for the first step's first byte, and returns how much time is left for all steps.
    async fn await_first_byte<S: Socket>(
        &self,
        socket: &S,
        peer: &Option<SocketAddr>,
        options: &ListenOptions,
    ) -> Result<Duration, AcceptError> {
        let (stage, limit) = self.first_step(*peer, options);
        let start = clock::now();
        let mut stopped = pin!(self.hub.stopped());
        let mut patience = pin!(tokio::time::sleep(limit));
        // One future of all three, for it is what a silent connection consists of.
        let spoken = poll_fn(|cx| {
            if let Poll::Ready(result) = socket.poll_spoken(cx) {
                return Poll::Ready(result.map_err(AcceptError::Io));
            }
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(AcceptError::Stopping));
            }
            let too_slow = patience.as_mut().poll(cx);
            too_slow.map(|()| Err(AcceptError::TooSlow { stage, limit }))
        });
        spoken.await?;
        let waited = clock::now().saturating_duration_since(start);
        Ok(self.hub.tunables().login_timeout.saturating_sub(waited))
    }

    /// What a connection begins with, and how long that may take.
    fn first_step(
        &self,
        peer: Option<SocketAddr>,
        options: &ListenOptions,
    ) -> (&'static str, Duration) {
        let tunables = self.hub.tunables();
        let (stage, limit) = if options.proxy_protocol.is_due(peer) {
            ("PROXY header", tunables.proxy_header_timeout)
        } else if options.tls.is_some() {
            ("TLS handshake", tunables.tls_timeout)
        } else {
            ("request", tunables.head_timeout)
        };
        if tunables.login_timeout < limit {
            ("login", tunables.login_timeout)
        } else {
            (stage, limit)
        }
    }

    /// Serves what there is on port 80 beside a listener for TLS.
    pub(crate) async fn serve_port_80<S: Socket>(
        &self,
        mut socket: S,
        peer: &Option<SocketAddr>,
        conn: &mut Option<Box<ConnMeta>>,
        options: &ListenOptions,
    ) -> Result<(), AcceptError> {
        let conn = conn.insert(accepted(&socket, *peer, options));
        if options.proxy_protocol.is_due(*peer) {
            let _pending = self.begin_login()?;
            self.receive_proxy_header(&mut socket, conn).await?;
        }
        let (pages, trusted) = (Arc::clone(&self.pages), &options.trusted_proxies);
        let conn = ConnMeta::clone(conn);
        tokio::select! {
            () = http::serve_port_80(socket, pages, conn, trusted) => {}
            () = self.hub.stopped() => {}
        }
        Ok(())
    }

    /// Serves any stream that carries an HTTP request first.
    pub(crate) async fn accept_stream<S>(
        &self,
        stream: S,
        conn: ConnMeta,
    ) -> Result<(), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.hub.metrics.gauges().accepts.add(1);
        let login = Box::pin(self.log_in_stream(stream, &conn));
        let outcome = self.unless_stopping(login).await;
        // Whoever has the stream knows itself where it comes from.
        self.finish(outcome, &conn, &TrustedProxies::default())
            .await
    }

    /// Serves a stream that has been upgraded elsewhere: DERP from the first byte.
    pub(crate) async fn accept_upgraded<S>(
        &self,
        mut stream: S,
        conn: ConnMeta,
        is_not_ideal: bool,
    ) -> Result<(), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.hub.metrics.gauges().accepts.add(1);
        let outcome = async {
            let pending = self.begin_login()?;
            self.hub.admit_network(&conn, false)?;
            let mut received = Vec::new();
            let login = log_in(&mut stream, &[], &mut received, &conn, &self.hub, &pending).await?;
            let admitted = self.for_task(login, &conn, received, is_not_ideal);
            Ok(Fate::Serve(Box::new(stream) as BoxedIo, Box::new(admitted)))
        };
        let outcome = self.unless_stopping(Box::pin(outcome)).await;
        self.finish(outcome, &conn, &TrustedProxies::default())
            .await
    }

    /// A step on the way to a session, which is given up when the server begins to end.
    async fn unless_stopping<T>(
        &self,
        step: impl Future<Output = Result<T, AcceptError>> + Unpin,
    ) -> Result<T, AcceptError> {
        tokio::select! {
            biased;
            result = step => result,
            () = self.hub.stopped() => Err(AcceptError::Stopping),
        }
    }

    async fn finish(
        &self,
        outcome: Result<Fate<BoxedIo>, AcceptError>,
        conn: &ConnMeta,
        trusted: &TrustedProxies,
    ) -> Result<(), AcceptError> {
        match outcome {
            Ok(Fate::HandedOver) => {
                self.note(Outcome::Client);
                Ok(())
            }
            Ok(Fate::Challenged) => {
                self.note(Outcome::Challenge);
                Ok(())
            }
            Ok(Fate::Serve(stream, admitted)) => {
                self.note(Outcome::Client);
                Ok(stream::serve(stream, *admitted, Arc::clone(&self.hub)).await?)
            }
            Ok(Fate::Pages(stream, received)) => {
                self.serve_pages(stream, received, conn.clone(), trusted)
                    .await
            }
            Err(error) => {
                self.count(&error);
                Err(error)
            }
        }
    }

    async fn serve_pages(
        &self,
        stream: BoxedIo,
        received: Vec<u8>,
        conn: ConnMeta,
        trusted: &TrustedProxies,
    ) -> Result<(), AcceptError> {
        let pages = Arc::clone(&self.pages);
        let asked = tokio::select! {
            asked = http::serve_pages(stream, received.into(), pages, conn, trusted) => asked,
            () = self.hub.stopped() => None,
        };
        let Some(http::Asked {
            stream,
            received,
            wanted,
            conn,
        }) = asked
        else {
            self.note(Outcome::Pages);
            return Ok(());
        };
        let upgrade = match wanted {
            http::Wanted::Upgrade(upgrade) => upgrade,
            http::Wanted::Tunnel(target) => {
                self.note(Outcome::Pages);
                tokio::select! {
                    () = http::tunnel(stream, received, &target, &self.pages) => {}
                    () = self.hub.stopped() => {}
                }
                return Ok(());
            }
        };
        // A proxy that keeps its connections may use one of them for a client after all.
        let outcome = async {
            let pending = self.begin_login()?;
            let limit = self.hub.tunables().login_timeout;
            let login = self.log_in_any(stream, received.into(), &upgrade, &conn, &pending);
            within("login", limit, pin!(login)).await
        };
        match self.unless_stopping(Box::pin(outcome)).await {
            Ok(Fate::Serve(stream, admitted)) => {
                self.note(Outcome::Client);
                Ok(stream::serve(stream, *admitted, Arc::clone(&self.hub)).await?)
            }
            Ok(Fate::HandedOver | Fate::Pages(..) | Fate::Challenged) => {
                unreachable!("a stream that is logged in by a task is served by it")
            }
            Err(error) => {
                self.count(&error);
                Err(error)
            }
        }
    }

    fn note(&self, outcome: Outcome) {
        self.hub.metrics.outcomes.count(outcome);
    }

    fn count(&self, error: &AcceptError) {
        self.note(Outcome::of(error));
        let gauges = self.hub.metrics.gauges();
        match error {
            AcceptError::Tls(_) | AcceptError::NoCertificate => gauges.tls_failures.add(1),
            AcceptError::Request(_) => gauges.bad_requests.add(1),
            AcceptError::TooSlow { .. } | AcceptError::Handshake(_) | AcceptError::Io(_) => {
                gauges.login_failures.add(1);
            }
            // Counted where they arise.
            AcceptError::Denied(_)
            | AcceptError::Unverified(_)
            | AcceptError::Proxy(_)
            | AcceptError::Full(_)
            | AcceptError::Stopping
            | AcceptError::Session(_) => {}
        }
    }

    fn begin_login(&self) -> Result<Pending<'_>, AcceptError> {
        let gauges = self.hub.metrics.gauges();
        let tunables = self.hub.tunables();
        let clients = usize::try_from(gauges.connections.get()).unwrap_or(usize::MAX);
        if self.hub.is_stopping() {
            return Err(AcceptError::Stopping);
        }
        let max_bytes = tunables.max_pending_bytes;
        let pending = self.logins.begin(tunables.max_logins_pending, max_bytes);
        let pending = pending.and_then(|pending| match clients < tunables.max_clients {
            true => Ok(pending),
            false => Err(Budget::Clients),
        });
        pending.map_err(|budget| {
            gauges.rejected_connections.add(1);
            budget.into()
        })
    }

    async fn receive_proxy_header<S: Socket>(
        &self,
        socket: &mut S,
        conn: &mut ConnMeta,
    ) -> Result<(), AcceptError> {
        let limit = self.hub.tunables().proxy_header_timeout;
        let counts = self.hub.metrics.proxy_headers();
        Ok(proxy_protocol::receive(socket, conn, limit, counts).await?)
    }
}

/// What is known of a connection that has just been accepted.
fn accepted<S: Socket>(
    socket: &S,
    peer: Option<SocketAddr>,
    options: &ListenOptions,
) -> Box<ConnMeta> {
    let mut conn = Box::<ConnMeta>::default();
    conn.listener = options.id.clone();
    conn.local_addr = socket.local_addr();
    conn.socket_peer = peer;
    conn.is_unix = S::IS_UNIX;
    conn
}

#[cfg(test)]
mod tests {
    use derp_proto::NodePrivate;
    use derp_verify::AllowAll;

    use super::*;

    /// Each future that is handed on by value is there twice, and so in each that it is handed to;
    /// and all of it is moved about for each connection.
    #[tokio::test]
    async fn the_steps_before_a_session_take_six_kilobytes_and_silence_far_less() {
        let private = NodePrivate::from_random([1; 32]);
        let tunables = crate::Tunables::default();
        let hub = Hub::new(&private, Vec::new(), Arc::new(AllowAll), tunables, 1);
        let front = Front {
            hub: Arc::new(hub),
            pages: Arc::default(),
            logins: Logins::default(),
        };
        let (socket, _other) = tokio::net::UnixStream::pair().unwrap();
        let mut conn = ConnMeta::default();
        let options = ListenOptions::default();
        let pending = front.begin_login().unwrap();
        let left = Duration::from_secs(15);
        let login = front.log_in_socket(socket, &mut conn, &options, &pending, left);
        assert!(size_of_val(&login) < 6 << 10, "{}", size_of_val(&login));
        drop(login);
        let (socket, _other) = tokio::net::UnixStream::pair().unwrap();
        let mut conn = None;
        let silent = front.accept_socket(socket, &None, &mut conn, &options);
        assert!(size_of_val(&silent) < 640, "{}", size_of_val(&silent));
    }
}
