//! Pings that wait for their pongs, which another task receives.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use derp_proto::PingData;
use tokio::sync::oneshot;

use crate::error::PingError;
use crate::random;

/// The most pings that wait at a time.
const MOST_WAITING: usize = 64;

/// The pings of one connection.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    /// [`MOST_WAITING`] entries at most.
    waiting: Mutex<HashMap<PingData, oneshot::Sender<()>>>,
}

/// A ping that waits for its pong; dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Ping<'a> {
    pings: &'a Pings,
    data: PingData,
    pong: oneshot::Receiver<()>,
}

impl Pings {
    /// Begins to wait for the pong of a ping that is about to be sent.
    pub(crate) fn begin(&self) -> Result<Ping<'_>, PingError> {
        let data = random::bytes();
        let (sender, pong) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.len() >= MOST_WAITING {
            return Err(PingError::TooMany(MOST_WAITING));
        }
        waiting.insert(data, sender);
        Ok(Ping {
            pings: self,
            data,
            pong,
        })
    }

    /// Whether somebody waits for this pong. It is told.
    pub(crate) fn complete(&self, data: &PingData) -> bool {
        self.lock()
            .remove(data)
            .is_some_and(|waiter| waiter.send(()).is_ok())
    }

    /// Tells all that wait that no pong will come.
    pub(crate) fn abandon(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PingData, oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ping<'_> {
    /// What to send.
    pub(crate) const fn data(&self) -> PingData {
        self.data
    }

    /// Waits for the pong.
    pub(crate) async fn pong(&mut self) -> Result<(), PingError> {
        (&mut self.pong).await.map_err(|_| PingError::Ended)
    }
}

impl Drop for Ping<'_> {
    fn drop(&mut self) {
        self.pings.lock().remove(&self.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_pong_is_for_its_ping() {
        let pings = Pings::default();
        let (mut one, mut two) = (pings.begin().unwrap(), pings.begin().unwrap());
        assert!(!pings.complete(&[0; 8]));
        assert!(pings.complete(&two.data()) && !pings.complete(&two.data()));
        two.pong().await.unwrap();
        pings.abandon();
        assert!(matches!(one.pong().await, Err(PingError::Ended)));
    }

    #[test]
    fn pings_that_are_given_up_leave_nothing_behind() {
        let pings = Pings::default();
        let waiting: Vec<_> = (0..MOST_WAITING).map(|_| pings.begin().unwrap()).collect();
        assert!(matches!(
            pings.begin(),
            Err(PingError::TooMany(MOST_WAITING))
        ));
        drop(waiting);
        assert!(pings.lock().is_empty() && pings.begin().is_ok());
    }
}
