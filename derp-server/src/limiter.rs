//! What holds one client back: its own limits, its group's, and that of all clients.

use std::sync::Arc;
use std::time::Instant;

use derp_verify::RateLimit;

use crate::rate_limit::{MIN_BURST_BYTES, TokenBucket};
use crate::shared_rates::{SharedBucket, SharedRates};
use crate::tally::Tally;
use crate::tunables::Tunables;

/// The limits that a client was admitted with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    /// One of its own from the verifier, in place of the one that each client has.
    pub(crate) rate: Option<RateLimit>,
    /// The group that it is in.
    pub(crate) group: Option<Arc<SharedBucket>>,
}

/// The limits of one client, of which there is at least one.
#[derive(Debug)]
pub(crate) struct Limiter {
    own: Option<TokenBucket>,
    /// Of frames, whatever their lengths.
    frames: Option<TokenBucket>,
    group: Option<Arc<SharedBucket>>,
    total: Option<Arc<SharedBucket>>,
    /// The next frame has been booked, and may pass from then on.
    booked: Option<Instant>,
}

impl Limiter {
    /// The limits that hold now, if any do. Of `before`, an unchanged limit of the client itself
    /// stays as full as it was.
    pub(crate) fn new(
        terms: &Terms,
        tunables: &Tunables,
        shared: &SharedRates,
        before: Option<&Self>,
        now: Instant,
    ) -> Option<Self> {
        let own = terms.rate.or(tunables.client_rate);
        let own = own
            .filter(|rate| rate.bytes_per_second > 0)
            .map(|rate| TokenBucket::of_bytes(rate, now));
        let kept = |new: Option<TokenBucket>, before: Option<&TokenBucket>| match (new, before) {
            (Some(new), Some(before)) if new.is_like(before) => Some(before.clone()),
            (new, _) => new,
        };
        let own = kept(own, before.and_then(|before| before.own.as_ref()));
        let frames = tunables.client_frame_rate;
        let frames = frames.map(|rate| TokenBucket::of(rate, now));
        let frames = kept(frames, before.and_then(|before| before.frames.as_ref()));
        let limited = |bucket: &Arc<SharedBucket>| bucket.is_limited().then(|| Arc::clone(bucket));
        let group = terms.group.as_ref().and_then(limited);
        let total = limited(shared.total());
        let is_limited = own.is_some() || frames.is_some() || group.is_some() || total.is_some();
        is_limited.then_some(Self {
            own,
            frames,
            group,
            total,
            booked: None,
        })
    }

    /// Whether the next frame, whose body has `len` bytes, has to wait, and until when.
    // Kept out of the way of the packets of a relay without limits.
    #[inline(never)]
    pub(crate) fn holds_back(
        &mut self,
        len: usize,
        now: Instant,
        tally: &mut Tally,
    ) -> Option<Instant> {
        if let Some(due) = self.booked {
            if now < due {
                return Some(due);
            }
            self.booked = None;
            return None;
        }
        let frames = self.frames.as_ref();
        if let Some(wait) = frames.and_then(|frames| frames.wait_for(1.0, now)) {
            tally.frame_rate_waited += 1;
            return Some(now + wait);
        }
        let bytes = (len as u64).min(MIN_BURST_BYTES);
        // Its own limit comes first: who is over that one takes nothing from others.
        if let Some(own) = &mut self.own
            && let Err(wait) = own.take_bytes(bytes, now)
        {
            tally.rate_limit_waited += 1;
            return Some(now + wait);
        }
        if let Some(frames) = &mut self.frames {
            let taken = frames.take(1.0, now);
            debug_assert!(taken.is_ok(), "there is one");
        }
        let mut due = now;
        for (bucket, waited) in [
            (&self.group, &mut tally.group_rate_limit_waited),
            (&self.total, &mut tally.total_rate_limit_waited),
        ] {
            let Some(bucket) = bucket else { continue };
            let wait = bucket.book(bytes, now);
            *waited += u64::from(!wait.is_zero());
            due = due.max(now + wait);
        }
        if due == now {
            return None;
        }
        self.booked = Some(due);
        Some(due)
    }
}
