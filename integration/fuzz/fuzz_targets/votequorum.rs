//! Messages of votequorum, and the engine that is given them. The properties are in `src/votequorum.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::votequorum::check(input));
