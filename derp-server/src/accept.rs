//! One connection from its first byte to a client's session: TLS, request, login, hand-over.

use std::future::poll_fn;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use derp_verify::{ConnMeta, TlsVersion};
use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::admitted::{Admitted, Rest};
use crate::clock;
use crate::error::{AcceptError, Budget};
use crate::forwarded::TrustedProxies;
use crate::http::{self, Pages, Route, Upgrade};
use crate::hub::Hub;
use crate::inbox::Message;
use crate::listener::ListenOptions;
use crate::login::{LoggedIn, fill_random, log_in, read_more, within};
use crate::outcomes::Outcome;
use crate::peer::{Identity, Owner, Peer};
use crate::pending::{Logins, Pending};
use crate::proxy_protocol;
use crate::records::RecordAligned;
use crate::registry;
use crate::socket::Socket;
use crate::stream;
use crate::tls::ALPN_ACME;
use crate::tls13::{CapturedSecrets, Opener, Sealer, SecretCapture};
use crate::tx::{Seal, Sink};
use crate::websocket::WsStream;
use crate::wire::Wire;

/// What a TLS handshake holds at most of what has come: a record, which its hello mostly fits into.
const MAX_HELLO_LEN: usize = 16 << 10;

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

    async fn log_in_socket<S: Socket>(
        &self,
        mut socket: S,
        conn: &mut ConnMeta,
        options: &ListenOptions,
        pending: &Pending<'_>,
        left: Duration,
    ) -> Result<Fate<BoxedIo>, AcceptError> {
        let tunables = self.hub.tunables();
        let login = async {
            if options.proxy_protocol.is_due(conn.socket_peer) {
                self.receive_proxy_header(&mut socket, conn).await?;
            }
            let trusted = &options.trusted_proxies;
            self.hub.admit_network(conn, trusted.are_at(conn))?;
            let Some(tls) = &options.tls else {
                return self.log_in_plain(socket, conn, trusted, pending).await;
            };
            let config = tls.config_for(conn).ok_or(AcceptError::NoCertificate)?;
            let handshake = async {
                let mut aligned = RecordAligned::new(socket);
                // Until a client has said something it costs no more than its socket.
                aligned.has_record().await.map_err(AcceptError::Tls)?;
                // What is kept of it is not larger, and as large at most.
                pending.hold(MAX_HELLO_LEN)?;
                // In a box, for it is large, and handed on several times.
                let stream = TlsAcceptor::from(config).accept(aligned).await;
                Ok(Box::new(stream.map_err(AcceptError::Tls)?))
            };
            let handshake =
                async { within("TLS handshake", tunables.tls_timeout, pin!(handshake)).await };
            let (stream, secrets) = SecretCapture::run(pin!(handshake)).await;
            let mut stream = stream?;
            note_tls(conn, &stream);
            if conn.alpn.as_deref() == Some(ALPN_ACME) {
                stream.shutdown().await?;
                return Ok(Fate::Challenged);
            }
            self.log_in_tls(stream, secrets, conn, trusted, pending)
                .await
        };
        within("login", left, pin!(login)).await
    }

    async fn log_in_plain<S: Socket>(
        &self,
        mut socket: S,
        conn: &mut ConnMeta,
        trusted: &TrustedProxies,
        pending: &Pending<'_>,
    ) -> Result<Fate<BoxedIo>, AcceptError> {
        let (received, upgrade) = match self
            .read_request(&mut socket, conn, trusted, pending)
            .await?
        {
            Ok(upgrade) => upgrade,
            Err(received) => return Ok(Fate::Pages(Box::new(socket), received)),
        };
        let Upgrade::Derp(derp) = &upgrade else {
            return self
                .log_in_any(socket, received, &upgrade, conn, pending)
                .await;
        };
        let Some(worker) = self.hub.least_loaded_worker() else {
            return self
                .log_in_any(socket, received, &upgrade, conn, pending)
                .await;
        };
        let (worker, is_not_ideal) = (Arc::clone(worker), derp.ideal_node);
        let mut received = received;
        let head = http::upgrade_response(&upgrade, &self.hub.public_key());
        let login = log_in(&mut socket, &head, &mut received, conn, &self.hub, pending).await?;
        self.bound_unsent(&socket, &login);
        let wire = Wire::Socket(socket.into_fd()?);
        let owner = Owner::Worker {
            wire,
            inbox: Arc::clone(&worker),
        };
        let rest = Rest::new(&received, &[]);
        let admitted = self.admitted(
            login,
            conn,
            is_not_ideal,
            owner,
            Sink::Direct(Seal::Plain),
            None,
            rest,
        );
        hand_over(&worker, admitted);
        Ok(Fate::HandedOver)
    }

    async fn log_in_tls<S: Socket>(
        &self,
        mut stream: Box<TlsStream<RecordAligned<S>>>,
        secrets: CapturedSecrets,
        conn: &mut ConnMeta,
        trusted: &TrustedProxies,
        pending: &Pending<'_>,
    ) -> Result<Fate<BoxedIo>, AcceptError> {
        let (received, upgrade) = match self
            .read_request(&mut stream, conn, trusted, pending)
            .await?
        {
            Ok(upgrade) => upgrade,
            Err(received) => return Ok(Fate::Pages(stream, received)),
        };
        let tunables = self.hub.tunables();
        let (
            CapturedSecrets {
                client: Some(client),
                server: Some(server),
            },
            true,
        ) = (
            secrets,
            tunables.own_record_layer && conn.tls == Some(TlsVersion::V1_3),
        )
        else {
            return self
                .log_in_any(stream, received, &upgrade, conn, pending)
                .await;
        };
        let (Upgrade::Derp(derp), Some(worker)) = (&upgrade, self.hub.least_loaded_worker()) else {
            return self
                .log_in_any(stream, received, &upgrade, conn, pending)
                .await;
        };
        let (worker, is_not_ideal) = (Arc::clone(worker), derp.ideal_node);
        let mut received = received;
        let head = http::upgrade_response(&upgrade, &self.hub.public_key());
        let login = log_in(&mut stream, &head, &mut received, conn, &self.hub, pending).await?;

        // From here on the records are ours. rustls holds no part of one that it has not handed
        // out, for it was given them one at a time.
        let (aligned, mut tls) = stream.into_inner();
        drain_reader(&mut tls, &mut received)?;
        let (socket, sealed) = aligned.into_parts();
        self.bound_unsent(&socket, &login);
        let suite = tls.negotiated_cipher_suite().map(|suite| suite.suite());
        let suite = suite.ok_or(AcceptError::Request("no cipher suite"))?;
        let numbers = tls.dangerous_extract_secrets().map_err(tls_error)?;
        let opener = Opener::new(suite, client, numbers.rx.0).map_err(tls_error)?;
        let sealer = Sealer::new(suite, server, numbers.tx.0).map_err(tls_error)?;
        let owner = Owner::Worker {
            wire: Wire::Socket(socket.into_fd()?),
            inbox: Arc::clone(&worker),
        };
        let sink = Sink::Direct(Seal::Tls13(Box::new(sealer)));
        let rest = Rest::new(&received, &sealed);
        let opener = Some(Box::new(opener));
        let admitted = self.admitted(login, conn, is_not_ideal, owner, sink, opener, rest);
        hand_over(&worker, admitted);
        Ok(Fate::HandedOver)
    }

    async fn log_in_stream<S>(
        &self,
        mut stream: S,
        conn: &ConnMeta,
    ) -> Result<Fate<BoxedIo>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pending = &self.begin_login()?;
        self.hub.admit_network(conn, false)?;
        let nobody = TrustedProxies::default();
        let mut conn = conn.clone();
        let login = async {
            match self
                .read_request(&mut stream, &mut conn, &nobody, pending)
                .await?
            {
                Ok((received, upgrade)) => {
                    self.log_in_any(stream, received, &upgrade, &conn, pending)
                        .await
                }
                Err(received) => Ok(Fate::Pages(Box::new(stream) as BoxedIo, received)),
            }
        };
        within("login", self.hub.tunables().login_timeout, pin!(login)).await
    }

    /// Logs in over a stream that a task will serve.
    async fn log_in_any<S>(
        &self,
        mut stream: S,
        mut received: Vec<u8>,
        upgrade: &Upgrade,
        conn: &ConnMeta,
        pending: &Pending<'_>,
    ) -> Result<Fate<BoxedIo>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let head = http::upgrade_response(upgrade, &self.hub.public_key());
        match upgrade {
            Upgrade::Derp(derp) => {
                let login =
                    log_in(&mut stream, &head, &mut received, conn, &self.hub, pending).await?;
                let admitted = self.for_task(login, conn, received, derp.ideal_node);
                Ok(Fate::Serve(Box::new(stream), Box::new(admitted)))
            }
            Upgrade::WebSocket { .. } => {
                self.hub.metrics.gauges().websocket_accepts.add(1);
                stream.write_all(&head).await?;
                let mut stream = WsStream::new(stream, &received);
                let mut received = Vec::new();
                let login =
                    log_in(&mut stream, &[], &mut received, conn, &self.hub, pending).await?;
                let admitted = self.for_task(login, conn, received, false);
                Ok(Fate::Serve(Box::new(stream), Box::new(admitted)))
            }
        }
    }

    /// Reads a request and says what it wants to become, with the bytes behind it; or else
    /// returns all its bytes for the pages.
    async fn read_request<S>(
        &self,
        stream: &mut S,
        conn: &mut ConnMeta,
        trusted: &TrustedProxies,
        pending: &Pending<'_>,
    ) -> Result<Result<(Vec<u8>, Upgrade), Vec<u8>>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut received = Vec::new();
        let read = async {
            loop {
                match http::read_head(&received) {
                    Ok(Some(head)) => return Ok(Ok(head)),
                    Ok(None) => read_more(stream, &mut received, pending).await?,
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        let read = within("request", self.hub.tunables().head_timeout, pin!(read)).await?;
        let head = match read {
            Ok(head) => head,
            Err(error) => {
                stream.write_all(&http::refusal(error)).await?;
                http::close(stream).await;
                return Err(AcceptError::Request("not understood"));
            }
        };
        match head.route {
            Route::Upgrade(upgrade) if self.pages.serves_derp() => {
                trusted.note_head(&received[..head.len], conn);
                received.drain(..head.len);
                Ok(Ok((received, upgrade)))
            }
            Route::Upgrade(_) | Route::Other => Ok(Err(received)),
        }
    }

    fn for_task(
        &self,
        login: LoggedIn,
        conn: &ConnMeta,
        received: Vec<u8>,
        is_not_ideal: bool,
    ) -> Admitted {
        let sink = Sink::Queued {
            waker: None,
            is_stuck: false,
        };
        let rest = Rest::new(&received, &[]);
        self.admitted(login, conn, is_not_ideal, Owner::Task, sink, None, rest)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is one thing that the login found out"
    )]
    fn admitted(
        &self,
        login: LoggedIn,
        conn: &ConnMeta,
        is_not_ideal: bool,
        owner: Owner,
        sink: Sink,
        opener: Option<Box<Opener>>,
        rest: Rest,
    ) -> Admitted {
        let info = login.hello.info();
        let who = Identity {
            key: login.hello.key(),
            id: self.hub.next_conn(),
            addr: conn.client_addr(),
            flags: registry::flags(login.is_mesh_peer, info.is_prober, !is_not_ideal),
        };
        tracing::debug!(conn = %who.id, client = ?who.key, addr = ?who.addr, "client logged in");
        let tunables = self.hub.tunables();
        Admitted {
            peer: Arc::new(Peer::new(who, owner, sink, Arc::clone(&self.hub.queued))),
            server_info: login.server_info,
            opener,
            rest,
            terms: login.terms,
            is_not_ideal,
            keep_alive: tunables.keep_alive + random_below(tunables.keep_alive_jitter),
        }
    }

    /// Links between relays carry many clients' packets, and are not bounded.
    fn bound_unsent(&self, socket: &impl Socket, login: &LoggedIn) {
        if let Some(bytes) = self.hub.tunables().notsent_low_water
            && !login.is_mesh_peer
            && let Err(error) = socket.bound_unsent(bytes)
        {
            tracing::debug!(%error, "cannot bound what the kernel holds");
        }
    }
}

fn hand_over(worker: &crate::inbox::Inbox, admitted: Admitted) {
    worker.load.fetch_add(1, Ordering::Relaxed);
    worker.post(Message::Serve(Box::new(admitted)));
}

fn note_tls<S>(conn: &mut ConnMeta, stream: &TlsStream<RecordAligned<S>>) {
    let (_, tls) = stream.get_ref();
    conn.sni = tls.server_name().map(str::to_owned);
    conn.alpn = tls.alpn_protocol().map(<[u8]>::to_vec);
    conn.tls = match tls.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => Some(TlsVersion::V1_3),
        _ => Some(TlsVersion::V1_2),
    };
}

/// Takes what rustls has opened and nobody has read.
fn drain_reader(tls: &mut rustls::ServerConnection, into: &mut Vec<u8>) -> io::Result<()> {
    match tls.reader().read_to_end(into) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

fn tls_error(error: impl std::error::Error + Send + Sync + 'static) -> AcceptError {
    AcceptError::Tls(io::Error::other(error))
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

fn random_below(limit: Duration) -> Duration {
    let mut bytes = [0; 4];
    fill_random(&mut bytes);
    limit.mul_f64(f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX))
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
