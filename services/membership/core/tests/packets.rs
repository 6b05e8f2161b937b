//! The packets on the wire: what corosync recorded is read and written back to the byte, and no
//! input makes the decoder or a ring panic.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use membership_core::srp::{
    Input, Output, Params, Ring,
    message::{self, Mcast, MembCommitToken, MembJoin, OrfToken, Packet},
};
use proptest::prelude::*;
use quorate_types::{NodeId, RingId};

const RECORDED: &str = include_str!("data/packets.txt");

fn unhex(line: &str) -> Bytes {
    let digit = |i: usize| u8::from_str_radix(&line[i..i + 2], 16).unwrap();
    (0..line.len()).step_by(2).map(digit).collect()
}

fn recorded() -> Vec<(&'static str, Bytes)> {
    let mut comment = "";
    let mut packets = Vec::new();
    for line in RECORDED.lines() {
        match line.strip_prefix('#') {
            Some(text) => comment = text.trim(),
            None if line.is_empty() => {}
            None => packets.push((comment, unhex(line))),
        }
    }
    packets
}

fn id(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

#[test]
fn recorded_packets_are_written_back_to_the_byte() {
    let mut kinds = BTreeSet::new();

    for (what, bytes) in recorded() {
        let packet = message::decode(&bytes).unwrap_or_else(|e| panic!("{what}: {e:?}"));

        assert_eq!(message::encode(&packet), bytes, "{what}");
        kinds.insert(bytes[message::TYPE_OFFSET]);
    }

    assert_eq!(kinds, (0..=5).collect(), "all six kinds are recorded");
}

#[test]
fn recorded_packets_say_what_their_comments_say() {
    let find = |text: &str| {
        let (_, bytes) = recorded().into_iter().find(|(what, _)| what.contains(text)).unwrap();
        message::decode(&bytes).unwrap()
    };

    let Packet::OrfToken(OrfToken { seq, aru, aru_addr, ring_id, .. }) = find("aru 0xffffffff") else {
        panic!("a token");
    };
    assert_eq!((seq, aru, aru_addr, ring_id), (0, u32::MAX, 1, RingId { rep: 1, seq: 9 }));
    let Packet::OrfToken(OrfToken { rtr, .. }) = find("1 requests") else { panic!("a token") };
    assert_eq!((rtr.len(), rtr[0].seq), (1, 32));
    let Packet::MembJoin(leave) = find("leave from 2") else { panic!("a leave") };
    assert!(leave.is_leave());
    assert_eq!(
        (leave.system_from, leave.proc_list, leave.failed_list),
        (id(2), vec![id(1), id(3)], vec![id(2)])
    );
    let Packet::Mcast(Mcast { encapsulated, payload, .. }) = find("recovery copy") else { panic!("mcast") };
    assert!(encapsulated);
    let Ok(Packet::Mcast(inner)) = message::decode(&payload) else { panic!("an mcast inside") };
    assert_eq!((inner.seq, inner.ring_id), (68, RingId { rep: 1, seq: 9 }));
    let Packet::MembCommitToken(MembCommitToken { members, memb_index, entries, .. }) = find("filled 2 of 3")
    else {
        panic!("a commit token");
    };
    assert_eq!((members, memb_index), (vec![id(1), id(2), id(3)], 2));
    assert_eq!(entries[0].received_flg, 1);
    assert_eq!(entries[2].ring_id, RingId::default());
}

/// A started ring, and what it sent and stored.
fn feed(packets: impl IntoIterator<Item = Bytes>) -> Ring {
    let mut now = Instant::now();
    let mut ring = Ring::new(id(2), Params::default(), 1);
    ring.handle_input(now, Input::Start { stored_ring_seq: 0 });
    for packet in packets {
        for input in [Input::Datagram(packet), Input::Timer] {
            ring.handle_input(now, input);
            while let Some(output) = ring.poll_output() {
                if let Output::StoreRingSeq(ring_seq) = output {
                    ring.handle_input(now, Input::Stored { ring_seq });
                }
            }
        }
        now += Duration::from_millis(40);
    }
    ring
}

fn node() -> impl Strategy<Value = NodeId> {
    (1u32..6).prop_map(id)
}

fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
    prop::collection::vec(node(), 0..8)
}

fn ring_id() -> impl Strategy<Value = RingId> {
    (0u32..4, 0u64..40).prop_map(|(rep, seq)| RingId { rep, seq })
}

fn join() -> impl Strategy<Value = Packet> {
    (prop::option::of(node()), any::<u32>(), node(), 0u64..40, nodes(), nodes()).prop_map(
        |(nodeid, target_nodeid, system_from, ring_seq, proc_list, failed_list)| {
            Packet::MembJoin(MembJoin {
                nodeid,
                target_nodeid,
                system_from,
                ring_seq,
                proc_list,
                failed_list,
            })
        },
    )
}

fn mcast() -> impl Strategy<Value = Packet> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>(), 0u32..3);
    (node(), any::<bool>(), node(), ring_id(), numbers, prop::collection::vec(any::<u8>(), 0..100)).prop_map(
        |(
            nodeid,
            encapsulated,
            system_from,
            ring_id,
            (target_nodeid, seq, this_seqno, guarantee),
            payload,
        )| {
            Packet::Mcast(Mcast {
                nodeid,
                target_nodeid,
                encapsulated,
                system_from,
                seq,
                this_seqno,
                ring_id,
                node_id: 0,
                guarantee,
                payload: payload.into(),
            })
        },
    )
}

fn orf_token() -> impl Strategy<Value = Packet> {
    let item = (ring_id(), any::<u32>()).prop_map(|(ring_id, seq)| message::RtrItem { ring_id, seq });
    let numbers = prop::array::uniform8(any::<u32>());
    (node(), ring_id(), numbers, prop::collection::vec(item, 0..=message::RTR_MAX)).prop_map(
        |(
            nodeid,
            ring_id,
            [target_nodeid, seq, token_seq, aru, aru_addr, backlog, fcc, retrans_flg],
            rtr,
        )| {
            Packet::OrfToken(OrfToken {
                nodeid,
                target_nodeid,
                seq,
                token_seq,
                aru,
                aru_addr,
                ring_id,
                backlog,
                fcc,
                retrans_flg,
                rtr,
            })
        },
    )
}

fn commit_token() -> impl Strategy<Value = Packet> {
    let entry = (ring_id(), any::<u32>(), any::<u32>(), 0u32..2).prop_map(
        |(ring_id, aru, high_delivered, received_flg)| message::CommitEntry {
            ring_id,
            aru,
            high_delivered,
            received_flg,
        },
    );
    let members = prop::collection::btree_set(node(), 1..5);
    (node(), any::<u32>(), any::<u32>(), 0u64..40, members, prop::collection::vec(entry, 5), 0u32..6)
        .prop_map(|(nodeid, target_nodeid, token_seq, seq, members, mut entries, index)| {
            let members: Vec<NodeId> = members.into_iter().collect();
            entries.truncate(members.len());
            Packet::MembCommitToken(MembCommitToken {
                nodeid,
                target_nodeid,
                token_seq,
                ring_id: RingId { rep: members[0].get(), seq },
                retrans_flg: 0,
                memb_index: index.min(members.len() as u32),
                members,
                entries,
            })
        })
}

fn any_packet() -> impl Strategy<Value = Packet> {
    prop_oneof![join(), mcast(), orf_token(), commit_token()]
}

proptest! {
    #[test]
    fn every_packet_survives_the_way_over_the_wire(packet in any_packet()) {
        let bytes = message::encode(&packet);

        prop_assert_eq!(message::decode(&bytes), Ok(packet));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = message::decode(&Bytes::from(bytes));
    }

    #[test]
    fn no_damage_to_a_packet_makes_the_decoder_panic(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let all = recorded();
        let mut bytes = all[which.index(all.len())].1.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        bytes.truncate(1 + cut.index(bytes.len()));

        let _ = message::decode(&Bytes::from(bytes));
    }

    #[test]
    fn no_sequence_of_packets_makes_a_ring_panic(packets in prop::collection::vec(any_packet(), 1..40)) {
        let ring = feed(packets.iter().map(message::encode));

        prop_assert!(ring.next_deadline().is_some(), "a started ring always waits for something");
    }
}
