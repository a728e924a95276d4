//! A client on one connection: log in, send, receive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use derp_proto::{NodePublic, ServerIdentity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::error::{LoginError, PingError, RecvError, SendError};
use crate::inbound::Inbound;
use crate::link::{BoxStream, Link};
use crate::login::Login;
use crate::outbound::Outbound;
use crate::random;
use crate::reader::ClientReader;
use crate::received::Received;
use crate::session::Session;
use crate::writer::ClientWriter;

/// How long [`Client::handshake_over`] waits for the server's greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that has logged in.
///
/// Logging in does not wait for the server to admit the client: packets may be sent at once, and
/// the first thing that is received says that it did ([`Received::ServerInfo`]).
///
/// Nothing happens in the background. While nobody calls [`recv`](Self::recv), pings are not
/// answered, and a server gives up on a client that does not read.
#[derive(Debug)]
pub struct Client {
    reader: ClientReader,
    writer: ClientWriter,
}

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The server as an operator knows it.
    pub server: String,
    /// The server's key. It is proved once [`Received::ServerInfo`] has come.
    pub server_key: NodePublic,
    /// The name of the node in its map.
    pub node: Option<String>,
    /// This side's address.
    pub local_addr: Option<SocketAddr>,
    /// The other side's address: the server's, or the proxy's.
    pub peer_addr: Option<SocketAddr>,
    /// How the connection began.
    pub start: StartKind,
    /// The version of TLS, where TLS is spoken.
    pub tls_version: Option<rustls::ProtocolVersion>,
}

/// How a DERP connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartKind {
    /// On a stream of the caller's, without HTTP.
    Direct,
    /// With an HTTP response and a greeting.
    Slow,
    /// With the client's first frame right behind the request: TLS has told the server's key.
    Fast,
    /// In a WebSocket.
    WebSocket,
}

/// How to begin on a stream.
#[derive(Debug)]
pub(crate) enum Start {
    /// The server is known, and `request` is still to be sent in front of the first frame.
    Known {
        server: ServerIdentity,
        request: Vec<u8>,
    },
    /// The server greets; `read` is what was read already.
    Greeting { read: BytesMut, is_websocket: bool },
}

impl Client {
    /// Logs in on a stream on which the server is about to greet: what comes after TLS and the
    /// HTTP upgrade, or a pipe to a server in this process.
    ///
    /// # Errors
    /// Where the server's greeting breaks the protocol or does not come within ten seconds, or the
    /// stream breaks.
    pub async fn handshake_over<S>(io: S, login: &Login) -> Result<Self, LoginError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let start = Start::Greeting {
            read: BytesMut::new(),
            is_websocket: false,
        };
        let about = |server_key| ConnectionInfo {
            server: "a stream".to_owned(),
            server_key,
            node: None,
            local_addr: None,
            peer_addr: None,
            start: StartKind::Direct,
            tls_version: None,
        };
        match timeout(
            GREETING_TIMEOUT,
            Self::log_in(Box::new(io), start, login, about),
        )
        .await
        {
            Ok(client) => client,
            Err(_) => Err(LoginError::Timeout(GREETING_TIMEOUT)),
        }
    }

    /// Logs in on a stream; the caller keeps the time. `about` makes what is known of the
    /// connection of the server's key.
    pub(crate) async fn log_in(
        mut io: BoxStream,
        start: Start,
        login: &Login,
        about: impl FnOnce(NodePublic) -> ConnectionInfo,
    ) -> Result<Self, LoginError> {
        let (server, inbound, is_websocket, mut first) = match start {
            Start::Known { server, request } => {
                (server, Inbound::new(BytesMut::new(), false), false, request)
            }
            Start::Greeting { read, is_websocket } => {
                let mut inbound = Inbound::new(read, is_websocket);
                let server = greeting(&mut io, &mut inbound).await?;
                (server, inbound, is_websocket, Vec::new())
            }
        };
        let await_info = server.hello(&login.key, &login.info, random::bytes(), &mut first)?;
        login.encode_requests(&mut first);

        // Request, login and what follows it are one write, so that they travel together.
        let mut out = Outbound::new(is_websocket);
        out.encoded(&first);
        while !out.is_empty() {
            if io.write_buf(out.unwritten()).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into());
            }
        }
        io.flush().await?;

        let (read_half, write_half) = tokio::io::split(io);
        let link = Arc::new(Link::new(write_half, out, about(server.key())));
        let session = Session::new(await_info);
        Ok(Self {
            reader: ClientReader::new(read_half, inbound, session, Arc::clone(&link)),
            writer: ClientWriter::new(link),
        })
    }

    /// The two halves, for two tasks. Writers can be cloned.
    #[must_use]
    pub fn split(self) -> (ClientReader, ClientWriter) {
        (self.reader, self.writer)
    }

    /// A handle for sending; it can be cloned, and used while this side receives.
    #[must_use]
    pub const fn writer(&self) -> &ClientWriter {
        &self.writer
    }

    /// What is known of the connection.
    #[must_use]
    pub fn info(&self) -> &ConnectionInfo {
        self.writer.info()
    }

    /// See [`ClientReader::recv`].
    ///
    /// # Errors
    /// See there.
    pub async fn recv(&mut self) -> Result<Received, RecvError> {
        self.reader.recv().await
    }

    /// See [`ClientWriter::send`].
    ///
    /// # Errors
    /// See there.
    pub async fn send(&self, dst: NodePublic, packet: &[u8]) -> Result<(), SendError> {
        self.writer.send(dst, packet).await
    }

    /// Sends a ping and receives until its pong comes; returns how long that took. Everything
    /// else that comes is handed to `other`.
    ///
    /// For a client that does nothing else at the time; where another task receives, use
    /// [`ClientWriter::ping`]. Dropping the future loses nothing but the ping's answer.
    ///
    /// # Errors
    /// See [`ClientWriter::ping`].
    pub async fn ping(&mut self, mut other: impl FnMut(Received)) -> Result<Duration, PingError> {
        let ping = self.writer.ping();
        tokio::pin!(ping);
        loop {
            tokio::select! {
                biased;
                answered = &mut ping => return answered,
                received = self.reader.recv() => match received {
                    Ok(received) => other(received),
                    Err(err) => {
                        tracing::debug!(%err, "the connection ended while a ping was out");
                        return Err(PingError::Ended);
                    }
                },
            }
        }
    }

    /// Says goodbye and closes the connection.
    pub async fn shutdown(self) {
        self.writer.shutdown().await;
    }
}

/// Reads until the server has greeted.
async fn greeting(io: &mut BoxStream, inbound: &mut Inbound) -> Result<ServerIdentity, LoginError> {
    loop {
        if let Some(server) = inbound.greeting()? {
            return Ok(server);
        }
        if io.read_buf(inbound.buffer()).await? == 0 {
            return Err(LoginError::Closed);
        }
    }
}
