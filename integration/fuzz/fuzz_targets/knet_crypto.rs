//! Opening and sealing with any key, cipher and hash. The properties are in `src/knet_crypto.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::knet_crypto::check(input));
