//! The list of attributes that follows a STUN header (RFC 5389 §15), taken apart.
//!
//! What an attribute means is [`message`](super::message)'s business.

/// One attribute: its type, and its value without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

/// An attribute runs past the end of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedAttribute;

/// Walks type-length-value triples, each value padded to four bytes; stops at the first that
/// overruns.
#[derive(Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, MalformedAttribute>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let attribute = self.take();
        if attribute.is_none() {
            self.0 = &[];
        }
        Some(attribute.ok_or(MalformedAttribute))
    }
}

impl<'a> Attributes<'a> {
    fn take(&mut self) -> Option<Attribute<'a>> {
        let (&[k0, k1, l0, l1], rest) = self.0.split_first_chunk::<HEADER_LEN>()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (padded, rest) = rest.split_at_checked(length.next_multiple_of(4))?;
        self.0 = rest;
        Some(Attribute {
            kind: u16::from_be_bytes([k0, k1]),
            value: padded.get(..length)?,
        })
    }
}

/// Length in bytes of type and length, which precede each value.
pub(crate) const HEADER_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_without_their_padding_and_the_first_overrun_ends_the_walk() {
        let bytes = [0, 7, 0, 1, b'a', 0, 0, 0, 0, 8, 0, 0, 0, 9, 0, 2, b'b'];
        let attribute = |kind, value| Ok(Attribute { kind, value });
        assert_eq!(
            Attributes(&bytes).collect::<Vec<_>>(),
            [
                attribute(7, b"a"),
                attribute(8, b""),
                Err(MalformedAttribute)
            ]
        );
        assert_eq!(
            Attributes(&bytes[..3]).collect::<Vec<_>>(),
            [Err(MalformedAttribute)]
        );
    }
}
