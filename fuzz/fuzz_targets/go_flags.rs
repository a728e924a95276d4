//! See `derpkit_fuzz::go_flags`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::go_flags);
