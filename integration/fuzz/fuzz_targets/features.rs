//! Announcements of features, service 40. The properties are in `src/features.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::features::check(input));
