//! Packets of knet, in clear. The properties are in `src/knet_packet.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_fuzz::knet_packet::check(input));
