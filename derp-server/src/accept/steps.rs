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
use crate::http::{self, Head, HeadReader, Route, Upgrade};
use crate::inbox::Message;
use crate::listener::ListenOptions;
use crate::login::{LoggedIn, fill_random, log_in, read_more, within, within_rest};
use crate::peer::{Identity, Owner, Peer};
use crate::pending::Pending;
use crate::records::RecordAligned;
use crate::registry;
use crate::socket::Socket;
use crate::tls::ALPN_ACME;
use crate::tls13::{CapturedSecrets, Opener, RecordError, Sealer, SecretCapture};
use crate::tx::{Seal, Sink};
use crate::websocket::WsStream;
use crate::wire::Wire;

/// What a TLS handshake holds at most of what has come: a record, which its hello mostly fits into.
const MAX_HELLO_LEN: usize = 16 << 10;

/// How a client is served: by whom, and by which way its bytes come and go.
struct Link {
    owner: Owner,
    sink: Sink,
    opener: Option<Box<Opener>>,
    rest: Rest,
}

/// The same for a worker that is yet to be chosen.
struct OwnLink {
    wire: Wire,
    seal: Seal,
    opener: Option<Box<Opener>>,
    rest: Rest,
}

impl Front {
    pub(super) async fn log_in_socket<S: Socket>(
        &self,
        mut socket: S,
        conn: &mut ConnMeta,
        options: &ListenOptions,
        pending: &Pending<'_>,
        waited: Duration,
    ) -> Result<Fate<BoxedIo>, AcceptError> {
        let tunables = self.hub.tunables();
        let login = async {
            let waited = self
                .receive_proxy_header(&mut socket, conn, options, waited)
                .await?;
            let trusted = &options.trusted_proxies;
            let Some(tls) = &options.tls else {
                return self
                    .log_in_plain(socket, conn, trusted, pending, waited)
                    .await;
            };
            let config = tls.config_for(conn).ok_or(AcceptError::NoCertificate)?;
            let handshake = async {
                let mut aligned = RecordAligned::for_handshake(socket, MAX_HELLO_LEN);
                // What is kept of it is not larger, and as large at most.
                pending.hold(MAX_HELLO_LEN)?;
                // Before that, there is nothing to make room for TLS's own state for.
                aligned.has_record().await.map_err(AcceptError::Tls)?;
                // In a box, for it is large, and handed on several times.
                let stream = TlsAcceptor::from(config).accept(aligned).await;
                let mut stream = Box::new(stream.map_err(AcceptError::Tls)?);
                stream.get_mut().0.end_handshake();
                Ok(stream)
            };
            let limit = tunables.tls_timeout;
            let handshake =
                async { within_rest("TLS handshake", limit, waited, pin!(handshake)).await };
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
        within_rest("login", tunables.login_timeout, waited, pin!(login)).await
    }

    async fn log_in_plain<S: Socket>(
        &self,
        mut socket: S,
        conn: &mut ConnMeta,
        trusted: &TrustedProxies,
        pending: &Pending<'_>,
        waited: Duration,
    ) -> Result<Fate<BoxedIo>, AcceptError> {
        let (mut received, upgrade) = match self
            .read_request(&mut socket, conn, trusted, pending, waited)
            .await?
        {
            Ok(upgrade) => upgrade,
            Err(received) => return Ok(Fate::Pages(Box::new(socket), received)),
        };
        let (Upgrade::Derp(derp), false) = (&upgrade, self.hub.workers().is_empty()) else {
            return self
                .log_in_for_task(socket, received, &upgrade, conn, pending)
                .await;
        };
        let head = http::upgrade_response(&upgrade, &self.hub.public_key());
        let login = log_in(&mut socket, &head, &mut received, conn, &self.hub, pending).await?;
        self.bound_unsent(&socket, &login);
        let link = OwnLink {
            wire: Wire::Socket(socket.into_fd()?),
            seal: Seal::Plain,
            opener: None,
            rest: Rest::new(&received, &[]),
        };
        self.hand_over(login, conn, derp.ideal_node, link);
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
        let (mut received, upgrade) = match self
            .read_request(&mut stream, conn, trusted, pending, Duration::ZERO)
            .await?
        {
            Ok(upgrade) => upgrade,
            Err(received) => return Ok(Fate::Pages(stream, received)),
        };
        let is_own = self.hub.tunables().own_record_layer
            && conn.tls == Some(TlsVersion::V1_3)
            && !self.hub.workers().is_empty();
        let (Upgrade::Derp(derp), Some(client), Some(server), true) =
            (&upgrade, secrets.client, secrets.server, is_own)
        else {
            return self
                .log_in_for_task(stream, received, &upgrade, conn, pending)
                .await;
        };
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
        // A key update counts records from zero again. No client sends one so early, and with the
        // first keys and such a number a nonce would come twice.
        if !opener.has_key_of(&numbers.rx.1) || !sealer.has_key_of(&numbers.tx.1) {
            return Err(tls_error(RecordError::Secrets));
        }
        let link = OwnLink {
            wire: Wire::Socket(socket.into_fd()?),
            seal: Seal::Tls13(Box::new(sealer)),
            opener: Some(Box::new(opener)),
            rest: Rest::new(&received, &sealed),
        };
        self.hand_over(login, conn, derp.ideal_node, link);
        Ok(Fate::HandedOver)
    }

    pub(super) async fn log_in_stream<S>(
        &self,
        mut stream: S,
        conn: &ConnMeta,
        pending: &Pending<'_>,
    ) -> Result<Fate<BoxedIo>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let nobody = TrustedProxies::default();
        let mut conn = conn.clone();
        let login = async {
            match self
                .read_request(&mut stream, &mut conn, &nobody, pending, Duration::ZERO)
                .await?
            {
                Ok((received, upgrade)) => {
                    self.log_in_for_task(stream, received, &upgrade, &conn, pending)
                        .await
                }
                Err(received) => Ok(Fate::Pages(Box::new(stream) as BoxedIo, received)),
            }
        };
        within("login", self.hub.tunables().login_timeout, pin!(login)).await
    }

    /// Logs in over a stream that this task will serve.
    async fn log_in_for_task<S>(
        &self,
        stream: S,
        received: Vec<u8>,
        upgrade: &Upgrade,
        conn: &ConnMeta,
        pending: &Pending<'_>,
    ) -> Result<Fate<BoxedIo>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let login = self.log_in_any(stream, received, upgrade, conn, pending);
        let (stream, admitted) = login.await?;
        Ok(Fate::Serve(stream, admitted))
    }

    /// Logs in over any stream.
    pub(super) async fn log_in_any<S>(
        &self,
        mut stream: S,
        mut received: Vec<u8>,
        upgrade: &Upgrade,
        conn: &ConnMeta,
        pending: &Pending<'_>,
    ) -> Result<(BoxedIo, Box<Admitted>), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let head = http::upgrade_response(upgrade, &self.hub.public_key());
        match upgrade {
            Upgrade::Derp(derp) => {
                let login =
                    log_in(&mut stream, &head, &mut received, conn, &self.hub, pending).await?;
                let admitted = self.for_task(login, conn, received, derp.ideal_node);
                Ok((Box::new(stream), admitted))
            }
            Upgrade::WebSocket { .. } => {
                self.hub.metrics.gauges().websocket_accepts.add(1);
                stream.write_all(&head).await?;
                let mut stream = WsStream::new(stream, &received);
                let mut received = Vec::new();
                let login =
                    log_in(&mut stream, &[], &mut received, conn, &self.hub, pending).await?;
                let admitted = self.for_task(login, conn, received, false);
                Ok((Box::new(stream), admitted))
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
        waited: Duration,
    ) -> Result<Result<(Vec<u8>, Upgrade), Vec<u8>>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut received, head) = self.read_head(stream, pending, waited).await?;
        match head.route {
            Route::Upgrade(upgrade) if self.pages.serves_derp() => {
                trusted.note_head(&received[..head.len], conn);
                self.hub.metrics.tls_versions.count_request(conn.tls);
                received.drain(..head.len);
                Ok(Ok((received, upgrade)))
            }
            Route::Upgrade(_) | Route::Other => Ok(Err(received)),
        }
    }

    /// Reads the head of a connection's first request, and returns all that has come with it. One
    /// that is not understood is answered.
    pub(super) async fn read_head<S>(
        &self,
        stream: &mut S,
        pending: &Pending<'_>,
        waited: Duration,
    ) -> Result<(Vec<u8>, Head), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut received, mut reader) = (Vec::new(), HeadReader::default());
        let read = async {
            loop {
                match reader.read(&received) {
                    Ok(Some(head)) => return Ok(Ok(head)),
                    Ok(None) => read_more(stream, &mut received, pending).await?,
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        let limit = self.hub.tunables().head_timeout;
        let read = within_rest("request", limit, waited, pin!(read)).await?;
        match read {
            Ok(head) => Ok((received, head)),
            Err(error) => {
                stream.write_all(&http::refusal(error)).await?;
                http::close(stream).await;
                Err(AcceptError::Request("not understood"))
            }
        }
    }

    pub(super) fn for_task(
        &self,
        login: LoggedIn,
        conn: &ConnMeta,
        received: Vec<u8>,
        is_not_ideal: bool,
    ) -> Box<Admitted> {
        let link = Link {
            owner: Owner::Task,
            sink: Sink::Queued {
                waker: None,
                is_stuck: false,
            },
            opener: None,
            rest: Rest::new(&received, &[]),
        };
        self.admitted(login, conn, is_not_ideal, link)
    }

    /// Has the worker serve a client that serves the fewest now that it has logged in: logins take
    /// a while, and connections are served by one worker for days.
    fn hand_over(&self, login: LoggedIn, conn: &ConnMeta, is_not_ideal: bool, link: OwnLink) {
        let worker = self.hub.least_loaded_worker();
        let worker = worker.expect("workers that were there stay");
        worker.load.fetch_add(1, Ordering::Relaxed);
        let link = Link {
            owner: Owner::Worker {
                wire: link.wire,
                inbox: Arc::clone(worker),
            },
            sink: Sink::Direct(link.seal),
            opener: link.opener,
            rest: link.rest,
        };
        let admitted = self.admitted(login, conn, is_not_ideal, link);
        worker.post(Message::Serve(admitted));
    }

    fn admitted(
        &self,
        login: LoggedIn,
        conn: &ConnMeta,
        is_not_ideal: bool,
        link: Link,
    ) -> Box<Admitted> {
        let info = login.hello.info();
        let flags = registry::flags(login.is_mesh_peer, info.is_prober, !is_not_ideal);
        let who = Identity {
            addr: conn.client_addr(),
            tls: conn.tls,
            ..Identity::new(login.hello.key(), self.hub.next_conn(), flags)
        };
        tracing::debug!(conn = %who.id, client = ?who.key, addr = ?who.addr, "client logged in");
        let tunables = self.hub.tunables();
        let queued = Arc::clone(&self.hub.queued);
        Box::new(Admitted {
            peer: Arc::new(Peer::new(who, link.owner, link.sink, queued)),
            server_info: login.server_info,
            opener: link.opener,
            rest: link.rest,
            terms: login.terms,
            keep_alive: tunables.keep_alive + random_below(tunables.keep_alive_jitter),
        })
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
