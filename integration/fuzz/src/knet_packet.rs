//! A packet of knet that decodes is encoded to what was there, but for two bytes without meaning.

use bytes::Bytes;
use membership_core::knet::packet::{Body, Packet};

use crate::heap;

/// Bytes that are sent as 0 and not looked at: in every packet, and in a data packet.
const RESERVED: usize = 5;
const RESERVED_OF_DATA: usize = 9;

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(16 * 1024 + 4 * input.len(), || {
        let Ok(packet) = Packet::from_wire(&Bytes::copy_from_slice(input)) else { return };
        let (head, rest) = packet.to_wire();
        let again = [head.as_slice(), &rest].concat();
        let mut canonical = input[..again.len()].to_vec();
        canonical[RESERVED] = 0;
        if matches!(packet.body, Body::Data(..)) {
            canonical[RESERVED_OF_DATA] = 0;
            assert_eq!(again.len(), input.len());
        }
        assert_eq!(again, canonical);
        assert_eq!(Packet::from_wire(&again.into()), Ok(packet));
    });
}
