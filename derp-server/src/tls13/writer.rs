//! Lays bytes into records: those that are no whole record where they lie.

use super::{MAX_CONTENT, RECORD_HEADER, RECORD_TRAILER, RecordError, Sealer};

/// Seals all that is in `bytes`, behind it, and returns the records.
pub(crate) fn seal_behind<'a>(
    sealer: &mut Sealer,
    bytes: &'a mut Vec<u8>,
) -> Result<&'a [u8], RecordError> {
    let plain = bytes.len();
    let mut writer = RecordWriter::new(sealer, bytes)?;
    let mut at = 0;
    while at < plain {
        let now = writer.make_room().min(plain - at);
        writer.out.extend_from_within(at..at + now);
        at += now;
    }
    writer.finish();
    Ok(&bytes[plain..])
}

/// Lays bytes into records, which it seals as they fill up.
pub(crate) struct RecordWriter<'a> {
    sealer: &'a mut Sealer,
    out: &'a mut Vec<u8>,
    /// Where the open record begins.
    start: usize,
}

impl<'a> RecordWriter<'a> {
    /// Opens a record at the end of `out`, behind one that updates the key where that is due.
    pub(crate) fn new(sealer: &'a mut Sealer, out: &'a mut Vec<u8>) -> Result<Self, RecordError> {
        if sealer.wants_key_update() {
            sealer.key_update(out)?;
        }
        let start = out.len();
        out.extend_from_slice(&[0; RECORD_HEADER]);
        Ok(Self { sealer, out, start })
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.make_room().min(bytes.len()));
            self.out.extend_from_slice(now);
            bytes = later;
        }
    }

    /// How much more content the open record takes; a full one is sealed, and another opened.
    fn make_room(&mut self) -> usize {
        let end = self.start + RECORD_HEADER + MAX_CONTENT;
        if self.out.len() < end {
            return end - self.out.len();
        }
        self.close_record();
        self.start = self.out.len();
        self.out.extend_from_slice(&[0; RECORD_HEADER]);
        MAX_CONTENT
    }

    fn close_record(&mut self) {
        self.out.extend_from_slice(&[0; RECORD_TRAILER]);
        self.sealer.seal(&mut self.out[self.start..]);
    }

    pub(crate) fn finish(mut self) {
        self.close_record();
    }
}
