//! Stories by their seeds: some in each run of the tests, and the ten thousand of CI by
//! `DERPKIT_SEEDS=10000`. One that fails says its seed, which is told again, aloud, by
//! `DERPKIT_SEED=… cargo test -p derp-server chaos`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::chaos::run;

/// In this many tests, which run side by side.
const PARTS: u64 = 4;
/// As many as a build for debugging tells in a few seconds.
const SEEDS: u64 = 1_000;

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("a seed is a number"))
}

/// The bytes of a story (SplitMix64).
fn story(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let words = 20 + next() % 60;
    (0..words).flat_map(|_| next().to_le_bytes()).collect()
}

fn tell(part: u64) {
    if let Some(seed) = number("DERPKIT_SEED") {
        if part == 0 {
            run(&story(seed), true);
        }
        return;
    }
    let seeds = number("DERPKIT_SEEDS").unwrap_or(SEEDS);
    for seed in (0..seeds).filter(|seed| seed % PARTS == part) {
        let told = catch_unwind(AssertUnwindSafe(|| run(&story(seed), false)));
        assert!(
            told.is_ok(),
            "seed {seed} breaks a promise; tell it with DERPKIT_SEED={seed}"
        );
    }
}

#[test]
fn chaos_breaks_no_promise_part_1() {
    tell(0);
}

#[test]
fn chaos_breaks_no_promise_part_2() {
    tell(1);
}

#[test]
fn chaos_breaks_no_promise_part_3() {
    tell(2);
}

#[test]
fn chaos_breaks_no_promise_part_4() {
    tell(3);
}
