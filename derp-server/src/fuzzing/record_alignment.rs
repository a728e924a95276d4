//! The layer below rustls that hands over one record at a time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::alike::Reads;
use crate::records::RecordAligned;

/// Records of anybody, in reads of any size, on both sides.
///
/// The first two bytes are the sizes in which the stream comes, in turn, less one, and the next
/// two those in which it is read; the rest is the stream. What is read is the stream, and no
/// read goes beyond a record; what is left at the end is less than a record.
pub fn record_alignment(data: &[u8]) {
    let Some((&[one, other, first, second], stream)) = data.split_first_chunk() else {
        return;
    };
    let ends = record_ends(stream);
    let comes = Comes {
        reads: Reads::new([one, other], stream),
        current: &[],
        is_pending: false,
    };
    let mut aligned = RecordAligned::new(comes);
    let mut context = Context::from_waker(Waker::noop());
    let mut sizes = [first, second].map(|size| usize::from(size) + 1);
    let mut at = 0;
    loop {
        sizes.reverse();
        let mut buf = vec![0; sizes[0]];
        let mut buf = ReadBuf::new(&mut buf);
        match Pin::new(&mut aligned).poll_read(&mut context, &mut buf) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) if buf.filled().is_empty() => break,
            Poll::Ready(Ok(())) => {
                let read = buf.filled();
                assert_eq!(read, &stream[at..at + read.len()]);
                let end = ends.iter().find(|end| **end > at);
                assert!(
                    end.is_some_and(|end| at + read.len() <= *end),
                    "beyond a record"
                );
                at += read.len();
            }
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                break;
            }
        }
    }
    assert_eq!(at, ends.last().copied().unwrap_or(0), "all whole records");
}

/// Where the whole records end, up to what is none.
fn record_ends(stream: &[u8]) -> Vec<usize> {
    let (mut ends, mut at) = (Vec::new(), 0);
    while let Some(&[ty, major, _, high, low]) = stream[at..].first_chunk::<5>() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let is_record = matches!(ty, 20..=23) && major == 3 && len <= (1 << 14) + 256;
        if !is_record || stream.len() < at + 5 + len {
            break;
        }
        at += 5 + len;
        ends.push(at);
    }
    ends
}

/// A stream as it comes, with nothing there every other time.
struct Comes<'a> {
    reads: Reads<'a>,
    current: &'a [u8],
    is_pending: bool,
}

impl AsyncRead for Comes<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_pending ^= true;
        if this.is_pending {
            return Poll::Pending;
        }
        if this.current.is_empty() {
            this.current = this.reads.next().unwrap_or_default();
        }
        let (now, later) = this
            .current
            .split_at(this.current.len().min(buf.remaining()));
        buf.put_slice(now);
        this.current = later;
        Poll::Ready(Ok(()))
    }
}
