//! From received bytes to frames, for a connection whose bytes the relay opens itself: TLS
//! records are opened where they lie, and a frame that reaches over several is moved together.

use crate::admitted::Rest;
use crate::error::SessionError;
use crate::hub::Hub;
use crate::inbound::{Inbound, Progress};
use crate::tls13::{Opened, Opener, RECORD_HEADER, RECORD_TRAILER, RecordError, record_len};
use crate::turn::Turn;

/// What came of some received bytes.
#[derive(Debug)]
pub(crate) struct Received {
    /// What waits for more.
    pub(crate) rest: Rest,
    pub(crate) progress: Progress,
    /// The peer sends nothing more.
    pub(crate) closed: bool,
}

/// Understands `turn.buf[base..end]`, of which `rest_plain` bytes at the front are open already.
///
/// Afterwards the turn refers to bytes before `end`, or to none.
pub(crate) fn understand(
    inbound: &mut Inbound,
    opener: Option<&mut Opener>,
    (base, rest_plain, end): (usize, usize, usize),
    hub: &Hub,
    turn: &mut Turn,
) -> Result<Received, SessionError> {
    let Some(opener) = opener else {
        let mut frames = base..end;
        let progress = inbound.process(&mut frames, false, hub, turn)?;
        let rest = Rest::new(&turn.buf[frames], &[]);
        inbound.note_rest(rest.len(), hub, turn.now);
        return Ok(Received {
            rest,
            progress,
            closed: false,
        });
    };
    // Open bytes that are not understood yet, and where the next record begins.
    let mut frames = base..base + rest_plain;
    let mut at = frames.end;
    let mut progress = inbound.process(&mut frames, false, hub, turn)?;
    let mut closed = false;
    while progress == Progress::All && !closed {
        let Some(len) = record_len(&turn.buf[at..end])? else {
            break;
        };
        let Some(record) = turn.buf[at..end].get_mut(..len) else {
            break;
        };
        match opener.open(record)? {
            Opened::Data(content) => {
                let start = at + RECORD_HEADER;
                let in_place = frames.is_empty();
                if in_place {
                    frames = start..start + content;
                } else {
                    turn.buf.copy_within(start..start + content, frames.end);
                    frames.end += content;
                }
                // Room for another trailer is where this one was, and its padding.
                let whole = in_place && content + RECORD_HEADER + RECORD_TRAILER <= len;
                progress = inbound.process(&mut frames, whole, hub, turn)?;
            }
            Opened::KeyUpdate(asked) => {
                if asked {
                    inbound.peer.update_key();
                }
            }
            Opened::Closed => closed = true,
        }
        at += len;
    }
    let rest = if closed {
        Rest::default()
    } else {
        Rest::new(&turn.buf[frames], &turn.buf[at..end])
    };
    inbound.note_rest(rest.len(), hub, turn.now);
    Ok(Received {
        rest,
        progress,
        closed,
    })
}

impl From<RecordError> for SessionError {
    fn from(error: RecordError) -> Self {
        Self::Record(error.to_string())
    }
}
