//! The membership of a node: datagrams, timers, requests. The properties are in `src/stack.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::stack::check(input));
