//! See `derpkit_fuzz::client_info`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::client_info);
