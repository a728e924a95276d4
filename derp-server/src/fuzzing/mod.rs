//! The bodies of those fuzz targets that need what this crate keeps to itself: plain functions of
//! bytes, which panic where a promise is broken. Only `fuzz/` turns this on; nothing here is part
//! of the library's interface.

mod alike;
mod forwarded_header;
mod proxy_header;
mod record_alignment;
mod registry;
mod relay;
mod request_head;
mod server_session;
mod tls_handshake;
mod tls_records;
mod websocket_server;

pub use forwarded_header::forwarded_header;
pub use proxy_header::proxy_header;
pub use record_alignment::record_alignment;
pub use registry::registry;
pub use relay::relay;
pub use request_head::request_head;
pub use server_session::server_session;
pub use tls_records::tls_records;
pub use websocket_server::websocket_server;
