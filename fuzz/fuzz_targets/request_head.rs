//! See `derpkit_fuzz::request_head`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::request_head);
