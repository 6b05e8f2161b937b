//! A replica of the configuration store: group, votes, transfers. The properties are in `src/config_replica.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::config_replica::check(input));
