//! See `derpkit_fuzz::tls_records`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::tls_records);
