//! Packets of the ring. The properties are in `src/totem.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::totem::check(input));
