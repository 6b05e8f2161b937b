//! What the assembler makes of packets: our own, cut short, foreign and arbitrary.

use proptest::prelude::*;

use super::*;
use crate::{
    pg::{Group, Packer, packer::Fill},
    srp::Guarantee,
};

fn node(id: u32) -> NodeId {
    NodeId::new(id).expect("test ids are not 0")
}

fn packets(payload_max: usize, bodies: &[Bytes]) -> Vec<Bytes> {
    let mut packer = Packer::new(payload_max);
    for body in bodies {
        packer.stage(Group::Service, Bytes::new(), body.clone(), Guarantee::Agreed);
    }
    std::iter::from_fn(|| packer.next_packet(Fill::Any).map(|(packet, _)| packet)).collect()
}

fn body(length: usize) -> Bytes {
    (0..length).map(|index| (index / 7 + index) as u8).collect()
}

fn bodies(messages: Vec<Assembled>) -> Vec<Bytes> {
    messages.into_iter().map(|assembled| Group::split(assembled.message).expect("group header").1).collect()
}

fn round_trip(payload_max: usize, sent: &[Bytes]) -> Vec<Bytes> {
    let mut assembler = Assembler::default();
    let packets = packets(payload_max, sent);
    assert!(packets.iter().all(|packet| packet.len() <= payload_max));
    bodies(packets.iter().flat_map(|packet| assembler.accept(node(1), Phase::Normal, packet)).collect())
}

#[test]
fn sizes_around_a_packet_and_the_largest_message_survive() {
    for length in (0..=2).chain(1380..=1420).chain([2790, 65_536, MESSAGE_MAX - 212, MESSAGE_MAX - 5]) {
        let sent = [body(length), body(3), body(length), body(212)];
        assert_eq!(round_trip(1410, &sent), sent, "length {length}");
    }
}

#[test]
fn a_message_beyond_the_limit_is_dropped_and_the_next_one_arrives() {
    let mut assembler = Assembler::default();
    let sent = [body(BUFFER_MAX + 1), body(9)];
    let arrived: Vec<_> = packets(1410, &sent)
        .iter()
        .flat_map(|packet| assembler.accept(node(1), Phase::Normal, packet))
        .collect();
    assert_eq!(bodies(arrived), [body(9)]);
    assert_eq!(assembler.stats().oversized, 1);
}

#[test]
fn a_node_that_joins_in_the_middle_drops_only_the_message_it_cannot_know() {
    // given a receiver that misses the first fragment
    let sent = [body(3000), body(10), body(2000)];
    let packets = packets(1410, &sent);
    let mut assembler = Assembler::default();
    // when it receives the rest
    let arrived: Vec<_> =
        packets[1..].iter().flat_map(|packet| assembler.accept(node(1), Phase::Normal, packet)).collect();
    // then the following messages are whole
    assert_eq!(bodies(arrived), sent[1..]);
    assert_eq!(assembler.stats().start_unknown, 1);
}

#[test]
fn synchronisation_between_two_fragments_does_not_disturb_them() {
    let (application, sync) = (packets(1410, &[body(2000)]), packets(1410, &[body(1500)]));
    let mut assembler = Assembler::default();
    let mut accept = |phase, packet| bodies(assembler.accept(node(1), phase, packet));
    assert!(accept(Phase::Normal, &application[0]).is_empty());
    assert!(accept(Phase::Transitional, &sync[0]).is_empty());
    assert_eq!(accept(Phase::Transitional, &sync[1]), [body(1500)]);
    assert_eq!(accept(Phase::Normal, &application[1]), [body(2000)]);
}

#[test]
fn a_message_that_began_before_nodes_joined_says_so() {
    let packets = packets(1410, &[body(2000), body(10)]);
    let mut assembler = Assembler::default();
    assembler.accept(node(1), Phase::Normal, &packets[0]);
    assembler.nodes_joined();
    let spans = assembler.accept(node(1), Phase::Normal, &packets[1]);
    assert_eq!(spans.iter().map(|assembled| assembled.spans_change).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn the_beginning_of_a_node_that_left_is_forgotten() {
    let packets = packets(1410, &[body(2000)]);
    let mut assembler = Assembler::default();
    assembler.accept(node(1), Phase::Normal, &packets[0]);
    assembler.forget(node(1));
    assert!(assembler.accept(node(1), Phase::Normal, &packets[1]).is_empty());
    assert_eq!(assembler.stats().start_unknown, 1);
}

#[test]
fn two_originators_do_not_mix() {
    let (ones, twos) = (packets(1410, &[body(2000)]), packets(1410, &[body(2500)]));
    let mut assembler = Assembler::default();
    assembler.accept(node(1), Phase::Normal, &ones[0]);
    assembler.accept(node(2), Phase::Normal, &twos[0]);
    assert_eq!(bodies(assembler.accept(node(1), Phase::Normal, &ones[1])), [body(2000)]);
    assert_eq!(bodies(assembler.accept(node(2), Phase::Normal, &twos[1])), [body(2500)]);
}

proptest! {
    #[test]
    fn what_was_packed_is_assembled(
        payload_max in prop_oneof![Just(1410usize), Just(65_446), 80..3000usize],
        lengths in proptest::collection::vec(prop_oneof![0..100usize, 1390..1415usize, 0..20_000usize], 1..20),
    ) {
        let sent: Vec<_> = lengths.into_iter().map(body).collect();
        prop_assert_eq!(round_trip(payload_max, &sent), sent);
    }

    #[test]
    fn arbitrary_packets_never_panic(
        payloads in proptest::collection::vec(
            (any::<(u8, u8)>(), proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 1..4)),
            0..20,
        )
    ) {
        let mut assembler = Assembler::default();
        for ((fragmented, continuation), pieces) in payloads {
            let pieces = pieces.into_iter().map(Bytes::from).collect();
            let packet = Packet { fragmented: fragmented % 3, continuation: continuation % 3, pieces };
            assembler.accept(node(1), Phase::Normal, &packet.to_wire());
        }
    }
}
