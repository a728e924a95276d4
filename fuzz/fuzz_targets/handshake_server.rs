//! See `derpkit_fuzz::handshake_server`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::handshake_server);
