//! Memory that several threads write to: the locks and numbers through which connections meet.
//!
//! These are the standard library's own. In this crate's tests they count, by thread, how often
//! they are taken and written, for `sharing_tests.rs` to see that a packet does not do it more
//! often where there are more clients or workers. So whatever threads share on a packet's path
//! is to come from here. What has one writer ([`crate::tally::Totals`]) is not shared in that
//! sense: its cache line stays where it is.

use std::sync::Arc;

#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
#[cfg(not(test))]
pub(crate) use std::sync::{Mutex, RwLock};

#[cfg(test)]
pub(crate) use counting::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Mutex, RwLock, Shared, count,
};

/// Another owner of what several threads own, whose number of owners they all write.
pub(crate) fn share<T: ?Sized>(owned: &Arc<T>) -> Arc<T> {
    #[cfg(test)]
    counting::wrote();
    Arc::clone(owned)
}

#[cfg(test)]
mod counting {
    use std::cell::Cell;
    use std::ops::Deref;
    use std::sync::atomic::Ordering;
    use std::sync::{
        self, LockResult, MutexGuard, RwLockReadGuard, RwLockWriteGuard, TryLockResult,
    };

    /// What a thread did to memory that others see.
    #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Shared {
        /// Locks taken, to write or to read.
        pub(crate) locks: usize,
        /// Numbers written, other than a lock's own.
        pub(crate) writes: usize,
    }

    thread_local! {
        static SHARED: Cell<Shared> = const { Cell::new(Shared { locks: 0, writes: 0 }) };
    }

    /// What this thread does while `work` runs.
    pub(crate) fn count(work: impl FnOnce()) -> Shared {
        let before = SHARED.take();
        work();
        SHARED.replace(before)
    }

    fn locked() {
        let Shared { locks, writes } = SHARED.get();
        SHARED.set(Shared {
            locks: locks + 1,
            writes,
        });
    }

    pub(super) fn wrote() {
        let Shared { locks, writes } = SHARED.get();
        SHARED.set(Shared {
            locks,
            writes: writes + 1,
        });
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            locked();
            self.0.lock()
        }

        pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            locked();
            self.0.try_lock()
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
            locked();
            self.0.read()
        }

        pub(crate) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
            locked();
            self.0.write()
        }
    }

    /// A number that counts these ways to write it; the others are reads.
    macro_rules! numbers {
        ($($name:ident($value:ty): $($way:ident -> $result:ty),*;)*) => {$(
            #[derive(Debug, Default)]
            pub(crate) struct $name(sync::atomic::$name);

            impl $name {
                #[allow(dead_code, reason = "not every one of these numbers is made from a value")]
                pub(crate) const fn new(value: $value) -> Self {
                    Self(sync::atomic::$name::new(value))
                }

                $(pub(crate) fn $way(&self, value: $value, order: Ordering) -> $result {
                    wrote();
                    self.0.$way(value, order)
                })*
            }

            impl Deref for $name {
                type Target = sync::atomic::$name;

                fn deref(&self) -> &Self::Target {
                    &self.0
                }
            }
        )*};
    }

    impl AtomicU64 {
        pub(crate) fn fetch_update(
            &self,
            set: Ordering,
            fetch: Ordering,
            update: impl FnMut(u64) -> Option<u64>,
        ) -> Result<u64, u64> {
            wrote();
            self.0.fetch_update(set, fetch, update)
        }
    }

    numbers! {
        AtomicBool(bool): swap -> bool;
        AtomicU8(u8): fetch_or -> u8, fetch_and -> u8;
        AtomicU64(u64): fetch_add -> u64, fetch_sub -> u64;
        AtomicUsize(usize): store -> (), fetch_add -> usize, fetch_sub -> usize;
    }
}
