//! A payload that decodes is encoded to the byte, and no sequence of payloads makes more than it brought.

use bytes::Bytes;
use membership_core::{
    pg::{Assembler, Group, Packet},
    srp::Phase,
};

use crate::{feed::Feed, heap};

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(1 << 20 | 128 * input.len(), || {
        packet(&Bytes::copy_from_slice(input));
        sequence(Feed(input));
    });
}

fn packet(payload: &Bytes) {
    if let Ok(packet) = Packet::from_wire(payload) {
        assert_eq!(packet.to_wire(), payload);
    }
    if let Some((group, rest)) = Group::split(payload.clone()) {
        let whole = [group.header(), &rest].concat();
        assert_eq!(Group::split(whole.into()), Some((group, rest)));
    }
}

fn sequence(mut feed: Feed<'_>) {
    let mut assembler = Assembler::default();
    let (mut brought, mut made, mut messages) = (0, 0, 0);
    while !feed.is_empty() {
        let op = feed.byte();
        let from = feed.node(3);
        match op % 8 {
            0 => assembler.nodes_joined(),
            1 => assembler.forget(from),
            _ => {
                let phase = if op & 8 == 0 { Phase::Normal } else { Phase::Transitional };
                let payload = feed.piece();
                brought += payload.len();
                for assembled in assembler.accept(from, phase, &payload) {
                    made += assembled.message.len();
                    messages += 1;
                    let _ = Group::split(assembled.message);
                }
                assert!(made <= brought, "{made} bytes out of {brought}");
                assert_eq!(assembler.stats().messages, messages);
            }
        }
    }
}
