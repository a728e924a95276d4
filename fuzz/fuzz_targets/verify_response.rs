//! See `derpkit_fuzz::verify_response`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::verify_response);
