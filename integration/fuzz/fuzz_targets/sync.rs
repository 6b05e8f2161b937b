//! Messages of the synchronisation. The properties are in `src/sync.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::sync::check(input));
