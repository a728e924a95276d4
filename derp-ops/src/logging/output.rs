//! Where log lines go, which nobody waits for: a collector that hangs or a disk that is full costs
//! lines, and not the relay.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};

/// How much a pipe takes at once that takes anything (`PIPE_BUF` of Linux).
const AT_ONCE: usize = 4096;

/// A log's file, pipe, socket or terminal.
#[derive(Debug)]
pub(super) struct Output<F> {
    file: F,
    /// Held while a line is written, so that what was found to have room has it still.
    alone: Mutex<()>,
    lost: AtomicU64,
}

impl<F: AsFd> Output<F> {
    pub(super) const fn new(file: F) -> Self {
        Self {
            file,
            alone: Mutex::new(()),
            lost: AtomicU64::new(0),
        }
    }

    /// How many lines were not taken.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Writes the line as far as it is taken at once; says whether all of it was.
    fn try_write(&self, mut line: &[u8]) -> bool {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        while !line.is_empty() {
            let mut polled = [PollFd::new(&self.file, PollFlags::OUT)];
            // What cannot be polled is written to all the same: either has room, or is an error.
            if matches!(poll(&mut polled, Some(&Timespec::default())), Ok(0)) {
                return false;
            }
            match write(&self.file, &line[..line.len().min(AT_ONCE)]) {
                Ok(n) if n > 0 => line = &line[n..],
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }
}

impl<F: AsFd> io::Write for &Output<F> {
    /// Takes a whole line, whatever becomes of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.try_write(line) {
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_nobody_reads_is_lost_and_holds_nobody_up() {
        let (mut reader, writer) = io::pipe().unwrap();
        let output = Output::new(writer);
        let mut kept = 0;
        while output.lost() < 100 {
            (&output).write_all(&[b'x'; 99]).unwrap();
            (&output).write_all(b"\n").unwrap();
            kept += 1;
            assert!(kept < 1_000_000, "a pipe is not that large");
        }
        let mut some = [0; 65_536];
        assert!(reader.read(&mut some).unwrap() > 0);
        let lost = output.lost();
        (&output).write_all(b"there is room again\n").unwrap();
        assert_eq!(output.lost(), lost);
        // Long lines need not fit as a whole.
        drop(reader);
        (&output).write_all(&[b'x'; 100_000]).unwrap();
        assert_eq!(output.lost(), lost + 1);
    }

    #[test]
    fn a_long_line_is_written_whole_where_there_is_room() {
        let (mut reader, writer) = io::pipe().unwrap();
        let output = Output::new(writer);
        (&output).write_all(&[b'x'; 10_000]).unwrap();
        drop(output);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert_eq!(text, [b'x'; 10_000]);
    }

    #[test]
    fn a_disk_that_is_full_is_no_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = Output::new(full);
        (&output).write_all(b"a line\n").unwrap();
        assert_eq!(output.lost(), 1);
    }
}
