//! What an operator sets and asks for while clients are connected: limits, changes of limits,
//! lists of clients, and ends.

#[path = "../support/mod.rs"]
mod support;

mod drain;
mod end;
mod entry;
mod live;
