//! Transitions of recovery, and the formation of a ring as it looks on the wire.

use super::{
    super::{
        ConfigurationChange, Drop, Input, Output, StateName,
        message::{self, Packet},
    },
    bench::{Bench, commit_token, id, ids, join, mcast, ms, token},
};

/// Node 1 in recovery on ring 1.13 with node 2, after node 1 sent the commit token on; node 2 is
/// only made up. Returns the bench and the commit token's sequence.
fn recovering() -> (Bench, u32) {
    let mut bench = Bench::new(&[1]);
    bench.input(1, Input::Start { stored_ring_seq: 0 });
    bench.settle();
    bench.packet(1, &join(2, 9, &[1, 2], &[]));
    let Some(Packet::MembCommitToken(mut back)) = bench.sent().pop() else { panic!("a commit token") };
    assert_eq!((back.ring_id.seq, back.token_seq), (13, 1));
    back.token_seq = 2;
    back.memb_index = 2;
    bench.packet(1, &Packet::MembCommitToken(back));
    assert_eq!(bench.state(1), StateName::Recovery);
    bench.wire.clear();
    (bench, 3)
}

#[test]
fn ring_of_three_shows_six_commit_tokens_and_then_the_first_token() {
    let mut bench = Bench::new(&[1, 2, 3]);
    for n in [1, 2, 3] {
        bench.input(n, Input::Start { stored_ring_seq: 0 });
    }
    for _ in 0..10 {
        bench.settle();
        bench.pass(ms(50));
    }

    let ring = bench.ring_id(1);
    let of_ring = |(from, packet): &(u32, Packet)| match packet {
        Packet::MembCommitToken(t) if t.ring_id == ring => Some((*from, "commit", t.token_seq, t.memb_index)),
        Packet::OrfToken(t) if t.ring_id == ring => Some((*from, "orf", t.token_seq, t.aru)),
        _ => None,
    };
    let seen: Vec<_> = bench.wire.iter().filter_map(of_ring).take(8).collect();
    let first_rotation = [(1, "commit", 1, 1), (2, "commit", 2, 2), (3, "commit", 3, 3)];
    let second_rotation = [(1, "commit", 4, 3), (2, "commit", 5, 3), (3, "commit", 6, 3)];
    assert_eq!(seen[..3], first_rotation);
    assert_eq!(seen[3..6], second_rotation);
    assert_eq!(seen[6..], [(1, "orf", 0, u32::MAX), (2, "orf", 1, u32::MAX)]);
}

#[test]
fn first_token_is_the_same_as_that_of_corosync() {
    const RECORDED: &str = include_str!("../../../tests/data/packets.txt");
    let recorded = RECORDED.lines().skip_while(|l| !l.contains("aru 0xffffffff")).nth(1).unwrap();
    let mut bench = Bench::new(&[1]);
    bench.input(1, Input::Start { stored_ring_seq: 0 });
    bench.settle();
    bench.packet(1, &join(2, 5, &[1, 2], &[]));
    let mut commit = commit_token(2, 9, &[1, 2]);
    (commit.token_seq, commit.memb_index) = (2, 2);
    bench.packet(1, &Packet::MembCommitToken(commit.clone()));
    bench.wire.clear();

    commit.token_seq = 4;
    bench.packet(1, &Packet::MembCommitToken(commit));

    let bytes = message::encode(&bench.sent()[0]);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    // Bytes 9 to 12 have no meaning on the transport that was recorded.
    assert_eq!(hex[..18], recorded[..18]);
    assert_eq!(hex[26..], recorded[26..]);
}

#[test]
fn copy_of_the_first_rotation_does_not_start_the_ring() {
    let (mut bench, sent) = recovering();
    let mut copy = commit_token(2, 13, &[1, 2]);
    (copy.token_seq, copy.memb_index) = (sent - 1, 2);

    bench.packet(1, &Packet::MembCommitToken(copy.clone()));
    assert_eq!(bench.sent(), []);
    copy.token_seq = sent + 1;
    bench.packet(1, &Packet::MembCommitToken(copy.clone()));
    assert!(matches!(bench.sent()[..], [Packet::OrfToken(_)]));
    copy.token_seq = sent + 2;
    bench.packet(1, &Packet::MembCommitToken(copy));

    assert_eq!(bench.sent(), [], "a ring is started once");
}

#[test]
fn lost_commit_token_is_sent_again_in_recovery() {
    let (mut bench, sent) = recovering();

    bench.pass(ms(714));

    assert!(matches!(&bench.sent()[..], [Packet::MembCommitToken(t)] if t.token_seq == sent));
}

#[test]
fn fourth_quiet_visit_installs_the_ring() {
    let (mut bench, _) = recovering();
    let ring = bench.ring_id(1);
    let mut states = Vec::new();

    for visit in 0..4 {
        bench.packet(1, &Packet::OrfToken(token(2, ring, 0, visit * 2 + 1, 0)));
        states.push(bench.state(1));
    }

    assert_eq!(states[..3], [StateName::Recovery; 3]);
    assert_eq!(states[3], StateName::Operational);
    let changes: Vec<_> =
        bench.outputs[&1].iter().filter(|o| matches!(o, Output::Configuration(_))).skip(2).collect();
    let transitional = ConfigurationChange::Transitional { ring, members: ids(&[1]), left: vec![] };
    let regular = ConfigurationChange::Regular { ring, members: ids(&[1, 2]), joined: ids(&[2]) };
    assert_eq!(changes, [&Output::Configuration(transitional), &Output::Configuration(regular)]);
}

#[test]
fn recovery_takes_recovery_copies_only() {
    let (mut bench, _) = recovering();
    let ring = bench.ring_id(1);

    bench.packet(1, &Packet::Mcast(mcast(2, ring, 1, "too early")));
    assert_eq!(bench.rings[&1].status().aru, 0);
    let mut copy = mcast(2, ring, 1, "not a packet");
    copy.encapsulated = true;
    bench.packet(1, &Packet::Mcast(copy));

    assert_eq!(bench.rings[&1].status().aru, 1);
}

#[test]
fn token_loss_in_recovery_goes_back_to_the_messages_of_the_old_ring() {
    let mut bench = Bench::operational(&[1, 2]);
    bench.multicast(1, "one");
    bench.settle();
    let delivered = bench.rings[&1].status().high_delivered;
    assert!(delivered > 0);
    let peer = bench.rings.remove(&2).unwrap();
    bench.packet(1, &join(2, peer.status().ring.seq, &[1, 2], &[]));
    let mut commit = commit_token(2, bench.ring_id(1).seq, &[1, 2]);
    (commit.token_seq, commit.memb_index) = (2, 2);
    bench.packet(1, &Packet::MembCommitToken(commit));
    assert_eq!(bench.state(1), StateName::Recovery);
    assert_eq!(bench.rings[&1].status().high_delivered, 0);

    bench.lose();
    bench.pass(ms(3000));

    assert_eq!(bench.state(1), StateName::Gather);
    assert_eq!(bench.rings[&1].status().high_delivered, delivered);
    let failed_ring = bench.ring_id(1);
    let late = mcast(2, failed_ring, delivered + 1, "of the ring that never was");
    bench.packet(1, &Packet::Mcast(late));
    assert_eq!(bench.rings[&1].status().aru, delivered);
    assert!(bench.rings[&1].stats().dropped(Drop::WrongState) > 0);
}

#[test]
fn member_that_lacks_a_message_gets_it_before_the_ring_changes() {
    let mut bench = Bench::operational(&[1, 2, 3]);
    let old = bench.ring_id(1);
    let first = bench.rings[&1].status().high_seq_received + 1;
    let message = Packet::Mcast(mcast(3, old, first, "last words of 3"));
    bench.rings.remove(&3);
    bench.packet(1, &message);

    bench.packet(2, &super::bench::leave(3, old.seq, &[1, 2], &[3]));
    bench.settle();

    let deliveries = |n: u32| {
        let outputs = bench.outputs[&n].iter();
        outputs.filter_map(|o| match o {
            Output::Deliver(d) => Some((d.ring, d.seq, d.origin)),
            _ => None,
        })
    };
    assert_eq!(deliveries(1).collect::<Vec<_>>(), [(old, first, id(3))]);
    assert_eq!(deliveries(2).collect::<Vec<_>>(), [(old, first, id(3))]);
    assert_eq!(bench.rings[&1].stats().recovered_tx, 1);
}
