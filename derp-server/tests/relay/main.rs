//! What a relay does for its clients, over every kind of connection that it serves.
//!
//! The stories are those of the reference's tests (`derp/derp_test.go`,
//! `derp/derpserver/derpserver_test.go`, `derp/derphttp/derphttp_test.go`), as far as they can be
//! seen from outside, and what its code does and they do not tell. After each of them the relay
//! must have accounted for every packet, and end with nothing left (`support/relay.rs`).

#[path = "../support/mod.rs"]
mod support;

mod departures;
mod duplicates;
mod forwarders;
mod frames;
mod login;
mod mesh;
mod packets;
mod watch;
