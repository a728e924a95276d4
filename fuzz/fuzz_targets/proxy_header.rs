//! See `derpkit_fuzz::proxy_header`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::proxy_header);
