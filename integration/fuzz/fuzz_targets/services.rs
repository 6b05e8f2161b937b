//! Messages of cfg and cmap, and the header of all services. The properties are in `src/services.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::services::check(input));
