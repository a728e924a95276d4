//! The limits of a story, and how long its clients may have to wait for them.

use std::time::Duration;

use derp_verify::RateLimit;

use super::choices::Choices;
use crate::tunables::{GroupRates, Tunables};

/// What several clients may send together.
const SHARED: RateLimit = RateLimit {
    bytes_per_second: 200_000,
    burst_bytes: 0,
};

/// The lowest limit, in bytes per second.
const SLOWEST: u64 = 20_000;

pub(super) fn tunables(choices: &mut Choices<'_>) -> Option<Tunables> {
    let (rate, budget, depth) = (choices.below(16)?, choices.below(4)?, choices.below(4)?);
    Some(Tunables {
        client_rate: rate_limit(rate),
        total_rate: (rate == 4).then_some(SHARED),
        group_rates: GroupRates {
            others: (rate == 5).then_some(SHARED),
            ..GroupRates::default()
        },
        queue_budget_bytes: [512 << 20, 512 << 20, 200_000, 0][budget],
        lane_depth: [32, 32, 5, 1][depth],
        ..Tunables::default()
    })
}

/// Mostly none.
pub(super) fn rate_limit(choice: usize) -> Option<RateLimit> {
    let (bytes_per_second, burst_bytes) = match choice {
        0 => (SLOWEST, 0),
        1 => (100_000, 0),
        2 => (1_000_000, 200_000),
        3 => (0, 0),
        _ => return None,
    };
    Some(RateLimit {
        bytes_per_second,
        burst_bytes,
    })
}

/// How long it takes at most until what each client has sent is read, by its own limit and by that of
/// all; and a minute for what others booked before they left.
pub(super) fn time_for(unread: impl Iterator<Item = u64>) -> Duration {
    let (most, all) = unread.fold((0, 0), |(most, all), bytes| (bytes.max(most), all + bytes));
    Duration::from_secs(60 + most / SLOWEST + all / SHARED.bytes_per_second)
}
