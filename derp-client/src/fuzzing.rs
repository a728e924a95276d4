//! The bodies of those fuzz targets that need what this crate keeps to itself: plain functions of
//! bytes, which panic where a promise is broken. Only `fuzz/` turns this on; nothing here is part
//! of the library's interface.

use bytes::BytesMut;

use crate::response::{Head, HeadError};
use crate::websocket::{Decoder, Event, WebSocketError};

/// The longest header of a server's frame, and the longest control frame without it.
const MAX_KEPT: usize = 10 + 125;
const MAX_HEAD_LEN: usize = 16 << 10;

/// What a client reads of a WebSocket server.
///
/// The first two bytes are the sizes of the reads, in turn, less one; the rest is the stream.
/// However it is cut, it means the same, and no more than a header and a control frame is ever
/// kept for later.
pub fn websocket_client(data: &[u8]) {
    let Some((&sizes, stream)) = data.split_first_chunk() else {
        return;
    };
    let in_parts = read_frames(reads(sizes, stream));
    assert_eq!(read_frames([stream]), in_parts);
}

/// The answer to a client's request.
///
/// The first byte says how much of the rest arrives at first. A part that is judged at all is
/// judged like the whole, and nothing behind the head counts.
pub fn http_response(data: &[u8]) {
    let Some((&first, stream)) = data.split_first() else {
        return;
    };
    let whole = judge(stream);
    let part = judge(&stream[..stream.len().min(first.into())]);
    assert!(
        matches!(part, Ok(None)) || part == whole,
        "{part:?} became {whole:?}"
    );
    if let Ok(Some((_, len))) = whole {
        assert!(len <= stream.len() && len <= MAX_HEAD_LEN);
        assert_eq!(judge(&stream[..len]), whole);
    }
}

/// What a stream means, whatever its cuts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    payload: Vec<u8>,
    /// Pings, and how much payload came before each.
    pings: Vec<(usize, Vec<u8>)>,
    end: Option<Result<(), WebSocketError>>,
}

fn read_frames<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Meaning {
    let (mut decoder, mut raw) = (Decoder::default(), BytesMut::new());
    let mut meaning = Meaning::default();
    for read in reads {
        raw.extend_from_slice(read);
        loop {
            match decoder.decode(&mut raw) {
                Ok(None) => break,
                Ok(Some(Event::Payload(payload))) => {
                    assert!(!payload.is_empty());
                    meaning.payload.extend_from_slice(&payload);
                }
                Ok(Some(Event::Ping(payload))) => {
                    meaning
                        .pings
                        .push((meaning.payload.len(), payload.to_vec()));
                }
                Ok(Some(Event::Closed)) => {
                    meaning.end = Some(Ok(()));
                    return meaning;
                }
                Err(error) => {
                    assert!(!error.to_string().contains(char::is_control), "{error:?}");
                    meaning.end = Some(Err(error));
                    return meaning;
                }
            }
        }
        assert!(raw.len() < MAX_KEPT, "{} bytes are kept", raw.len());
    }
    meaning
}

/// A stream in reads of two sizes, in turn.
fn reads(sizes: [u8; 2], mut rest: &[u8]) -> Vec<&[u8]> {
    let mut reads = Vec::new();
    for size in sizes.into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (read, later) = rest.split_at(rest.len().min(usize::from(size) + 1));
        reads.push(read);
        rest = later;
    }
    reads
}

/// The status of a response and the length of its head.
fn judge(bytes: &[u8]) -> Result<Option<(u16, usize)>, String> {
    let head = Head::parse(bytes).map_err(|error: HeadError| error.to_string())?;
    Ok(head.map(|(head, len)| (head.status, len)))
}
