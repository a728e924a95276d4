//! Where connections come from, and a loop that accepts them and never ends by itself.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener as StdUnixListener};
use std::sync::Arc;
use std::time::Duration;

use derp_verify::ListenerId;
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::accept::Front;
use crate::error::AcceptError;
use crate::forwarded::TrustedProxies;
use crate::hub::Hub;
use crate::proxy_protocol::ProxyProtocol;
use crate::refusals::Lines;
use crate::socket::{Socket, SocketOptions};
use crate::tls::ConfigFor;

/// A bound socket that accepts connections.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listener {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix socket, behind a proxy on the same machine.
    Unix(UnixListener),
}

impl Listener {
    /// Takes over a listening socket that was bound elsewhere, as by a service manager.
    ///
    /// # Errors
    /// Where it is no stream socket that listens, or the runtime cannot poll it.
    pub fn inherited(fd: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(fd);
        if socket.r#type()? != socket2::Type::STREAM || !socket.is_listener()? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a stream socket that listens",
            ));
        }
        socket.set_nonblocking(true)?;
        if socket.local_addr()?.as_socket().is_some() {
            return TcpListener::from_std(socket.into()).map(Self::Tcp);
        }
        UnixListener::from_std(StdUnixListener::from(OwnedFd::from(socket))).map(Self::Unix)
    }

    /// The address of a TCP socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

/// Where a loop has its connections from.
pub(crate) trait Accept: Send + Sync {
    fn accept(&self) -> impl Future<Output = io::Result<Accepted>> + Send;
}

impl Accept for Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, peer))
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// A connection that has come.
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// What a listener's connections are.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ListenOptions {
    /// The listener's name, for verifiers and logs.
    pub id: ListenerId,
    /// Certificates, where the connections are TLS; plain HTTP otherwise.
    pub tls: Option<Arc<dyn ConfigFor>>,
    /// Options of accepted sockets.
    pub socket: SocketOptions,
    /// How many connections are accepted each second; those beyond are closed at once.
    pub accept_limit: Option<AcceptLimit>,
    /// Only redirects to HTTPS and captive portal checks are answered: this is port 80.
    pub only_redirects: bool,
    /// Which connections begin with a PROXY header, before TLS and before HTTP.
    pub proxy_protocol: Arc<ProxyProtocol>,
    /// Whose HTTP headers are believed about where a request comes from.
    pub trusted_proxies: Arc<TrustedProxies>,
}

/// How many connections a listener accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AcceptLimit {
    /// Connections per second.
    pub per_second: f64,
    /// How many may come at once.
    pub burst: f64,
}

impl ListenOptions {
    /// Plain HTTP without limits.
    #[must_use]
    pub fn plain(name: &str) -> Self {
        Self {
            id: ListenerId::new(name),
            ..Self::default()
        }
    }

    /// TLS with the certificates of `tls`.
    #[must_use]
    pub fn tls(name: &str, tls: Arc<dyn ConfigFor>) -> Self {
        Self {
            tls: Some(tls),
            ..Self::plain(name)
        }
    }
}

impl fmt::Debug for ListenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenOptions")
            .field("id", &self.id)
            .field("tls", &self.tls.is_some())
            .field("socket", &self.socket)
            .field("proxy_protocol", &self.proxy_protocol)
            .field("trusted_proxies", &self.trusted_proxies)
            .finish_non_exhaustive()
    }
}

/// The pauses after errors of accept, which mostly mean that something has run out.
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// How often the log is told of such errors.
const LINE_EACH: Duration = Duration::from_secs(10);

/// Accepts and serves connections until `stop` changes. Whatever goes wrong with one of them, or
/// with accepting, the next is accepted.
pub(crate) async fn accept_loop(
    listener: impl Accept,
    options: ListenOptions,
    front: Arc<Front>,
    mut stop: watch::Receiver<bool>,
) {
    let gauges = Arc::clone(&front.hub.metrics.gauges);
    let mut connections = JoinSet::new();
    let mut pause = MIN_PAUSE;
    let mut reserve = Reserve::new();
    // Errors may come and go by turns. They have lines of their own: strangers are not to hide them.
    let mut lines = Lines::new(1, LINE_EACH, crate::clock::now());
    // One for all connections: each keeps it for as long as it is silent.
    let options = Arc::new(options);
    let mut limiter = options.accept_limit.map(|limit| {
        crate::rate_limit::TokenBucket::new(limit.per_second, limit.burst, crate::clock::now())
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                note_panic(&ended, &front.hub);
                continue;
            }
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                gauges.accept_errors.add(1);
                if let Some(untold) = lines.tell(crate::clock::now()) {
                    let listener = options.id.as_str();
                    tracing::warn!(listener, %error, ?pause, untold, "cannot accept");
                }
                if is_out_of_descriptors(&error) && reserve.turn_away(&listener).await {
                    gauges.rejected_connections.add(1);
                    continue;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
                continue;
            }
        };
        pause = MIN_PAUSE;
        if let Some(limiter) = &mut limiter
            && limiter.take(1.0, crate::clock::now()).is_err()
        {
            gauges.rejected_connections.add(1);
            continue;
        }
        gauges.accepted_connections.add(1);
        let front = Arc::clone(&front);
        let options = Arc::clone(&options);
        match accepted {
            // Borrowed, for what is handed to a future by value is in it twice.
            Accepted::Tcp(stream, peer) => {
                connections
                    .spawn(async move { serve(stream, &Some(peer), &options, &front).await });
            }
            Accepted::Unix(stream) => {
                connections.spawn(async move { serve(stream, &None, &options, &front).await });
            }
        }
    }
    drop(listener);
    // Sessions that are tasks end when their clients are closed, and everybody else at once.
    while let Some(ended) = connections.join_next().await {
        note_panic(&ended, &front.hub);
    }
}

/// A descriptor for the day when there are no more: with it a connection is accepted and closed, so
/// that a client looks for another relay at once, and does not wait in the listener's queue.
struct Reserve(Option<UnixDatagram>);

impl Reserve {
    fn new() -> Self {
        Self(UnixDatagram::unbound().ok())
    }

    /// Accepts the next connection and closes it, where there is one and the reserve is enough.
    async fn turn_away(&mut self, listener: &impl Accept) -> bool {
        let is_held = self.0.take().is_some();
        let mut is_closed = false;
        if is_held {
            let next = tokio::time::timeout(MIN_PAUSE, listener.accept()).await;
            is_closed = matches!(next, Ok(Ok(_)));
        }
        *self = Self::new();
        is_closed
    }
}

/// Whether there are as many as this process, or all together, may have.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

fn note_panic(ended: &Result<(), tokio::task::JoinError>, hub: &Hub) {
    let Some(error) = ended.as_ref().err().filter(|error| error.is_panic()) else {
        return;
    };
    hub.metrics.gauges().panics.add(1);
    if let Some(untold) = hub.tell() {
        tracing::error!(%error, untold, "a connection's task panicked; others are not affected");
    }
}

async fn serve<S: Socket>(
    socket: S,
    peer: &Option<SocketAddr>,
    options: &ListenOptions,
    front: &Front,
) {
    if let Err(error) = socket.prepare(&options.socket) {
        // Most likely it has gone already; if not, it will do without.
        tracing::debug!(%error, "cannot set options of a connection");
    }
    // Made once it has said something.
    let mut conn = None;
    let result = front.accept_socket(socket, peer, &mut conn, options).await;
    // By now a proxy may have said who it was.
    let client = conn.map_or(*peer, |conn| conn.client_addr());
    match result {
        // The log has been told of refusals, as far as it wants to hear of them.
        Ok(())
        | Err(
            AcceptError::Session(_)
            | AcceptError::Stopping
            | AcceptError::Denied(_)
            | AcceptError::Unverified(_),
        ) => {}
        Err(error) if error.is_peer_fault() => {
            tracing::debug!(
                ?client,
                error = &error as &dyn std::error::Error,
                "not a client"
            );
        }
        Err(error) => {
            if let Some(untold) = front.hub.tell() {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(?client, error, untold, "client not served");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Mutex, PoisonError};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::accept::tests::front;

    /// Accepts what it was given, one after another.
    struct Given(Mutex<VecDeque<io::Result<Accepted>>>);

    impl Accept for Given {
        async fn accept(&self) -> io::Result<Accepted> {
            let next = self
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            match next {
                Some(next) => next,
                None => std::future::pending().await,
            }
        }
    }

    const PROBE: &[u8] = b"GET /derp/probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

    /// What each client of a listener is answered that has these errors in front of each, and how
    /// many errors and connections it has counted: accepted and rejected ones.
    async fn answers(errors: &[Errno], clients: usize) -> (Vec<bool>, [u64; 3]) {
        let front = front(derp_verify::AllowAll, |_| {});
        let (mut given, mut theirs) = (VecDeque::new(), Vec::new());
        for _ in 0..clients {
            let (client, accepted) = UnixStream::pair().unwrap();
            given.extend(errors.iter().map(|errno| Err((*errno).into())));
            given.push_back(Ok(Accepted::Unix(accepted)));
            theirs.push(client);
        }
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept_loop(
            Given(Mutex::new(given)),
            ListenOptions::plain("main"),
            Arc::clone(&front),
            stopped,
        ));
        let mut answers = Vec::new();
        for mut client in theirs {
            let mut answer = Vec::new();
            // It may be closed already.
            let _sent = client.write_all(PROBE).await;
            let _how_it_ended = client.read_to_end(&mut answer).await;
            answers.push(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
        let gauges = front.hub.metrics.gauges();
        let counts = [
            &gauges.accept_errors,
            &gauges.accepted_connections,
            &gauges.rejected_connections,
        ];
        let counts = counts.map(|gauge| gauge.get());
        stop.send_replace(true);
        accepting.await.unwrap();
        (answers, counts)
    }

    #[tokio::test]
    async fn errors_of_accept_are_counted_and_the_next_connection_is_served() {
        let errors = [Errno::NOMEM, Errno::CONNABORTED, Errno::NOBUFS];
        assert_eq!(answers(&errors, 2).await, (vec![true; 2], [6, 2, 0]));
    }

    #[tokio::test]
    async fn where_descriptors_are_short_clients_are_turned_away_and_do_not_wait() {
        let turned_away = (vec![false; 3], [3, 0, 3]);
        assert_eq!(answers(&[Errno::MFILE], 3).await, turned_away);
        // Somebody else has taken the reserve; after a pause it is there for the next.
        let served = (vec![true; 2], [2, 2, 0]);
        assert_eq!(answers(&[Errno::NFILE, Errno::MFILE], 2).await, served);
    }
}
