//! The whole relay core, among clients that do what a fuzzer says.

/// A story of the simulation: see `sim/chaos.rs`. Each action is a byte for its kind, and then
/// what the kind needs.
pub fn relay(data: &[u8]) {
    crate::sim::run(data, false);
}
