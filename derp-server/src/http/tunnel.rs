//! Carries a connection to elsewhere, for those whose network lets them reach the relay and not
//! the host that they want (`net/connectproxy`). Whom it may lead to is the embedder's to say.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use super::pages::Pages;
use super::serve::close;
use crate::clock;

/// How long connecting may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may carry nothing either way. Long polls and shells that people forget
/// live through it where they keep their connections alive.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How much of each direction is held, in bytes.
const BUFFER_LEN: usize = 8 << 10;
/// What is answered, in these words and without headers, before the other side's bytes.
const OPEN: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// Why a connection does not lead to where it should.
#[derive(Debug, Error)]
pub(crate) enum NoTunnel {
    #[error("no room for another connection to elsewhere")]
    Full,
    #[error("cannot connect")]
    Connect(#[from] io::Error),
}

/// Connects to `target`, and carries bytes both ways until either side ends or nothing goes on for a
/// quarter of an hour. `received` is what came behind the request.
///
/// Dropping the future breaks both connections.
///
/// # Errors
/// There is no such connection; the client has been told.
pub(crate) async fn tunnel<IO: AsyncRead + AsyncWrite + Unpin>(
    mut stream: IO,
    received: Bytes,
    target: &str,
    pages: &Pages,
) -> Result<(), NoTunnel> {
    let Some(_place) = pages.tunnel_place() else {
        refuse(stream, "503 Service Unavailable", "too many connections\n").await;
        return Err(NoTunnel::Full);
    };
    let there = match dial(target).await {
        Ok(there) => there,
        Err(error) => {
            refuse(stream, "502 Bad Gateway", "Connect failure\n").await;
            return Err(error.into());
        }
    };
    if let Err(error) = carry(&mut stream, received, there).await {
        tracing::debug!(target, %error, "a connection to elsewhere ended");
    }
    Ok(())
}

async fn dial(target: &str) -> io::Result<TcpStream> {
    let there = timeout(DIAL_TIMEOUT, TcpStream::connect(target)).await??;
    there.set_nodelay(true)?;
    Ok(there)
}

async fn carry<IO: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut IO,
    received: Bytes,
    mut there: TcpStream,
) -> io::Result<()> {
    let last = Mutex::new(clock::now());
    let opened = async {
        stream.write_all(OPEN).await?;
        stream.flush().await?;
        there.write_all(&received).await
    };
    timeout(IDLE_TIMEOUT, opened).await??;
    let (mut from_here, mut to_here) = tokio::io::split(stream);
    let (mut from_there, mut to_there) = there.split();
    // As in the reference, the end of one direction is the end of both.
    tokio::select! {
        done = pump(&mut from_here, &mut to_there, &last) => done,
        done = pump(&mut from_there, &mut to_here, &last) => {
            done?;
            timeout(DIAL_TIMEOUT, to_here.shutdown()).await?
        }
        () = idle(&last) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Carries bytes until they end, and notes when the last ones went on.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    last: &Mutex<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(bytes @ [_, ..]) = buffer.get(..count) else {
            return Ok(());
        };
        to.write_all(bytes).await?;
        to.flush().await?;
        *last.lock().unwrap_or_else(PoisonError::into_inner) = clock::now();
    }
}

/// Ready when nothing has gone on for so long, in either direction.
async fn idle(last: &Mutex<Instant>) {
    loop {
        let until = *last.lock().unwrap_or_else(PoisonError::into_inner) + IDLE_TIMEOUT;
        if until <= clock::now() {
            return;
        }
        sleep_until(until.into()).await;
    }
}

async fn refuse<IO: AsyncRead + AsyncWrite + Unpin>(mut stream: IO, status: &str, body: &str) {
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    );
    if stream.write_all(response.as_bytes()).await.is_ok() {
        close(stream).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::net::TcpListener;

    use super::*;

    /// The client's end of a tunnel to `target`, which has sent `received` already.
    fn open(target: String, received: &'static [u8], pages: Pages) -> DuplexStream {
        let (client, server) = duplex(1024);
        tokio::spawn(async move {
            let received = Bytes::from_static(received);
            let _how_it_ended = tunnel(server, received, &target, &pages).await;
        });
        client
    }

    async fn read_all(mut client: DuplexStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_one_end_ends_both() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = elsewhere.local_addr().unwrap().to_string();
        let mut client = open(target, b"early ", Pages::default());
        let (mut there, _) = elsewhere.accept().await.unwrap();
        client.write_all(b"late").await.unwrap();
        let mut heard = [0; 10];
        there.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"early late");
        there.write_all(b"answer").await.unwrap();
        drop(there);
        assert_eq!(read_all(client).await, "HTTP/1.1 200 OK\r\n\r\nanswer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_carries_nothing_ends() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = TcpStream::connect(elsewhere.local_addr().unwrap());
        let (far, there) = tokio::join!(elsewhere.accept(), there);
        let ((mut far, _), there) = (far.unwrap(), there.unwrap());
        let (mut client, mut server) = duplex(1024);
        let begin = tokio::time::Instant::now();
        let carried = tokio::spawn(async move { carry(&mut server, Bytes::new(), there).await });
        // What goes on in one direction keeps both.
        sleep_until(begin + IDLE_TIMEOUT / 2).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'x');
        let ended = carried.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        let took = begin.elapsed();
        assert!(took >= IDLE_TIMEOUT * 3 / 2, "{took:?}");
    }

    #[tokio::test]
    async fn where_nobody_listens_the_client_hears_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        drop(listener);
        let answer = read_all(open(target, b"", Pages::default())).await;
        assert!(
            answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with("\r\n\r\nConnect failure\n"), "{answer}");
    }

    #[tokio::test]
    async fn there_is_room_for_so_many() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = elsewhere.local_addr().unwrap().to_string();
        let pages = Pages::default();
        let mut places = Vec::new();
        while let Some(place) = pages.tunnel_place() {
            places.push(place);
        }
        assert_eq!(places.len(), 1024);
        let (client, server) = duplex(1024);
        let refused = tunnel(server, Bytes::new(), &target, &pages).await;
        assert!(matches!(refused, Err(NoTunnel::Full)), "{refused:?}");
        let answer = read_all(client).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}
