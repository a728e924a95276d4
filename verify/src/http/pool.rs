//! Connections that wait for the next request.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::connect::Stream;

/// A few idle connections to one server, the last used of which is used first.
#[derive(Default)]
pub(super) struct Pool {
    /// At most [`MOST_IDLE`]. The lock is held for a push or a pop.
    idle: Mutex<Vec<(Box<dyn Stream>, Instant)>>,
}

impl Pool {
    /// A connection that was open a moment ago, and on which nothing has come since.
    pub(super) fn take(&self) -> Option<Box<dyn Stream>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while let Some((mut stream, since)) = idle.pop() {
            if now.duration_since(since) > MOST_IDLE_TIME {
                // Those below it have waited longer still.
                idle.clear();
                return None;
            }
            if is_silent(&mut *stream) {
                return Some(stream);
            }
        }
        None
    }

    pub(super) fn put(&self, stream: Box<dyn Stream>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push((stream, Instant::now()));
        }
    }

    /// All idle connections may be dead when one of them is.
    pub(super) fn clear(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// Whether there is nothing to read, not even the end.
fn is_silent(mut stream: &mut dyn Stream) -> bool {
    let mut byte = [0];
    let mut buf = ReadBuf::new(&mut byte);
    let mut cx = Context::from_waker(Waker::noop());
    matches!(
        AsyncRead::poll_read(Pin::new(&mut stream), &mut cx, &mut buf),
        Poll::Pending
    )
}

/// How many connections wait at most.
const MOST_IDLE: usize = 8;
/// How long a connection waits at most. Servers commonly close theirs after a minute.
const MOST_IDLE_TIME: Duration = Duration::from_secs(30);
