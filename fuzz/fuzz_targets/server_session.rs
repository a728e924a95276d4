//! See `derpkit_fuzz::server_session`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::server_session);
