//! Text of `corosync.conf`. The properties are in `src/corosync_conf.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::corosync_conf::check(input));
