//! Replicated messages and operations of the configuration store. The properties are in `src/config_store.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::config_store::check(input));
