//! The same bytes in reads of different sizes.

/// A stream in reads of two sizes, in turn.
pub(crate) struct Reads<'a> {
    sizes: [usize; 2],
    rest: &'a [u8],
}

impl<'a> Reads<'a> {
    /// Of these sizes less one.
    pub(crate) fn new(sizes: [u8; 2], stream: &'a [u8]) -> Self {
        Self {
            sizes: sizes.map(|size| usize::from(size) + 1),
            rest: stream,
        }
    }
}

impl<'a> Iterator for Reads<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.sizes.reverse();
        let (read, rest) = self.rest.split_at(self.rest.len().min(self.sizes[1]));
        self.rest = rest;
        Some(read)
    }
}
