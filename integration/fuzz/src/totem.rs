//! A packet that decodes is encoded to what was there, but for what a sender leaves open; and back.

use bytes::Bytes;
use membership_core::srp::message::{
    PROCESSORS_MAX, Packet, RTR_MAX, TYPE_MCAST, TYPE_OFFSET, decode, encode,
};

use crate::heap;

/// Where byte 4, "encapsulated", is: of an mcast alone.
const ENCAPSULATED: usize = 4;

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(64 * 1024 + 8 * input.len(), || packet(input));
}

fn packet(input: &[u8]) {
    let datagram = Bytes::copy_from_slice(input);
    let Ok(packet) = decode(&datagram) else { return };
    match &packet {
        Packet::OrfToken(token) => assert!(token.rtr.len() <= RTR_MAX),
        Packet::MembJoin(join) => {
            assert!(join.proc_list.len().max(join.failed_list.len()) <= PROCESSORS_MAX);
        }
        Packet::MembCommitToken(token) => {
            assert!(token.members.len() <= PROCESSORS_MAX && token.members.len() == token.entries.len());
            assert!(token.memb_index as usize <= token.members.len());
        }
        Packet::Mcast(_) | Packet::MembMergeDetect(_) | Packet::TokenHoldCancel(_) => {}
    }
    let again = encode(&packet);
    assert_eq!(decode(&again).as_ref(), Ok(&packet));
    let mut canonical = input[..again.len()].to_vec();
    if input[TYPE_OFFSET] != TYPE_MCAST {
        canonical[ENCAPSULATED] = 0;
    }
    assert_eq!(again, canonical);
}
