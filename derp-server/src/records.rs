//! Feeds TLS one record at a time.
//!
//! A connection that is to leave rustls, and go on with nothing but its traffic secrets, must
//! leave no ciphertext behind in there. rustls takes whatever a read gives it, and has no way to
//! return it. So [`RecordAligned`] sits below it and hands over a record only when all of it has
//! arrived, and never the beginning of the next in the same read: whenever rustls has produced
//! plaintext, it has read exactly to the end of a record. That there may be more plaintext than was
//! asked for is another matter: it can be read from rustls until there is none.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Content type, version and length (RFC 8446, 5.1).
const HEADER_LEN: usize = 5;

/// The content type of protected records, whatever is in them.
const APPLICATION_DATA: u8 = 23;

/// How long a protected record may be without its header (RFC 8446, 5.2). No cipher suite of TLS
/// 1.2 that is offered here adds more.
const MAX_PAYLOAD_LEN: usize = 16 * 1024 + 256;

/// What a client sends in protected records until the handshake is over: the end of its handshake,
/// and the first record behind it, which TLS may read at once.
const MAX_PROTECTED_LEN: usize = MAX_PAYLOAD_LEN + 1024;

/// How many bytes are read at once.
const READ_CHUNK: usize = 4 * 1024;

/// Reads whole TLS records from `IO`, one at a time; writes pass through.
///
/// What is read is kept in a buffer that grows with the bytes that have come, not with the length
/// that a header claims, and that is given back when it is empty.
#[derive(Debug)]
pub(crate) struct RecordAligned<IO> {
    io: IO,
    /// Received, from the rest of the current record on: a record and a read at most.
    buf: Vec<u8>,
    /// How much of `buf` was handed over.
    start: usize,
    /// Where in `buf` the record ends that is being handed over.
    end: usize,
    /// What a handshake may still make TLS hold, while it goes on.
    left: Option<Left>,
}

/// How many bytes of a handshake may still be handed over. TLS puts a message together out of as
/// many records as it is announced to have, and that may be 64 KiB.
#[derive(Debug)]
struct Left {
    plain: usize,
    protected: usize,
}

impl<IO> RecordAligned<IO> {
    /// Reads from `io`, whose next byte must be the first of a record.
    pub(crate) const fn new(io: IO) -> Self {
        Self {
            io,
            buf: Vec::new(),
            start: 0,
            end: 0,
            left: None,
        }
    }

    /// The same, where a handshake comes first, whose hello may have `max_hello_len` bytes.
    pub(crate) const fn for_handshake(io: IO, max_hello_len: usize) -> Self {
        let mut aligned = Self::new(io);
        aligned.left = Some(Left {
            plain: max_hello_len,
            protected: MAX_PROTECTED_LEN,
        });
        aligned
    }

    /// The handshake is over: records are no longer counted.
    pub(crate) const fn end_handshake(&mut self) {
        self.left = None;
    }

    /// The stream beneath, and what was read from it and not handed over: the beginning of a
    /// record, unless a record was left half read.
    pub(crate) fn into_parts(mut self) -> (IO, Vec<u8>) {
        self.buf.drain(..self.start);
        (self.io, self.buf)
    }

    /// Marks the next record, if all of it is there, as the one to hand over.
    fn advance(&mut self) -> io::Result<bool> {
        debug_assert_eq!(
            self.start, self.end,
            "a record is left before the next begins"
        );
        let unread = &self.buf[self.start..];
        let Some(header) = unread.first_chunk::<HEADER_LEN>() else {
            return Ok(false);
        };
        let [content_type, major, _, high, low] = *header;
        let payload_len = usize::from(u16::from_be_bytes([high, low]));
        // Content types: change of cipher spec, alert, handshake, application data. Anything
        // else is not TLS, most often plain HTTP, whose text would pass for a length to wait for.
        if !(20..=23).contains(&content_type) || major != 3 {
            return Err(invalid("not a TLS record"));
        }
        if payload_len > MAX_PAYLOAD_LEN {
            return Err(invalid("TLS record too long"));
        }
        let has_come = unread.len() >= HEADER_LEN + payload_len;
        if let Some(left) = &mut self.left {
            let left = match content_type {
                APPLICATION_DATA => &mut left.protected,
                _ => &mut left.plain,
            };
            let less = left.checked_sub(payload_len);
            let less = less.ok_or_else(|| invalid("TLS handshake too long"))?;
            if has_come {
                *left = less;
            }
        }
        if !has_come {
            return Ok(false);
        }
        let record_len = HEADER_LEN + payload_len;
        self.end = self.start + record_len;
        Ok(true)
    }

    /// Gives the memory of what was handed over back.
    fn forget(&mut self) {
        if self.start > 0 {
            // Unlike `drain`, leaves no more capacity than is needed.
            self.buf = self.buf.split_off(self.start);
        }
        self.end -= self.start;
        self.start = 0;
    }
}

impl<IO: AsyncRead + Unpin> RecordAligned<IO> {
    /// Waits until there is a record to hand over; `false` at the end of the input. For the first
    /// one, before anybody reads.
    pub(crate) async fn has_record(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| self.poll_record(cx)).await
    }

    /// Reads until a record is complete; ready with `false` at the end of the input.
    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while !self.advance()? {
            self.forget();
            let mut chunk = [MaybeUninit::uninit(); READ_CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.buf.extend_from_slice(chunk.filled());
        }
        Poll::Ready(Ok(true))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for RecordAligned<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.start == this.end && !ready!(this.poll_record(cx))? {
            return Poll::Ready(Ok(()));
        }
        let len = buf.remaining().min(this.end - this.start);
        buf.put_slice(&this.buf[this.start..this.start + len]);
        this.start += len;
        if this.start == this.buf.len() {
            this.forget();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for RecordAligned<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
