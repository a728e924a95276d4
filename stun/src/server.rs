//! A STUN server: a UDP socket around [`respond()`].
//!
//! Binding is apart from serving, so that whoever starts a relay learns of a taken port before
//! the relay says that it runs. There is no rate limit (answers are no larger than what asked for
//! them, within 4 bytes), no memory of clients, and no log line per datagram.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{task::yield_now, time::sleep};
use tracing::{info, warn};

use crate::{
    BindError, CounterSnapshot, MAX_RESPONSE_LEN, Outcome,
    backoff::Backoff,
    counters::Counters,
    respond,
    socket::{Answer, Batch, BatchSocket, Datagram, Datagrams},
};

/// A STUN server that is bound and not yet serving.
#[derive(Debug)]
pub struct StunServer {
    socket: BatchSocket,
    handle: StunHandle,
}

impl StunServer {
    /// Binds `addr`; port 0 lets the system choose. `[::]` also serves IPv4.
    ///
    /// # Errors
    ///
    /// [`BindError`] if the port is taken or the address is not this machine's.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled.
    pub fn bind(addr: SocketAddr) -> Result<Self, BindError> {
        BatchSocket::bind(addr)
            .map(Self::with_socket)
            .map_err(|source| BindError { addr, source })
    }

    /// Serves on a socket that somebody else bound, such as a service manager.
    ///
    /// # Errors
    ///
    /// If the socket refuses the options by which it tells which address was asked.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        BatchSocket::from_std(socket).map(Self::with_socket)
    }

    fn with_socket(socket: BatchSocket) -> Self {
        Self {
            socket,
            handle: StunHandle::default(),
        }
    }

    /// The bound address, with the port that the system chose if it was asked to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// A handle on this server, valid before, during and after serving.
    #[must_use]
    pub fn handle(&self) -> StunHandle {
        self.handle.clone()
    }

    /// Answers requests until the future is dropped, which closes the socket.
    ///
    /// Never ends by itself: a failing read is counted and tried again after a pause.
    pub async fn serve(self) -> Infallible {
        serve(&self.socket, &self.handle.0).await
    }

    /// Answers requests until `shutdown` is ready, then closes the socket.
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = shutdown => (),
            never = self.serve() => match never {},
        }
    }
}

/// Watches and steers a [`StunServer`]; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StunHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counters: Counters,
    quiet: AtomicBool,
}

impl StunHandle {
    /// The counters now.
    #[must_use]
    pub fn counters(&self) -> CounterSnapshot {
        self.0.counters.snapshot()
    }

    /// Stops answering: clients then measure this relay as gone and choose another, which is
    /// what a relay wants that is about to stop.
    ///
    /// Requests are still read and thrown away, so that none is answered late.
    pub fn be_quiet(&self) {
        self.0.quiet.store(true, Relaxed);
    }

    /// Answers again after [`be_quiet`](Self::be_quiet).
    pub fn resume(&self) {
        self.0.quiet.store(false, Relaxed);
    }

    /// Whether the server was told to be quiet.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.0.quiet.load(Relaxed)
    }
}

async fn serve(socket: &impl Datagrams, shared: &Shared) -> Infallible {
    let mut batch = Batch::new();
    let mut backoff = Backoff::default();
    loop {
        if let Err(error) = socket.receive(&mut batch).await {
            shared.counters.read_error.increment();
            if backoff.is_fresh() {
                warn!(%error, "cannot read STUN requests; trying again until it works");
            }
            sleep(backoff.failed()).await;
            continue;
        }
        if !backoff.is_fresh() {
            info!("reading STUN requests works again");
            backoff.succeeded();
        }
        for datagram in batch.datagrams() {
            answer(socket, shared, datagram).await;
        }
        if batch.is_full() {
            // In a flood the socket is always ready: without this the relay's other tasks on
            // this thread would wait for the flood to end.
            yield_now().await;
        }
    }
}

async fn answer(socket: &impl Datagrams, shared: &Shared, datagram: Datagram<'_>) {
    let counters = &shared.counters;
    if shared.quiet.load(Relaxed) {
        counters.quiet.increment();
        return;
    }
    let mut out = [0; MAX_RESPONSE_LEN];
    let Outcome::Success { family, len } = respond(datagram.bytes, datagram.from, &mut out) else {
        counters.not_stun.increment();
        return;
    };
    counters.family(family).increment();
    let answer = Answer {
        bytes: out.get(..len).unwrap_or(&out),
        to: datagram.from,
        from: datagram.asked,
    };
    match socket.send(answer).await {
        Ok(()) => counters.success.increment(),
        Err(_) => counters.write_error.increment(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::pending, sync::Mutex, time::Duration};

    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::{BindingRequest, TxId};

    /// What one read brings: a datagram and its sender.
    type Read = io::Result<(Vec<u8>, SocketAddr)>;

    /// What was counted; and what was sent, where to, how long after the start.
    type Run = (CounterSnapshot, Vec<(usize, SocketAddr, Duration)>);

    /// A socket that reads from a script, then nothing more, and fails to send to port 9.
    struct Scripted {
        reads: Mutex<VecDeque<Read>>,
        sent: Mutex<Vec<(usize, SocketAddr, Duration)>>,
        started: Instant,
    }

    impl Datagrams for Scripted {
        async fn receive(&self, batch: &mut Batch) -> io::Result<()> {
            let read = self.reads.lock().unwrap().pop_front();
            let Some(read) = read else {
                return pending().await;
            };
            let (bytes, from) = read?;
            batch.fill(|buffers, meta| {
                buffers[0][..bytes.len()].copy_from_slice(&bytes);
                meta[0].len = bytes.len();
                meta[0].stride = bytes.len();
                meta[0].addr = from;
                Ok(1)
            })
        }

        async fn send(&self, answer: Answer<'_>) -> io::Result<()> {
            if answer.to.port() == 9 {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let sent = (answer.bytes.len(), answer.to, self.started.elapsed());
            self.sent.lock().unwrap().push(sent);
            Ok(())
        }
    }

    fn request_from(from: &str) -> Read {
        let request = BindingRequest {
            txid: TxId::from_bytes([1; 12]),
        };
        Ok((request.encode().to_vec(), from.parse().unwrap()))
    }

    fn read_error() -> Read {
        Err(io::ErrorKind::OutOfMemory.into())
    }

    async fn run(reads: impl IntoIterator<Item = Read>) -> Run {
        let socket = Scripted {
            reads: Mutex::new(reads.into_iter().collect()),
            sent: Mutex::default(),
            started: Instant::now(),
        };
        let shared = Shared::default();
        timeout(Duration::from_secs(60), serve(&socket, &shared))
            .await
            .expect_err("the server never stops");
        (
            shared.counters.snapshot(),
            socket.sent.into_inner().unwrap(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn read_errors_are_counted_and_slow_the_server_down_but_never_end_it() {
        let script = [
            read_error(),
            read_error(),
            read_error(),
            request_from("192.0.2.1:1"),
        ];
        let (counters, sent) = run(script).await;
        let after = Duration::from_millis(10 + 20 + 40);
        // Timers of the paused clock tick in milliseconds.
        assert_eq!(sent.len(), 1);
        assert_eq!((sent[0].0, sent[0].1), (32, "192.0.2.1:1".parse().unwrap()));
        assert!(
            sent[0].2 >= after && sent[0].2 < after * 2,
            "answered after {:?}",
            sent[0].2
        );
        assert_eq!(
            counters,
            CounterSnapshot {
                read_error: 3,
                success: 1,
                ipv4: 1,
                ..Default::default()
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_cannot_be_sent_is_a_write_error_of_its_family() {
        let (counters, sent) =
            run([request_from("[2001:db8::1]:9"), request_from("192.0.2.1:9")]).await;
        assert_eq!(sent, []);
        assert_eq!(
            counters,
            CounterSnapshot {
                write_error: 2,
                ipv4: 1,
                ipv6: 1,
                ..Default::default()
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_answered_counts_as_not_stun_and_has_no_family() {
        let garbage = Ok((b"hello".to_vec(), "192.0.2.1:1".parse().unwrap()));
        let (counters, sent) = run([garbage, request_from("192.0.2.1:0")]).await;
        assert_eq!(sent, []);
        assert_eq!(
            counters,
            CounterSnapshot {
                not_stun: 2,
                ..Default::default()
            }
        );
    }
}
