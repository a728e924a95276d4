//! The bodies of the fuzz targets: plain functions of bytes, which panic where a promise is
//! broken.
//!
//! libFuzzer calls them through `fuzz_targets/`, and `tests/replay.rs` calls them with every
//! committed input on the stable toolchain. What is not here: anything that needs a socket, a
//! clock or randomness of its own; and the bodies of targets for what a crate keeps to itself,
//! which are in its module `fuzzing`.

#![forbid(unsafe_code)]

mod frames;
mod handshake;
mod map;
mod operator;
mod stun;
mod url;

pub use derp_client::fuzzing::{http_response, websocket_client};
pub use derp_server::fuzzing::{
    forwarded_header, proxy_header, record_alignment, registry, relay, request_head,
    server_session, tls_records, websocket_server,
};
pub use derp_verify::fuzzing::verify_response;
pub use frames::{client_frames, server_frames};
pub use handshake::{client_info, handshake_client, handshake_server};
pub use map::derp_map;
pub use operator::{derper_config, go_flags, operator_files};
pub use stun::stun_message;
pub use url::server_url;

/// A target's body.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: [(&str, Target); 23] = [
    ("client_frames", client_frames),
    ("server_frames", server_frames),
    ("client_info", client_info),
    ("handshake_server", handshake_server),
    ("handshake_client", handshake_client),
    ("derp_map", derp_map),
    ("stun_message", stun_message),
    ("tls_records", tls_records),
    ("request_head", request_head),
    ("websocket_server", websocket_server),
    ("websocket_client", websocket_client),
    ("http_response", http_response),
    ("server_session", server_session),
    ("record_alignment", record_alignment),
    ("registry", registry),
    ("relay", relay),
    ("derper_config", derper_config),
    ("go_flags", go_flags),
    ("operator_files", operator_files),
    ("server_url", server_url),
    ("proxy_header", proxy_header),
    ("forwarded_header", forwarded_header),
    ("verify_response", verify_response),
];

/// Makes a program of a target: under cargo-fuzz libFuzzer's, and else one that runs the target
/// with the files that its arguments name.
#[macro_export]
macro_rules! fuzz_program {
    ($target:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $target(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            std::env::args_os()
                .skip(1)
                .try_for_each(|path| Ok($target(&std::fs::read(path)?)))
        }
    };
}
