//! The bodies of those fuzz targets that need what this crate keeps to itself: plain functions of
//! bytes, which panic where a promise is broken. Only `fuzz/` turns this on; nothing here is part
//! of the library's interface.

mod tls_handshake;
mod tls_records;

pub use tls_records::tls_records;
