//! The first layer of the codec: where the next frame is, judged by its header alone.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Range;

use crate::error::DecodeError;
use crate::frame::{
    FrameHeader, FrameType, HEADER_LEN, KEY_LEN, MAX_PACKET_LEN, MAX_PING_LEN, MAX_SKIPPED_LEN,
};

/// How long the body of a frame may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The frame is of use: its body has this many bytes, both ends included.
    Body {
        /// The shortest legal body.
        min: usize,
        /// The longest legal body.
        max: usize,
    },
    /// The frame is skipped without being held, if its body is not longer than this.
    Skip {
        /// The longest body that is skipped.
        max: usize,
    },
}

/// One direction of a connection: which frames are expected, and their limits.
pub trait Side: Debug {
    /// The limit for bodies of this type.
    fn limit(ty: FrameType) -> Limit;
}

/// Frames that a logged-in client sends, as a server sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSide;

impl Side for ClientSide {
    /// The limits of `derp/derpserver/derpserver.go`, but for frames that it discards at any
    /// length.
    fn limit(ty: FrameType) -> Limit {
        let exactly = |len| Limit::Body { min: len, max: len };
        let packet = |keys| Limit::Body {
            min: keys,
            max: keys + MAX_PACKET_LEN,
        };
        match ty {
            FrameType::SEND_PACKET => packet(KEY_LEN),
            FrameType::FORWARD_PACKET => packet(2 * KEY_LEN),
            FrameType::NOTE_PREFERRED => exactly(1),
            FrameType::WATCH_CONNS => exactly(0),
            FrameType::CLOSE_PEER => exactly(KEY_LEN),
            FrameType::PING => Limit::Body {
                min: 8,
                max: MAX_PING_LEN,
            },
            _ => Limit::Skip {
                max: MAX_SKIPPED_LEN,
            },
        }
    }
}

/// Frames that a server sends, as a client sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerSide;

impl Side for ServerSide {
    /// The one limit of `derp/derp_client.go`. Bodies shorter than they should be are for
    /// [`crate::ServerFrame::parse`] to report: a client goes on after them.
    fn limit(ty: FrameType) -> Limit {
        match ty {
            FrameType::SERVER_KEY
            | FrameType::SERVER_INFO
            | FrameType::RECV_PACKET
            | FrameType::KEEP_ALIVE
            | FrameType::PEER_GONE
            | FrameType::PEER_PRESENT
            | FrameType::PING
            | FrameType::PONG
            | FrameType::HEALTH
            | FrameType::RESTARTING => Limit::Body {
                min: 0,
                max: MAX_SKIPPED_LEN,
            },
            _ => Limit::Skip {
                max: MAX_SKIPPED_LEN,
            },
        }
    }
}

/// What a [`Scanner`] found at the front of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scanned {
    /// A whole frame. The next one begins at `body.end`.
    Frame {
        /// Its type.
        ty: FrameType,
        /// Where its body is in the bytes that were scanned.
        body: Range<usize>,
    },
    /// A frame of no use to this side begins here; its body may reach beyond these bytes, which
    /// the scanner remembers. The next byte of interest is at `end`.
    Skipped {
        /// Its type.
        ty: FrameType,
        /// The announced length of its whole body.
        len: u32,
        /// How many bytes to drop.
        end: usize,
    },
    /// More of a body that is being skipped.
    Skipping {
        /// How many bytes to drop.
        end: usize,
    },
    /// Not a whole frame yet.
    Partial {
        /// The frame's type and length, once its header is there.
        header: Option<FrameHeader>,
        /// How many bytes are missing at least.
        missing: usize,
    },
}

/// Finds frames in a byte stream, however its bytes happen to arrive.
///
/// It holds no bytes: the caller keeps those of a partial frame. Nothing is ever reserved for
/// bytes that are announced and have not arrived.
#[derive(Debug, Clone)]
pub struct Scanner<S> {
    /// How many bytes of a skipped body are still to come.
    skip: usize,
    side: PhantomData<S>,
}

impl<S: Side> Scanner<S> {
    /// A scanner at the start of a frame.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            skip: 0,
            side: PhantomData,
        }
    }

    /// Whether the stream is inside of a body that is being skipped.
    #[must_use]
    pub const fn is_skipping(&self) -> bool {
        self.skip > 0
    }

    /// Looks at the front of `bytes`.
    ///
    /// # Errors
    /// Where the header announces a body that its type must not have. The stream cannot be
    /// understood from there on.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, DecodeError> {
        if self.skip > 0 {
            let end = self.skip.min(bytes.len());
            self.skip -= end;
            if end == 0 {
                return Ok(Scanned::Partial {
                    header: None,
                    missing: 1,
                });
            }
            return Ok(Scanned::Skipping { end });
        }
        let Some(header) = FrameHeader::parse(bytes) else {
            return Ok(Scanned::Partial {
                header: None,
                missing: HEADER_LEN - bytes.len(),
            });
        };
        let FrameHeader { ty, len } = header;
        let body_len = usize::try_from(len).unwrap_or(usize::MAX);
        match S::limit(ty) {
            Limit::Body { max, .. } | Limit::Skip { max } if max < body_len => {
                Err(DecodeError::TooLong {
                    ty,
                    len: body_len,
                    max,
                })
            }
            Limit::Body { min, .. } if body_len < min => Err(DecodeError::TooShort {
                ty,
                len: body_len,
                min,
            }),
            Limit::Body { .. } => {
                let body = HEADER_LEN..HEADER_LEN + body_len;
                match body.end.checked_sub(bytes.len()) {
                    None | Some(0) => Ok(Scanned::Frame { ty, body }),
                    Some(missing) => Ok(Scanned::Partial {
                        header: Some(header),
                        missing,
                    }),
                }
            }
            Limit::Skip { .. } => {
                let here = body_len.min(bytes.len() - HEADER_LEN);
                self.skip = body_len - here;
                Ok(Scanned::Skipped {
                    ty,
                    len,
                    end: HEADER_LEN + here,
                })
            }
        }
    }
}

impl<S: Side> Default for Scanner<S> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Result<Scanned, DecodeError> {
        Scanner::<ClientSide>::new().scan(bytes)
    }

    #[test]
    fn a_length_is_judged_by_the_header_alone() {
        let ty = FrameType::SEND_PACKET;
        let over = DecodeError::TooLong {
            ty,
            len: 65_569,
            max: 65_568,
        };
        assert_eq!(scan(&[4, 0, 1, 0, 0x21]), Err(over));
        let missing = 65_568;
        let header = Some(FrameHeader { ty, len: 65_568 });
        assert_eq!(
            scan(&[4, 0, 1, 0, 0x20]),
            Ok(Scanned::Partial { header, missing })
        );
        assert_eq!(
            scan(&[4, 0, 0, 0, 31]),
            Err(DecodeError::TooShort {
                ty,
                len: 31,
                min: 32
            })
        );
        let huge = DecodeError::TooLong {
            ty: FrameType(0x77),
            len: 0xffff_ffff,
            max: 1 << 20,
        };
        assert_eq!(scan(&[0x77, 0xff, 0xff, 0xff, 0xff]), Err(huge));
    }

    #[test]
    fn each_client_frame_has_its_limits() {
        let table: [(FrameType, usize, usize); 6] = [
            (FrameType::SEND_PACKET, 32, 65_568),
            (FrameType::FORWARD_PACKET, 64, 65_600),
            (FrameType::NOTE_PREFERRED, 1, 1),
            (FrameType::WATCH_CONNS, 0, 0),
            (FrameType::CLOSE_PEER, 32, 32),
            (FrameType::PING, 8, 1000),
        ];
        let ok = |ty, len: usize| scan(&crate::frame::header(ty, len)).is_ok();
        for (ty, min, max) in table {
            assert!(ok(ty, min) && ok(ty, max) && !ok(ty, max + 1), "{ty:?}");
            assert!(min == 0 || !ok(ty, min - 1), "{ty:?}");
        }
    }

    #[test]
    fn unknown_frames_are_skipped_wherever_reads_end() {
        let mut scanner = Scanner::<ClientSide>::new();
        let first = scanner.scan(&[0x77, 0, 0, 0, 6, 1, 2]).unwrap();
        assert_eq!(
            first,
            Scanned::Skipped {
                ty: FrameType(0x77),
                len: 6,
                end: 7
            }
        );
        assert!(scanner.is_skipping());
        assert_eq!(
            scanner.scan(&[]),
            Ok(Scanned::Partial {
                header: None,
                missing: 1
            })
        );
        assert_eq!(scanner.scan(&[3]), Ok(Scanned::Skipping { end: 1 }));
        assert_eq!(
            scanner.scan(&[4, 5, 6, 0x10, 0, 0]),
            Ok(Scanned::Skipping { end: 3 })
        );
        let watch = scanner.scan(&[0x10, 0, 0, 0, 0]).unwrap();
        assert_eq!(
            watch,
            Scanned::Frame {
                ty: FrameType::WATCH_CONNS,
                body: 5..5
            }
        );
    }
}
