//! Packets for one other relay, from the threads that received them to the task that writes them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use derp_client::ForwardBatch;
use derp_proto::NodePublic;
use derp_server::{Forwarder, Refused};
use tokio::sync::Notify;

use crate::state::LinkState;

/// How many bytes may wait for another relay: 30 ms of a gigabit a second.
pub const QUEUE_BYTES: usize = 4 << 20;

/// What is written at a time. A link is given up that does not take as much in five seconds, so
/// this is what a path of 100 kbit/s takes in that time.
const BATCH_BYTES: usize = 64 << 10;

/// Packets that wait to be written to another relay.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
    state: Arc<LinkState>,
}

/// Whole batches but for the last; [`QUEUE_BYTES`] in all at most.
#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<ForwardBatch>,
    bytes: usize,
    /// Whether there is a connection. Without one nothing is kept: senders retransmit.
    is_open: bool,
}

impl Queue {
    pub(crate) fn new(state: Arc<LinkState>) -> Self {
        Self {
            waiting: Mutex::default(),
            more: Notify::new(),
            state,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) {
        self.waiting().is_open = true;
    }

    /// Drops what waits, and takes nothing until it is opened again.
    pub(crate) fn close(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        let packets: usize = waiting.batches.iter().map(ForwardBatch::packets).sum();
        self.state.dropped.fetch_add(packets as u64, Relaxed);
    }

    /// The packets that have waited the longest. Cancel safe.
    pub(crate) async fn next(&self) -> ForwardBatch {
        loop {
            {
                let mut waiting = self.waiting();
                if let Some(batch) = waiting.batches.pop_front() {
                    waiting.bytes -= batch.wire_len();
                    return batch;
                }
            }
            self.more.notified().await;
        }
    }
}

impl Waiting {
    fn push(&mut self, src: NodePublic, dst: NodePublic, packet: &[u8]) -> Result<(), Refused> {
        if !self.is_open || self.bytes + packet.len() > QUEUE_BYTES {
            return Err(Refused);
        }
        if self
            .batches
            .back()
            .is_none_or(|last| last.wire_len() + packet.len() > BATCH_BYTES)
        {
            self.batches.push_back(ForwardBatch::default());
        }
        let Some(last) = self.batches.back_mut() else {
            return Err(Refused);
        };
        let before = last.wire_len();
        last.push(src, dst, packet).map_err(|_| Refused)?;
        self.bytes += last.wire_len() - before;
        Ok(())
    }
}

impl Forwarder for Queue {
    fn forward(&self, src: NodePublic, dst: NodePublic, packet: &[u8]) -> Result<(), Refused> {
        let pushed = self.waiting().push(src, dst, packet);
        match pushed {
            Ok(()) => {
                self.state.forwarded.fetch_add(1, Relaxed);
                self.more.notify_one();
            }
            Err(Refused) => {
                self.state.dropped.fetch_add(1, Relaxed);
            }
        }
        pushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: NodePublic = NodePublic::from_bytes([1; 32]);
    const DST: NodePublic = NodePublic::from_bytes([2; 32]);

    fn queue() -> Queue {
        let queue = Queue::new(Arc::new(LinkState::new("other".to_owned())));
        queue.open();
        queue
    }

    fn counts(queue: &Queue) -> (u64, u64) {
        let status = queue.state.status();
        (status.forwarded, status.dropped)
    }

    #[tokio::test]
    async fn packets_leave_together_and_in_batches_of_a_size() {
        let queue = queue();
        for _ in 0..3 {
            queue.forward(SRC, DST, &[0; 1280]).unwrap();
        }
        queue.forward(SRC, DST, &[0; 65_000]).unwrap();
        queue.forward(SRC, DST, b"last").unwrap();
        let mut batches = Vec::new();
        for _ in 0..2 {
            let batch = queue.next().await;
            batches.push((batch.packets(), batch.wire_len()));
        }
        let frame = |len: usize| 5 + 64 + len;
        assert_eq!(
            batches,
            [(3, 3 * frame(1280)), (2, frame(65_000) + frame(4))]
        );
        assert_eq!(queue.waiting().bytes, 0);
    }

    #[test]
    fn what_there_is_no_room_for_is_refused_and_counted() {
        let queue = queue();
        let taken = (0..1000)
            .filter(|_| queue.forward(SRC, DST, &[0; 65_536]).is_ok())
            .count();
        assert_eq!(taken, QUEUE_BYTES / (5 + 64 + 65_536));
        assert_eq!(counts(&queue), (taken as u64, 1000 - taken as u64));
        // A small one still fits behind.
        assert_eq!(queue.forward(SRC, DST, b"small"), Ok(()));
    }

    #[test]
    fn without_a_connection_nothing_is_kept() {
        let queue = queue();
        queue.forward(SRC, DST, b"one").unwrap();
        queue.close();
        assert_eq!(queue.forward(SRC, DST, b"two"), Err(Refused));
        assert_eq!(counts(&queue), (1, 2));
        queue.open();
        assert!(queue.waiting().batches.is_empty());
        assert_eq!(queue.forward(SRC, DST, b"three"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_woken_by_the_next_packet() {
        let queue = Arc::new(queue());
        let reader = Arc::clone(&queue);
        let next = tokio::spawn(async move { reader.next().await.packets() });
        tokio::task::yield_now().await;
        queue.forward(SRC, DST, b"packet").unwrap();
        assert_eq!(next.await.unwrap(), 1);
    }
}
