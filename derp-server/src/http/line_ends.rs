//! Lines of request heads that end without a carriage return. hyper takes them, and a proxy in front
//! could understand such a head otherwise than the relay does.
//!
//! The bytes are those of requests one behind another. Behind a head that announces a body it is
//! no longer known what they are; but the connection ends with the answer to that one.

use std::sync::atomic::{AtomicU32, Ordering};

/// Looks at the bytes of a connection as they come.
#[derive(Debug)]
pub(super) struct LineEnds {
    /// How many heads are complete.
    heads: u32,
    line: Line,
}

/// What of a line has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing, and nothing of the head either.
    NewHead,
    Empty,
    /// A carriage return alone.
    EmptyReturned,
    Begun,
    /// The last byte was a carriage return.
    Returned,
}

/// The first head, counted from zero, that has a line of this kind.
#[derive(Debug)]
pub(super) struct FirstBad(AtomicU32);

impl Default for FirstBad {
    fn default() -> Self {
        Self(AtomicU32::new(u32::MAX))
    }
}

impl FirstBad {
    /// Whether it is this one, or was one before it.
    pub(super) fn is_at_most(&self, head: u32) -> bool {
        self.0.load(Ordering::Relaxed) <= head
    }
}

impl LineEnds {
    pub(super) const fn new() -> Self {
        Self {
            heads: 0,
            line: Line::NewHead,
        }
    }

    /// Looks at the bytes that have come next.
    pub(super) fn note(&mut self, bytes: &[u8], first_bad: &FirstBad) {
        for byte in bytes {
            self.line = match (byte, self.line) {
                (b'\n', Line::Returned) => Line::Empty,
                (b'\n', Line::EmptyReturned) => {
                    self.heads = self.heads.saturating_add(1);
                    Line::NewHead
                }
                // Nor are there empty lines in front of a head.
                (b'\n', _) | (b'\r', Line::NewHead) => {
                    first_bad.0.fetch_min(self.heads, Ordering::Relaxed);
                    Line::Empty
                }
                (b'\r', Line::Empty) => Line::EmptyReturned,
                (b'\r', _) => Line::Returned,
                _ => Line::Begun,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bad head of `text`, however it is cut into pieces.
    fn first_bad(text: &str) -> Option<u32> {
        let found = [1, 3, text.len()].map(|len| {
            let (mut lines, first_bad) = (LineEnds::new(), FirstBad::default());
            for bytes in text.as_bytes().chunks(len) {
                lines.note(bytes, &first_bad);
            }
            (0..9).find(|head| first_bad.is_at_most(*head))
        });
        assert!(found.iter().all(|other| *other == found[0]), "{text:?}");
        found[0]
    }

    #[test]
    fn the_first_head_with_a_bare_line_feed_is_found() {
        const GOOD: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(first_bad(&GOOD.repeat(3)), None);
        for bad in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(first_bad(&format!("{bad}{GOOD}")), Some(0), "{bad:?}");
            assert_eq!(first_bad(&format!("{GOOD}{GOOD}{bad}")), Some(2), "{bad:?}");
        }
        assert_eq!(first_bad("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"), None);
    }
}
