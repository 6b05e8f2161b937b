//! Text of join tokens and fingerprints. The properties are in `src/join_token.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::join_token::check(input));
