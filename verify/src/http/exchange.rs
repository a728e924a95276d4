//! One request and its answer over a stream.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::answer::{self, Answer, Head};
use super::body;

/// A header line of a request: its name as it is written, and its value.
pub(crate) type Line<'a> = (&'a str, &'a str);

/// A request, written byte for byte as Go's client writes it.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    /// What stands in the request line.
    pub(crate) target: &'a str,
    pub(crate) host: &'a str,
    /// Between the lines that Go's client writes by itself, in the order of their names.
    pub(crate) lines: &'a [Line<'a>],
    /// Present in requests that have a body, if an empty one.
    pub(crate) body: Option<&'a [u8]>,
    /// How many bytes the answer's body may have, unpacked and with all that trails it.
    pub(crate) max_body: usize,
}

impl Request<'_> {
    fn to_bytes(self) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Go-http-client/1.1\r\n",
            self.method, self.target, self.host
        );
        let mut line = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                text.push_str(part);
            }
        };
        if let Some(body) = self.body {
            line("Content-Length", &body.len().to_string());
        }
        for (name, value) in self.lines {
            line(name, value);
        }
        line("Accept-Encoding", "gzip");
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(self.body.unwrap_or_default());
        bytes
    }
}

/// What went wrong before an answer was whole.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// The stream failed before the answer's head was whole.
    #[error("the connection failed")]
    Connection {
        /// Nothing of an answer came: a kept connection that was closed meanwhile looks so.
        unanswered: bool,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer's head was not there by the deadline.
    #[error("no answer in time")]
    TimedOut,
    /// What came is no answer, or not all of one. For the log.
    #[error("{0}")]
    Answer(String),
}

/// Sends `request` and reads the answer. Its body counts only where the status is 200: of other
/// answers it is what there was to be had, for the log.
///
/// Dropping the future leaves the stream in the middle of something; it must not be used again.
pub(crate) async fn exchange<S>(
    stream: &mut S,
    request: Request<'_>,
    deadline: Instant,
) -> Result<Answer, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = Received {
        stream,
        bytes: Vec::new(),
    };
    let head = timeout_at(deadline, head_of_answer(&mut received, request)).await;
    let (head, is_written) = head.map_err(|_| Fault::TimedOut)??;
    let body = timeout_at(deadline, body::read(&mut received, &head, request.max_body)).await;
    // Who began to answer was reached, and what then goes wrong is a wrong answer.
    match body.unwrap_or_else(|_| Err("did not come whole in time".to_owned())) {
        Ok(body) => {
            let reusable = head.keeps_open() && is_written;
            Ok(head.answer(body, reusable))
        }
        Err(_) if head.status != 200 => {
            received.bytes.truncate(request.max_body);
            let Received { bytes, .. } = received;
            Ok(head.answer(bytes, false))
        }
        Err(why) => Err(Fault::Answer(why)),
    }
}

/// Sends `request` and reads the status of the answer, after which the stream is somebody else's.
#[cfg(feature = "_tls")]
pub(super) async fn exchange_head<S>(stream: &mut S, request: Request<'_>) -> Result<u16, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = Received {
        stream,
        bytes: Vec::new(),
    };
    let (head, _) = head_of_answer(&mut received, request).await?;
    if head.status == 200 && !received.bytes.is_empty() {
        return Err(Fault::Answer(
            "the proxy spoke before it was spoken to".to_owned(),
        ));
    }
    Ok(head.status)
}

/// The head of the answer, and whether the request was written whole.
async fn head_of_answer<S>(
    received: &mut Received<'_, S>,
    request: Request<'_>,
) -> Result<(Head, bool), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |unanswered| move |source| Fault::Connection { unanswered, source };
    let written = async {
        received.stream.write_all(&request.to_bytes()).await?;
        received.stream.flush().await
    };
    // A server may answer before it has read everything, and close: its answer counts.
    let written = written.await;
    let mut interim = 0;
    loop {
        if let Some((head, len)) = answer::head(&received.bytes)? {
            received.bytes.drain(..len);
            // An interim answer; the one that counts follows.
            if !(100..200).contains(&head.status) || head.status == 101 {
                return Ok((head, written.is_ok()));
            }
            interim += 1;
            if interim > MOST_INTERIM {
                return Err(Fault::Answer("interim answers without end".to_owned()));
            }
            continue;
        }
        let unanswered = received.bytes.is_empty() && interim == 0;
        if let Err(err) = received.more().await {
            return Err(failed(unanswered)(written.err().unwrap_or(err)));
        }
    }
}

/// A stream, and what was read from it and not yet used.
pub(super) struct Received<'a, S> {
    stream: &'a mut S,
    pub(super) bytes: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Received<'_, S> {
    /// Reads more, of which there must be some.
    pub(super) async fn more(&mut self) -> io::Result<()> {
        if self.more_or_end().await? {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "closed before the answer was whole",
        ))
    }

    /// Reads more; false at the stream's end.
    pub(super) async fn more_or_end(&mut self) -> io::Result<bool> {
        self.bytes.reserve(READ_LEN);
        let mut piece = (&mut *self.stream).take(READ_LEN as u64);
        Ok(piece.read_buf(&mut self.bytes).await? > 0)
    }
}

/// How many bytes are read at a time, so that no more than these are held beyond a limit.
const READ_LEN: usize = 8 << 10;
/// How many interim answers may come before the one that counts.
const MOST_INTERIM: u32 = 5;
