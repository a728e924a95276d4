//! The steps of a login, each over what the one before has made of the connection: TLS, the
//! request, DERP's own login, and who serves the client from then on.

use std::io::{self, Read};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use derp_verify::{ConnMeta, TlsVersion};
use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{BoxedIo, Fate, Front};
use crate::admitted::{Admitted, Rest};
use crate::error::AcceptError;
use crate::forwarded::TrustedProxies;
use crate::http::{self, Route, Upgrade};
use crate::inbox::{Inbox, Message};
use crate::listener::ListenOptions;
use crate::login::{LoggedIn, fill_random, log_in, read_more, within};
use crate::peer::{Identity, Owner, Peer};
use crate::pending::Pending;
use crate::records::RecordAligned;
use crate::registry;
use crate::socket::Socket;
use crate::tls::ALPN_ACME;
use crate::tls13::{CapturedSecrets, Opener, Sealer, SecretCapture};
use crate::tx::{Seal, Sink};
use crate::websocket::WsStream;
use crate::wire::Wire;

/// What a TLS handshake holds at most of what has come: a record, which its hello mostly fits into.
const MAX_HELLO_LEN: usize = 16 << 10;

impl Front {
    pub(super) async fn log_in_socket<S: Socket>(
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

    pub(super) async fn log_in_stream<S>(
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
    pub(super) async fn log_in_any<S>(
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

    pub(super) fn for_task(
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

fn hand_over(worker: &Inbox, admitted: Admitted) {
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

fn random_below(limit: Duration) -> Duration {
    let mut bytes = [0; 4];
    fill_random(&mut bytes);
    limit.mul_f64(f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX))
}
