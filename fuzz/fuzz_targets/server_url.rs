//! See `derpkit_fuzz::server_url`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::server_url);
