//! The operational state: the token visit, the idle ring, its end.

use super::{
    super::{
        Destination, Drop, Guarantee, Input, Output, Phase, Reason, StateName,
        message::{MembMergeDetect, Packet, RtrItem, TokenHoldCancel},
    },
    bench::{Bench, id, mcast, ms, token},
};

/// Node 2 of an idle ring of 1 and 2, alone on the bench, and the next token for it.
fn second_of_two() -> (Bench, super::super::message::OrfToken) {
    let mut bench = Bench::operational(&[1, 2]);
    bench.multicast(1, "wakes the ring up");
    bench.settle();
    bench.rings.remove(&1);
    let seq = bench.rings[&2].status().high_seq_received;
    let sent = bench.sent();
    let last = sent.iter().rev().find_map(|packet| match packet {
        Packet::OrfToken(token) => Some(token.token_seq),
        _ => None,
    });
    let next = token(1, bench.ring_id(2), seq, last.unwrap() + 10, seq);
    bench.outputs.clear();
    (bench, next)
}

#[test]
fn messages_leave_before_the_token_and_are_delivered_after_it() {
    let (mut bench, mut token) = second_of_two();
    let stored = token.seq;
    let ring_id = token.ring_id;
    let old = mcast(1, ring_id, stored + 1, "kept for retransmission");
    bench.packet(2, &Packet::Mcast(old.clone()));
    token.seq += 1;
    token.rtr.push(RtrItem { ring_id, seq: stored + 1 });
    bench.multicast(2, "new");
    bench.outputs.clear();
    bench.wire.clear();

    bench.packet(2, &Packet::OrfToken(token));

    let outputs = &bench.outputs[&2];
    assert!(matches!(outputs[0], Output::Send { to: Destination::All, .. }));
    assert!(matches!(outputs[1], Output::Send { to: Destination::All, .. }));
    assert!(matches!(outputs[2], Output::Send { to: Destination::Node(_), .. }));
    assert!(matches!(&outputs[3], Output::Deliver(d) if d.payload == "new" && d.seq == stored + 2));
    assert_eq!(outputs.last(), Some(&Output::TokenSent));
    let sent = bench.sent();
    assert_eq!(sent[0], Packet::Mcast(old), "unchanged, whoever sent it first");
    let Packet::OrfToken(next) = &sent[2] else { panic!("{sent:?}") };
    assert_eq!((next.seq, next.aru, next.rtr.len(), next.fcc), (stored + 2, stored + 2, 0, 2));
}

#[test]
fn token_of_another_ring_and_copy_of_a_token_are_dropped() {
    let (mut bench, token) = second_of_two();
    let mut foreign = token.clone();
    foreign.ring_id.seq += 4;

    bench.packet(2, &Packet::OrfToken(foreign));
    bench.packet(2, &Packet::OrfToken(token.clone()));
    let before = bench.wire.len();
    bench.packet(2, &Packet::OrfToken(token));

    assert_eq!(bench.wire.len(), before);
    let stats = bench.rings[&2].stats();
    assert_eq!((stats.dropped(Drop::ForeignRing), stats.dropped(Drop::DuplicateToken)), (1, 1));
}

#[test]
fn missing_message_lowers_the_aru_until_it_arrives() {
    let (mut bench, mut token) = second_of_two();
    let have = token.seq;
    token.seq += 1;
    token.aru += 1;
    bench.wire.clear();

    bench.packet(2, &Packet::OrfToken(token.clone()));
    let sent = bench.sent();
    let Packet::OrfToken(lowered) = &sent[0] else { panic!("{sent:?}") };
    assert_eq!((lowered.aru, lowered.aru_addr), (have, 2));
    bench.packet(2, &Packet::Mcast(mcast(1, token.ring_id, have + 1, "late")));
    let mut next = lowered.clone();
    next.token_seq += 1;
    bench.packet(2, &Packet::OrfToken(next));

    let sent = bench.sent();
    let Packet::OrfToken(raised) = &sent[0] else { panic!("{sent:?}") };
    assert_eq!((raised.aru, raised.aru_addr), (have + 1, 0));
}

#[test]
fn node_without_progress_for_too_many_rotations_cuts_itself_off() {
    let (mut bench, mut token) = second_of_two();
    token.seq += 1;

    for _ in 0..2503 {
        token.aru = bench.rings[&2].status().aru;
        token.aru_addr = 2;
        bench.packet(2, &Packet::OrfToken(token.clone()));
        token.token_seq += 2;
    }

    assert_eq!(bench.state(2), StateName::Gather);
    assert_eq!(bench.rings[&2].status().failed, [id(2)]);
    bench.pass(ms(3600));
    bench.settle();
    assert_eq!(bench.state(2), StateName::Operational, "alone");
    assert_eq!(bench.rings[&2].status().members, [id(2)]);
}

/// Scenario 42 of the specification (`docs/protocols/correctness.md`).
#[test]
fn requests_that_a_node_cannot_serve_cost_it_nothing_of_its_own_share() {
    let (mut bench, mut token) = second_of_two();
    let (ring_id, seq) = (token.ring_id, token.seq);
    token.seq += 5;
    token.rtr = (1..=5).map(|missing| RtrItem { ring_id, seq: seq + missing }).collect();
    (0..30).for_each(|_| bench.multicast(2, "much to say"));
    bench.wire.clear();

    bench.packet(2, &Packet::OrfToken(token));

    let sent = bench.sent().into_iter().filter(|packet| matches!(packet, Packet::Mcast(_))).count();
    assert_eq!(sent, 17, "as many as a visit allows");
}

#[test]
fn token_loss_moves_operational_to_gather() {
    let mut bench = Bench::operational(&[1, 2]);
    bench.rings.remove(&1);

    bench.pass(ms(3000));

    assert_eq!(bench.state(2), StateName::Gather);
    let lost = Output::StateChanged {
        from: StateName::Operational,
        to: StateName::Gather,
        reason: Reason::TokenLost,
    };
    assert!(bench.outputs[&2].contains(&lost));
}

#[test]
fn token_is_sent_again_when_no_later_one_comes() {
    let (mut bench, token) = second_of_two();
    bench.packet(2, &Packet::OrfToken(token));
    let first = bench.sent();

    bench.pass(ms(1430));

    assert_eq!(bench.sent(), [first.clone(), first].concat());
    assert_eq!(bench.rings[&2].stats().token_retx, 2);
}

#[test]
fn representative_announces_an_idle_ring() {
    let mut bench = Bench::operational(&[1, 2]);
    let ring_id = bench.ring_id(1);

    bench.pass(ms(561));
    bench.settle();
    bench.pass(ms(200));

    let detect = MembMergeDetect { nodeid: id(1), target_nodeid: 0, system_from: id(1), ring_id };
    assert!(bench.sent().contains(&Packet::MembMergeDetect(detect)));
}

#[test]
fn merge_detect_of_another_ring_starts_to_gather() {
    let mut bench = Bench::operational(&[1, 2]);
    let mut ring_id = bench.ring_id(1);
    let detect = |ring_id| {
        Packet::MembMergeDetect(MembMergeDetect {
            nodeid: id(3),
            target_nodeid: 0,
            system_from: id(3),
            ring_id,
        })
    };

    bench.packet(1, &detect(ring_id));
    assert_eq!(bench.state(1), StateName::Operational, "our own ring");
    ring_id.rep = 3;
    bench.packet(1, &detect(ring_id));

    assert_eq!(bench.state(1), StateName::Gather);
}

#[test]
fn message_of_the_representative_of_an_idle_ring_leaves_with_the_held_token() {
    let mut bench = Bench::operational(&[1, 2]);
    assert!(bench.rings[&1].has_token() && bench.rings[&1].status().token_held);

    bench.multicast(1, "a");
    bench.multicast(1, "b");
    assert_eq!(bench.sent(), []);
    bench.input(1, Input::Timer);

    assert!(matches!(bench.sent()[..], [Packet::Mcast(_), Packet::Mcast(_), Packet::OrfToken(_)]));
    let delivered = bench.outputs[&1].iter().filter(|o| matches!(o, Output::Deliver(_))).count();
    assert_eq!(delivered, 2);
}

#[test]
fn message_of_another_member_of_an_idle_ring_cancels_the_hold() {
    let mut bench = Bench::operational(&[1, 2]);
    let cancel = TokenHoldCancel { nodeid: id(2), target_nodeid: 0, ring_id: bench.ring_id(2) };

    bench.multicast(2, "a");
    bench.input(2, Input::NewMessage);
    assert_eq!(bench.sent(), [Packet::TokenHoldCancel(cancel)], "once");
    bench.settle();

    assert!(bench.outputs[&1].iter().any(|o| matches!(o, Output::Deliver(d) if d.payload == "a")));
}

#[test]
fn message_of_the_normal_phase_waits_for_the_end_of_the_transition() {
    let mut bench = Bench::new(&[1]);
    bench.input(1, Input::Start { stored_ring_seq: 0 });
    bench.settle();
    let multicast = |payload: &'static str, phase| Input::Multicast {
        payload: payload.into(),
        phase,
        guarantee: Guarantee::Safe,
    };

    bench.input(1, multicast("application", Phase::Normal));
    bench.input(1, multicast("synchronisation", Phase::Transitional));
    bench.settle();
    bench.input(1, Input::TransitionalAck);
    bench.settle();

    let delivered: Vec<_> = bench.outputs[&1]
        .iter()
        .filter_map(|o| match o {
            Output::Deliver(d) => Some((&d.payload[..], d.guarantee)),
            _ => None,
        })
        .collect();
    assert_eq!(
        delivered,
        [(&b"synchronisation"[..], Guarantee::Safe), (&b"application"[..], Guarantee::Safe)]
    );
}

#[test]
fn message_beyond_the_queue_is_refused_and_counted() {
    let mut bench = Bench::new(&[1]);
    let most = bench.rings[&1].queue_room(Phase::Normal);
    bench.input(1, Input::Start { stored_ring_seq: 0 });

    for _ in 0..=most {
        bench.multicast(1, "x");
    }

    assert_eq!(bench.rings[&1].queue_room(Phase::Normal), 0);
    assert_eq!(bench.rings[&1].stats().dropped(Drop::QueueFull), 1);
}

#[test]
fn a_message_whose_originator_is_no_member_of_its_ring_is_dropped() {
    let (mut bench, token) = second_of_two();
    let mut forged = mcast(1, token.ring_id, token.seq + 1, "in the name of a stranger");
    forged.nodeid = id(77);
    let stranger = mcast(77, token.ring_id, token.seq + 1, "of a stranger");

    bench.packet(2, &Packet::Mcast(forged));
    bench.packet(2, &Packet::Mcast(stranger));

    assert_eq!(bench.state(2), StateName::Operational);
    assert_eq!(bench.rings[&2].stats().dropped(Drop::ForeignMessage), 2);
    assert_eq!(bench.rings[&2].status().high_seq_received, token.seq);
}
