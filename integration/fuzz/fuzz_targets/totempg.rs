//! Payloads of ring multicasts, several in sequence, and what they make together. The properties are in `src/totempg.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::totempg::check(input));
