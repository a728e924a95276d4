//! One connection from its first byte to a client's session: TLS, request, login, hand-over.

mod pages;
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
use crate::error::AcceptError;
use crate::forwarded::TrustedProxies;
use crate::http::{PagePlaces, Pages};
use crate::hub::Hub;
use crate::listener::ListenOptions;
use crate::login::log_in;
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
    pub(crate) page_places: PagePlaces,
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
        let pending = self.begin_socket::<S>(*peer, options);
        let pending = pending.inspect_err(|error| self.count(error))?;
        // Until it has said something, a connection costs its socket and little more.
        let spoken = self.await_first_byte(&socket, peer, options, &pending);
        let waited = spoken.await.inspect_err(|error| self.count(error))?;
        pending.has_spoken();
        let conn = conn.insert(accepted(&socket, *peer, options));
        match options.only_redirects {
            false => Box::pin(self.serve_spoken(socket, conn, options, pending, waited)).await,
            true => Box::pin(self.serve_port_80(socket, conn, options, pending, waited)).await,
        }
    }

    /// Serves a socket on which something has come.
    async fn serve_spoken<S: Socket>(
        &self,
        socket: S,
        conn: &mut ConnMeta,
        options: &ListenOptions,
        pending: Pending<'_>,
        waited: Duration,
    ) -> Result<(), AcceptError> {
        // The steps before a session need more memory than the session: it is given back.
        let login = Box::pin(self.log_in_socket(socket, conn, options, &pending, waited));
        let outcome = self.unless_over(login, &pending).await;
        Box::pin(self.finish(outcome, pending, conn, &options.trusted_proxies)).await
    }

    /// Waits for the first step's first byte, and returns how long that took.
    async fn await_first_byte<S: Socket>(
        &self,
        socket: &S,
        peer: &Option<SocketAddr>,
        options: &ListenOptions,
        pending: &Pending<'_>,
    ) -> Result<Duration, AcceptError> {
        let (stage, limit) = self.first_step(*peer, options);
        let start = clock::now();
        let mut stopped = pin!(self.hub.stopped());
        let mut patience = pin!(tokio::time::sleep(limit));
        // One future of all, for it is what a silent connection consists of.
        let spoken = poll_fn(|cx| {
            if let Poll::Ready(result) = socket.poll_spoken(cx) {
                return Poll::Ready(result.map_err(AcceptError::Io));
            }
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(AcceptError::Stopping));
            }
            if pending.poll_shed(cx).is_ready() {
                return Poll::Ready(Err(AcceptError::GaveWay));
            }
            let too_slow = patience.as_mut().poll(cx);
            too_slow.map(|()| Err(AcceptError::TooSlow { stage, limit }))
        });
        spoken.await?;
        Ok(clock::now().saturating_duration_since(start))
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
        let pending = self.begin_stream(&conn)?;
        let login = Box::pin(self.log_in_stream(stream, &conn, &pending));
        let outcome = self.unless_over(login, &pending).await;
        // Whoever has the stream knows itself where it comes from.
        let nobody = TrustedProxies::default();
        self.finish(outcome, pending, &conn, &nobody).await
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
        let pending = self.begin_stream(&conn)?;
        let outcome = async {
            let mut received = Vec::new();
            let login = log_in(&mut stream, &[], &mut received, &conn, &self.hub, &pending).await?;
            let admitted = self.for_task(login, &conn, received, is_not_ideal);
            Ok(Fate::Serve(Box::new(stream) as BoxedIo, admitted))
        };
        let outcome = self.unless_over(Box::pin(outcome), &pending).await;
        let nobody = TrustedProxies::default();
        self.finish(outcome, pending, &conn, &nobody).await
    }

    /// A step on the way to a session, which is given up when the server begins to end, or when
    /// the connection has to make room for another.
    async fn unless_over<T>(
        &self,
        step: impl Future<Output = Result<T, AcceptError>> + Unpin,
        pending: &Pending<'_>,
    ) -> Result<T, AcceptError> {
        tokio::select! {
            biased;
            result = step => result,
            () = self.hub.stopped() => Err(AcceptError::Stopping),
            () = pending.shed() => Err(AcceptError::GaveWay),
        }
    }

    async fn finish(
        &self,
        outcome: Result<Fate<BoxedIo>, AcceptError>,
        pending: Pending<'_>,
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
                drop(pending);
                self.serve_client(stream, admitted).await
            }
            Ok(Fate::Pages(stream, received)) => {
                self.serve_pages(stream, received, conn.clone(), trusted, pending)
                    .await
            }
            Err(error) => {
                self.count(&error);
                Err(error)
            }
        }
    }

    async fn serve_client(
        &self,
        stream: BoxedIo,
        admitted: Box<Admitted>,
    ) -> Result<(), AcceptError> {
        self.note(Outcome::Client);
        Ok(stream::serve(stream, *admitted, Arc::clone(&self.hub)).await?)
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
            | AcceptError::GaveWay
            | AcceptError::Stopping
            | AcceptError::Session(_) => {}
        }
    }

    /// A place for a socket that has said nothing, and of which nothing is known but where it comes
    /// from.
    fn begin_socket<S: Socket>(
        &self,
        peer: Option<SocketAddr>,
        options: &ListenOptions,
    ) -> Result<Pending<'_>, AcceptError> {
        // Else one network could take all places by saying nothing.
        if !options.proxy_protocol.is_due(peer) {
            let mut conn = ConnMeta::default();
            (conn.socket_peer, conn.is_unix) = (peer, S::IS_UNIX);
            let trusted = &options.trusted_proxies;
            self.hub.admit_network(&conn, trusted.are_at(&conn))?;
        }
        match options.only_redirects {
            true => self.begin(),
            false => self.begin_login(),
        }
    }

    /// A place for a stream of somebody who embeds the relay.
    fn begin_stream(&self, conn: &ConnMeta) -> Result<Pending<'_>, AcceptError> {
        let begin = || {
            let pending = self.begin_login()?;
            self.hub.admit_network(conn, false)?;
            pending.has_spoken();
            Ok(pending)
        };
        begin().inspect_err(|error| self.count(error))
    }

    /// A place on the way to a login, where there is room for one more client.
    fn begin_login(&self) -> Result<Pending<'_>, AcceptError> {
        let pending = self.begin()?;
        self.hub.has_room()?;
        Ok(pending)
    }

    fn begin(&self) -> Result<Pending<'_>, AcceptError> {
        let tunables = self.hub.tunables();
        if self.hub.is_stopping() {
            return Err(AcceptError::Stopping);
        }
        let (max, max_bytes) = (tunables.max_logins_pending, tunables.max_pending_bytes);
        let pending = self.logins.begin(max, max_bytes, clock::now());
        Ok(pending.inspect_err(|_| self.hub.metrics.gauges().rejected_connections.add(1))?)
    }

    /// Reads the PROXY header, if one is due, for which somebody has `waited` already; returns how
    /// long the next step has been waited for.
    async fn receive_proxy_header<S: Socket>(
        &self,
        socket: &mut S,
        conn: &mut ConnMeta,
        options: &ListenOptions,
        waited: Duration,
    ) -> Result<Duration, AcceptError> {
        if !options.proxy_protocol.is_due(conn.socket_peer) {
            return Ok(waited);
        }
        let limit = self.hub.tunables().proxy_header_timeout;
        let counts = self.hub.metrics.proxy_headers();
        proxy_protocol::receive(socket, conn, limit.saturating_sub(waited), counts).await?;
        let is_trusted = options.trusted_proxies.are_at(conn);
        self.hub.admit_network(conn, is_trusted)?;
        Ok(Duration::ZERO)
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
pub(crate) mod tests;
