//! See `derpkit_fuzz::derp_map`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::derp_map);
