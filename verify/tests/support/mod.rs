//! Servers on loopback that answer as they are told, and remember what they were asked.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use derp_proto::NodePublic;
use derp_verify::{Candidate, ConnMeta, Verdict, Verifier, VerifyError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

pub(crate) const ALICE: &str =
    "nodekey:7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";
pub(crate) const BOB: &str =
    "nodekey:0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20";

pub(crate) fn key(text: &str) -> NodePublic {
    text.parse().expect("a key")
}

/// A key that differs for each `n`.
pub(crate) fn nth_key(n: u32) -> NodePublic {
    let mut bytes = [0x42; 32];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    NodePublic::from_bytes(bytes)
}

pub(crate) async fn ask(verifier: &dyn Verifier, key: NodePublic) -> Result<Verdict, VerifyError> {
    let mut conn = ConnMeta::default();
    conn.socket_peer = "[::ffff:192.0.2.7]:4711".parse().ok();
    verifier.verify(&Candidate::new(key, &conn)).await
}

/// `allow`, `deny` or the error's kind.
pub(crate) fn word(answer: &Result<Verdict, VerifyError>) -> &'static str {
    match answer {
        Ok(verdict) if verdict.allow => "allow",
        Ok(_) => "deny",
        Err(VerifyError::Unreachable { .. }) => "unreachable",
        Err(VerifyError::TimedOut(_)) => "timed out",
        Err(VerifyError::Suspended { .. }) => "suspended",
        Err(VerifyError::Overloaded) => "overloaded",
        Err(VerifyError::Refused { .. }) => "refused",
        Err(VerifyError::BadAnswer(_)) => "bad answer",
        Err(_) => "another error",
    }
}

/// What a server does with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, and the connection is closed.
    Last(Vec<u8>),
    /// Nothing, for ever.
    Hang,
}

pub(crate) fn json(status: &str, body: &str) -> Reply {
    let len = body.len();
    Reply::Bytes(format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\n\r\n{body}").into_bytes())
}

type Answers = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

/// A server, for as long as it is held.
pub(crate) struct Fake {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn http(answers: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mut fake = Self::idle(url);
        let (requests, connections) = (fake.requests.clone(), fake.connections.clone());
        let answers: Answers = Arc::new(answers);
        fake.task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                served.spawn(serve(stream, answers.clone(), requests.clone()));
            }
        });
        fake
    }

    pub(crate) fn unix(
        path: &Path,
        answers: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let mut fake = Self::idle(format!("unix://{}", path.display()));
        let (requests, connections) = (fake.requests.clone(), fake.connections.clone());
        let answers: Answers = Arc::new(answers);
        fake.task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                served.spawn(serve(stream, answers.clone(), requests.clone()));
            }
        });
        fake
    }

    fn idle(url: String) -> Self {
        Self {
            url,
            requests: Arc::default(),
            connections: Arc::default(),
            task: tokio::spawn(async {}),
        }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no test panicked here").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Ends it with all its connections; its port refuses from now on.
    pub(crate) async fn kill(self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answers: Answers,
    requests: Arc<Mutex<Vec<String>>>,
) {
    while let Some(request) = read_request(&mut stream).await {
        let reply = answers(&request);
        requests
            .lock()
            .expect("no test panicked here")
            .push(request);
        match reply {
            Reply::Bytes(bytes) if stream.write_all(&bytes).await.is_ok() => {}
            Reply::Bytes(_) => return,
            Reply::Last(bytes) => {
                drop(stream.write_all(&bytes).await);
                return;
            }
            Reply::Hang => std::future::pending().await,
        }
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let len = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= len.map_or(0, |len| len.parse().expect("a length")) {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
