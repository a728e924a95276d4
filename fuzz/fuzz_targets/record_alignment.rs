//! See `derpkit_fuzz::record_alignment`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::record_alignment);
