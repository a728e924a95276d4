//! See `derpkit_fuzz::forwarded_header`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::forwarded_header);
