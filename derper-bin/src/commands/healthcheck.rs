//! `derper healthcheck`: asks the relay on this machine whether it answers, for containers and
//! scripts that have no other program to ask with.
//!
//! It is asked through its own listener, as a client would: TLS handshake, then `/derp/probe`. The
//! certificate is not judged, for whether clients accept it depends on what they trust.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use derp_ops::any_certificate;
use rustls::{ClientConnection, StreamOwned};

use crate::config::{Door, Doorway};

/// How long all of it may take. Docker asks every 30 seconds unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than the relay ever answers.
const MAX_ANSWER: u64 = 16 * 1024;
/// PROXY protocol, version 2, `LOCAL`: the proxy itself is asking.
const PROXY_LOCAL: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Asks; what there is to say of a relay that answers.
///
/// # Errors
/// It does not answer, or with something else, or not in time.
pub(super) fn run(doorway: Doorway) -> anyhow::Result<String> {
    let (done, answer) = mpsc::channel();
    // A thread of its own, for a lookup or a write may take longer than any timeout of a socket.
    thread::spawn(move || done.send(ask(&doorway)));
    match answer.recv_timeout(PATIENCE) {
        Ok(result) => result.map(|()| "healthy\n".to_owned()),
        Err(RecvTimeoutError::Timeout) => bail!("no answer in {PATIENCE:?}"),
        Err(RecvTimeoutError::Disconnected) => bail!("the question could not be asked"),
    }
}

fn ask(doorway: &Doorway) -> anyhow::Result<()> {
    match &doorway.place {
        Door::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE);
            ask_over(
                doorway,
                stream.with_context(|| format!("cannot connect to {address}"))?,
            )
        }
        Door::Unix(path) => {
            let stream = UnixStream::connect(path);
            ask_over(
                doorway,
                stream.with_context(|| format!("cannot connect to unix:{}", path.display()))?,
            )
        }
    }
}

fn ask_over(doorway: &Doorway, mut stream: impl Read + Write) -> anyhow::Result<()> {
    if doorway.wants_proxy_header {
        stream.write_all(&PROXY_LOCAL).context("cannot ask")?;
    }
    let Some(host) = &doorway.tls else {
        return probe(stream, "localhost");
    };
    let config = Arc::new(any_certificate::client_config());
    let tls = ClientConnection::new(config, host.server_name())?;
    probe(StreamOwned::new(tls, stream), &host.to_string()).context("over TLS")
}

fn probe(mut stream: impl Read + Write, host: &str) -> anyhow::Result<()> {
    let request = format!("GET /derp/probe HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("cannot ask")?;
    stream.flush().context("cannot ask")?;
    let mut answer = Vec::new();
    match stream.take(MAX_ANSWER).read_to_end(&mut answer) {
        // Not every server says good-bye by TLS, and the answer is there.
        Err(err) if err.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(err).context("no answer");
        }
        _ => {}
    }
    let line = answer
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    ensure!(
        line.starts_with(b"HTTP/1.1 200 "),
        "the answer is {:?} in place of HTTP/1.1 200 OK",
        String::from_utf8_lossy(line)
    );
    Ok(())
}
