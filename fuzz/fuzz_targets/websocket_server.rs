//! See `derpkit_fuzz::websocket_server`.
#![cfg_attr(fuzzing, no_main)]

derpkit_fuzz::fuzz_program!(derpkit_fuzz::websocket_server);
