//! Messages of process groups, several in sequence. The properties are in `src/cpg.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::cpg::check(input));
