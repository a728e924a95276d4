//! Maps from elsewhere than a JSON document: this machine's tailscaled, Headscale's files, and
//! single relays. Which of them is meant is read in [`crate::derpmap`].

pub mod headscale;
pub mod local;
pub mod one;
