//! Recorded packets, damaged: bits, lengths, counts at their extremes, sequence numbers near the wrap, moved to the
//! ring that there is. No sequence of them makes the membership of a node panic, stop or say more than it should.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use bytes::Bytes;
use membership_core::{
    feature,
    srp::{
        Params,
        message::{TYPE_MCAST, TYPE_OFFSET},
    },
    stack::{Input, Output, Stack, StackConfig},
};
use proptest::prelude::*;
use quorate_types::{NodeId, RingId};

const RECORDED: [&str; 2] = [include_str!("data/packets.txt"), include_str!("data/pg-ring-1.9.txt")];
/// What one datagram may make a node send: the messages of a token visit, the token, joins.
const SENDS_MAX: usize = 64;

/// Where the ring id of each type of packet is, and its numbers and counts.
const RING_ID: [Option<usize>; 6] = [Some(29), Some(25), Some(17), None, Some(17), Some(13)];
const NUMBERS: [usize; 8] = [5, 13, 17, 21, 25, 37, 41, 53];
const EXTREMES: [u32; 10] = [0, 1, 2, 30, 384, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_fffe, u32::MAX];

fn id(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

fn unhex(line: &str) -> Vec<u8> {
    (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect()
}

/// The packets, and the payloads in a packet of their own.
fn recorded() -> Vec<Vec<u8>> {
    let lines = |text: &'static str| text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut packets: Vec<Vec<u8>> = lines(RECORDED[0]).map(unhex).collect();
    let head = packets.iter().find(|packet| packet[TYPE_OFFSET] == TYPE_MCAST).unwrap()[..45].to_vec();
    packets.extend(lines(RECORDED[1]).map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let origin: u32 = fields[1].parse().unwrap();
        let mut packet = [head.clone(), unhex(fields[2])].concat();
        packet[4] = 2;
        packet[5..9].copy_from_slice(&origin.to_le_bytes());
        packet[13..17].copy_from_slice(&origin.to_le_bytes());
        packet
    }));
    packets
}

#[derive(Debug, Clone)]
enum Damage {
    None,
    Bit(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Number(usize, u32),
    Near(usize, i8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = prop::sample::select(&NUMBERS[..]);
    prop_oneof![
        3 => Just(Damage::None),
        2 => (any::<prop::sample::Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        2 => (number.clone(), prop::sample::select(&EXTREMES[..])).prop_map(|(at, value)| Damage::Number(at, value)),
        3 => (number, -3i8..20).prop_map(|(at, step)| Damage::Near(at, step)),
    ]
}

fn apply(packet: &mut Vec<u8>, damage: &Damage, high: u32) {
    let put = |packet: &mut Vec<u8>, at: usize, value: u32| {
        if let Some(field) = packet.get_mut(at..at + 4) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    };
    match damage {
        Damage::None => {}
        Damage::Bit(at, bit) => {
            let at = at.index(packet.len());
            packet[at] ^= 1 << bit;
        }
        Damage::Cut(at) => packet.truncate(at.index(packet.len())),
        Damage::Number(at, value) => put(packet, *at, *value),
        Damage::Near(at, step) => put(packet, *at, high.wrapping_add_signed((*step).into())),
    }
}

/// Moves a packet to the present ring.
fn move_to(packet: &mut [u8], ring: RingId) {
    if let Some(at) = RING_ID.get(usize::from(packet[TYPE_OFFSET])).copied().flatten()
        && let Some(field) = packet.get_mut(at..at + 12)
    {
        field[..4].copy_from_slice(&ring.rep.to_le_bytes());
        field[4..].copy_from_slice(&ring.seq.to_le_bytes());
    }
}

fn feed(stack: &mut Stack, now: Instant, input: Input) -> usize {
    let (mut inputs, mut sends) = (vec![input], 0);
    while let Some(input) = inputs.pop() {
        stack.handle_input(now, input);
        while let Some(output) = stack.poll_output() {
            match output {
                Output::Send { .. } => sends += 1,
                Output::StoreRingSeq(ring_seq) => inputs.push(Input::Stored { ring_seq }),
                _ => {}
            }
        }
    }
    sends
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_damaged_recording_stops_a_node_or_makes_it_talk(
        near_wrap: bool,
        packets in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), damage(), damage(), 0u8..3), 1..60),
    ) {
        let all = recorded();
        let mut now = Instant::now();
        let initial_seq = if near_wrap { 0xffff_fff0 } else { 0 };
        let mut stack = Stack::new(StackConfig {
            me: id(2),
            members: (1..4).map(id).collect(),
            params: Params { initial_seq, ..Params::default() },
            config_version: 1,
            feature_level: Some(feature::LEVEL),
            seed: 1,
        });
        feed(&mut stack, now, Input::Start { stored_ring_seq: 0 });
        for (which, here, first, second, timers) in packets {
            let status = stack.status().ring;
            let mut packet = all[which.index(all.len())].clone();
            if here {
                move_to(&mut packet, status.ring);
            }
            apply(&mut packet, &first, status.high_seq_received);
            if !packet.is_empty() {
                apply(&mut packet, &second, status.high_seq_received);
            }
            let sends = feed(&mut stack, now, Input::Datagram(Bytes::from(packet)));
            prop_assert!(sends <= SENDS_MAX, "{} datagrams", sends);
            for _ in 0..timers {
                now = now.max(stack.next_deadline().expect("a started stack always waits for something"));
                prop_assert!(feed(&mut stack, now, Input::Timer) <= SENDS_MAX);
            }
            let members = stack.status().ring.members;
            prop_assert!(stack.status().config_versions.keys().all(|node| members.contains(node)));
        }
    }
}
