//! See `derpkit_fuzz::operator_files`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::operator_files);
