//! See `derpkit_fuzz::derper_config`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::derper_config);
