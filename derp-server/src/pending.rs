//! Connections on their way to a login: how many there are, and how many bytes they hold.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Budget;

/// Counts them, all together.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    connections: AtomicUsize,
    bytes: AtomicUsize,
}

/// One connection on its way; what it holds is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    logins: &'a Logins,
    max_bytes: usize,
    held: AtomicUsize,
}

impl Logins {
    /// Lets one more set out, unless there are `max` already; all may hold `max_bytes` together.
    pub(crate) fn begin(&self, max: usize, max_bytes: usize) -> Result<Pending<'_>, Budget> {
        // The guard takes it back in any case.
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let pending = Pending {
            logins: self,
            max_bytes,
            held: AtomicUsize::new(0),
        };
        if before < max {
            Ok(pending)
        } else {
            Err(Budget::Logins)
        }
    }
}

impl Pending<'_> {
    /// Holds so many bytes more, which have come and are kept.
    ///
    /// # Errors
    /// All together would hold too many: then it is this one that has to go.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Budget> {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        let before = self.logins.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.max_bytes {
            return Err(Budget::PendingBytes);
        }
        Ok(())
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let held = self.held.load(Ordering::Relaxed);
        self.logins.bytes.fetch_sub(held, Ordering::Relaxed);
        self.logins.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_held_is_there_for_the_next() {
        let logins = Logins::default();
        let first = logins.begin(2, 100).unwrap();
        let second = logins.begin(2, 100).unwrap();
        assert_eq!(logins.begin(2, 100).unwrap_err(), Budget::Logins);
        assert_eq!((first.hold(60), second.hold(40)), (Ok(()), Ok(())));
        assert_eq!(second.hold(1), Err(Budget::PendingBytes));
        drop(second);
        assert_eq!(first.hold(40), Ok(()));
        drop(first);
        let third = logins.begin(1, 100).unwrap();
        assert_eq!(third.hold(100), Ok(()));
    }
}
