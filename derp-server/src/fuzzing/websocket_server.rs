//! What a server reads of a WebSocket client.

use super::alike::Reads;
use crate::websocket::frame::{CloseCode, Decoder, Event, Fault, MAX_CONTROL_LEN, MAX_MESSAGE_LEN};

/// Frames of a client, in reads of any size.
///
/// The first two bytes are the sizes of the reads, in turn, less one, and the third how much
/// payload is taken at a time, less one; the rest is the stream. However it is cut, it means the
/// same, and no more than a header and a control frame is ever kept for later.
pub fn websocket_server(data: &[u8]) {
    let Some((&[one, other, max_payload], wire)) = data.split_first_chunk() else {
        return;
    };
    let whole = read(&[wire], usize::MAX);
    let reads: Vec<_> = Reads::new([one, other], wire).collect();
    let in_parts = read(&reads, usize::from(max_payload) + 1);
    assert_eq!(whole, in_parts);
}

/// What a stream means, whatever its cuts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    payload: Vec<u8>,
    /// Pings, and how much payload came before each.
    pings: Vec<(usize, Vec<u8>)>,
    end: Option<Result<Option<CloseCode>, Fault>>,
}

fn read(reads: &[&[u8]], max_payload: usize) -> Meaning {
    let (mut decoder, mut buf, mut meaning) = (Decoder::default(), Vec::new(), Meaning::default());
    for read in reads {
        buf.extend_from_slice(read);
        loop {
            let decoded = match decoder.decode(&mut buf, max_payload) {
                Ok(decoded) => decoded,
                Err(fault) => {
                    meaning.end = Some(Err(fault));
                    return meaning;
                }
            };
            assert!(decoded.consumed <= buf.len());
            let is_idle = decoded.event.is_none();
            match decoded.event {
                None => {}
                Some(Event::Payload(range)) => {
                    assert!(!range.is_empty() && range.len() <= max_payload.min(MAX_MESSAGE_LEN));
                    meaning.payload.extend_from_slice(&buf[range]);
                }
                Some(Event::Ping(range)) => {
                    assert!(range.len() <= MAX_CONTROL_LEN);
                    meaning
                        .pings
                        .push((meaning.payload.len(), buf[range].to_vec()));
                }
                Some(Event::Close(code)) => {
                    meaning.end = Some(Ok(code));
                    return meaning;
                }
            }
            buf.drain(..decoded.consumed);
            if is_idle {
                assert!(
                    buf.len() < 14 + MAX_CONTROL_LEN,
                    "{} bytes are kept",
                    buf.len()
                );
                break;
            }
        }
    }
    meaning
}
