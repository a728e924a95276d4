//! The head of an HTTP response, of bounded size.

use bytes::{Buf, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head that is read, in bytes.
const MAX_HEAD_LEN: usize = 16 << 10;
/// The most header lines in it.
const MAX_HEADERS: usize = 64;
/// How many bytes are read at a time.
const READ_LEN: usize = 2 << 10;

/// Status and headers of a response.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads until the head is whole. What follows it stays in `buf`.
    ///
    /// Cancel safe: what was read stays in `buf`, and the next call looks at it again.
    pub(crate) async fn read(
        io: &mut (impl AsyncRead + Unpin),
        buf: &mut BytesMut,
    ) -> Result<Self, HeadError> {
        loop {
            if let Some((head, len)) = Self::parse(buf)? {
                buf.advance(len);
                return Ok(head);
            }
            if buf.len() >= MAX_HEAD_LEN {
                return Err(HeadError::TooLong);
            }
            buf.reserve(READ_LEN);
            if io.read_buf(buf).await? == 0 {
                return Err(HeadError::Closed);
            }
        }
    }

    /// The head at the front of `bytes` and its length, or `None` where more bytes are needed.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(|_| HeadError::Malformed)?;
        let httparse::Status::Complete(len) = parsed else {
            return Ok(None);
        };
        if len > MAX_HEAD_LEN {
            return Err(HeadError::TooLong);
        }
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let headers = response
            .headers
            .iter()
            .map(|h| (h.name.to_owned(), text(h.value)));
        let headers = headers.collect();
        let status = response.code.expect("a response that parsed has a status");
        Ok(Some((Self { status, headers }, len)))
    }

    /// The values of a header, in their order; its name is compared without regard to case.
    pub(crate) fn header(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = move |(given, _): &&(String, String)| given.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(named)
            .map(|(_, value)| value.as_str())
    }
}

/// A response without a head that can be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The connection was closed first.
    #[error("the connection was closed before an HTTP response came")]
    Closed,
    /// It is longer than any honest one.
    #[error("the head of the HTTP response is longer than {MAX_HEAD_LEN} bytes")]
    TooLong,
    /// It is not HTTP.
    #[error("the response is not HTTP")]
    Malformed,
    /// The network broke the connection.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> Result<(Head, BytesMut), HeadError> {
        let mut buf = BytesMut::new();
        let head = Head::read(&mut bytes, &mut buf).await?;
        buf.extend_from_slice(bytes);
        Ok((head, buf))
    }

    #[tokio::test]
    async fn what_follows_the_head_is_kept() {
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nx: 1\r\nX: 2\r\n\r\n\x01\0";
        let (head, rest) = read(answer).await.unwrap();
        assert_eq!((head.status, &rest[..]), (101, &b"\x01\0"[..]));
        assert_eq!(head.header("X").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[tokio::test]
    async fn a_hostile_response_ends_early() {
        let endless = [&b"HTTP/1.1 101 x\r\n"[..], &b"a: bcdefgh\r\n".repeat(4000)].concat();
        assert!(matches!(read(&endless).await, Err(HeadError::Malformed)));
        let endless = [&b"HTTP/1.1 101 x\r\na: "[..], &[b'x'; 64 << 10]].concat();
        assert!(matches!(read(&endless).await, Err(HeadError::TooLong)));
        assert!(matches!(
            read(b"SSH-2.0-x\r\n\r\n").await,
            Err(HeadError::Malformed)
        ));
        assert!(matches!(
            read(b"HTTP/1.1 200 OK\r\n").await,
            Err(HeadError::Closed)
        ));
    }
}
