//! All links of a node: datagrams from several addresses, timers, changes of keys. The properties are in `src/knet_links.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::knet_links::check(input));
