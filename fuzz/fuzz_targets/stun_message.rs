//! See `derpkit_fuzz::stun_message`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::stun_message);
