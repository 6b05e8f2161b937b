//! Transitions of gather and commit.

use quorate_types::RingId;

use super::{
    super::{Drop, Input, Output, Reason, StateName, message::Packet},
    bench::{Bench, commit_token, id, ids, join, leave, mcast, ms},
};

/// Node 2 in gather with nodes 1, 2 and 3; what it sent so far is forgotten.
fn gathering() -> Bench {
    let mut bench = Bench::new(&[2]);
    bench.input(2, Input::Start { stored_ring_seq: 4 });
    bench.settle();
    assert_eq!(bench.ring_id(2), RingId { rep: 2, seq: 9 }, "a ring of its own first");
    bench.packet(2, &join(1, 9, &[1, 3], &[]));
    assert_eq!(bench.state(2), StateName::Gather);
    bench.wire.clear();
    bench.outputs.clear();
    bench
}

#[test]
fn start_sends_a_join_with_a_ring_sequence_never_used_before() {
    let mut bench = Bench::new(&[2]);
    bench.stores = false;

    bench.input(2, Input::Start { stored_ring_seq: 8 });

    assert_eq!(bench.sent(), [join(2, 9, &[2], &[])]);
    assert_eq!(bench.state(2), StateName::Commit, "alone, it agrees with itself at once");
    assert!(bench.outputs[&2].contains(&Output::StoreRingSeq(13)));
}

#[test]
fn ring_of_one_is_operational_once_its_sequence_is_stored() {
    let mut bench = Bench::new(&[2]);
    bench.stores = false;
    bench.input(2, Input::Start { stored_ring_seq: 8 });
    bench.settle();
    assert_eq!(bench.state(2), StateName::Commit);

    bench.input(2, Input::Stored { ring_seq: 13 });
    bench.settle();

    assert_eq!(bench.state(2), StateName::Operational);
}

#[test]
fn unknown_node_in_a_join_is_taken_over_and_announced() {
    let mut bench = gathering();

    bench.packet(2, &join(3, 21, &[3, 4], &[]));

    assert_eq!(bench.sent(), [join(2, 9, &[1, 2, 3, 4], &[])]);
}

#[test]
fn join_that_adds_nothing_changes_nothing() {
    let mut bench = gathering();

    bench.packet(2, &join(3, 9, &[3], &[]));

    assert_eq!(bench.sent(), []);
}

#[test]
fn failed_list_of_a_stranger_is_not_believed() {
    let mut bench = gathering();

    bench.packet(2, &join(3, 9, &[1, 2, 3], &[1]));

    assert_eq!(bench.rings[&2].status().failed, []);
}

#[test]
fn node_that_considers_us_failed_is_considered_failed() {
    let mut bench = gathering();

    bench.packet(2, &join(3, 9, &[1, 2, 3], &[2]));

    assert_eq!(bench.sent(), [join(2, 9, &[1, 2, 3], &[3])]);
}

#[test]
fn join_is_repeated_while_gathering() {
    let mut bench = gathering();

    bench.pass(ms(120));

    assert_eq!(bench.sent(), vec![join(2, 9, &[1, 2, 3], &[]); 2]);
}

#[test]
fn silent_nodes_are_failed_when_the_consensus_timeout_passes() {
    let mut bench = gathering();
    bench.packet(2, &join(3, 9, &[1, 2, 3], &[]));

    bench.pass(ms(3600));

    assert_eq!(bench.rings[&2].status().failed, ids(&[1]));
    assert_eq!(bench.rings[&2].stats().consensus_timeouts, 1);
}

#[test]
fn lowest_node_creates_the_commit_token_when_all_agree() {
    let mut bench = gathering();
    bench.packet(2, &join(3, 9, &[1, 2, 3], &[]));
    bench.pass(ms(3600));
    assert_eq!(bench.state(2), StateName::Gather, "without the consensus of 3 about the failure of 1");

    bench.packet(2, &join(3, 9, &[1, 2, 3], &[1]));

    assert_eq!(bench.state(2), StateName::Commit);
    assert_eq!(bench.ring_id(2), RingId { rep: 2, seq: 13 });
}

#[test]
fn higher_node_waits_for_the_commit_token_when_all_agree() {
    let mut bench = gathering();

    bench.packet(2, &join(1, 9, &[1, 2, 3], &[]));
    bench.packet(2, &join(3, 9, &[1, 2, 3], &[]));

    assert_eq!(bench.state(2), StateName::Gather);
}

#[test]
fn commit_token_of_two_leaves_after_the_sequence_is_stored() {
    let mut bench = Bench::new(&[1]);
    bench.stores = false;
    bench.input(1, Input::Start { stored_ring_seq: 0 });
    bench.packet(1, &join(2, 40, &[1, 2], &[]));
    assert_eq!(bench.state(1), StateName::Commit, "still busy with its own ring");
    bench.input(1, Input::Stored { ring_seq: 5 });
    bench.settle();
    bench.packet(1, &join(2, 40, &[1, 2], &[]));
    assert_eq!(bench.state(1), StateName::Commit);
    bench.wire.clear();

    bench.pass(ms(800));
    assert_eq!(bench.sent(), [], "not even a retransmission before it is stored");
    bench.input(1, Input::Stored { ring_seq: 43 });
    assert_eq!(bench.sent(), [], "another sequence was stored");
    bench.input(1, Input::Stored { ring_seq: 44 });

    let sent = bench.sent();
    let [Packet::MembCommitToken(token)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((token.ring_id.rep, token.ring_id.seq), (1, 44));
    assert_eq!((token.memb_index, token.token_seq), (1, 1));
    assert_eq!(token.entries[0].ring_id.seq, 5);
    assert_eq!(token.entries[0].received_flg, 1);
}

#[test]
fn commit_token_is_accepted_only_for_the_agreed_members_and_a_later_ring() {
    let mut bench = gathering();
    let mut right = commit_token(1, 13, &[1, 2, 3]);
    right.memb_index = 1;
    let mut other_members = commit_token(1, 13, &[1, 2]);
    other_members.memb_index = 1;
    let mut earlier = right.clone();
    earlier.ring_id.seq = 9;
    let mut not_our_turn = right.clone();
    not_our_turn.memb_index = 2;

    for wrong in [other_members, earlier, not_our_turn] {
        bench.packet(2, &Packet::MembCommitToken(wrong));
        assert_eq!(bench.state(2), StateName::Gather);
    }
    assert_eq!(bench.rings[&2].stats().dropped(Drop::UnexpectedCommitToken), 3);
    bench.packet(2, &Packet::MembCommitToken(right));

    assert_eq!(bench.state(2), StateName::Commit);
}

#[test]
fn token_loss_in_commit_gathers_again() {
    let mut bench = gathering();
    let mut token = commit_token(1, 13, &[1, 2, 3]);
    token.memb_index = 1;
    bench.packet(2, &Packet::MembCommitToken(token));

    bench.pass(ms(3000));

    assert_eq!(bench.state(2), StateName::Gather);
    let back =
        Output::StateChanged { from: StateName::Commit, to: StateName::Gather, reason: Reason::TokenLost };
    assert!(bench.outputs[&2].contains(&back));
    assert_eq!(bench.rings[&2].stats().commit.token_lost, 1);
}

#[test]
fn join_from_before_the_commit_does_not_disturb_it() {
    let mut bench = gathering();
    let mut token = commit_token(1, 13, &[1, 2, 3]);
    token.memb_index = 1;
    bench.packet(2, &Packet::MembCommitToken(token));

    bench.packet(2, &join(3, 12, &[1, 2, 3], &[]));
    assert_eq!(bench.state(2), StateName::Commit);
    bench.packet(2, &join(3, 13, &[1, 2, 3], &[]));

    assert_eq!(bench.state(2), StateName::Gather);
}

#[test]
fn leave_of_a_member_excludes_it_without_its_consensus() {
    let mut bench = Bench::operational(&[1, 2, 3]);
    bench.rings.remove(&3);
    let seq = bench.ring_id(1).seq;

    bench.packet(1, &leave(3, seq, &[1, 2], &[3]));
    bench.settle();

    assert_eq!(bench.rings[&1].status().members, ids(&[1, 2]));
    assert_eq!(bench.state(2), StateName::Operational);
}

#[test]
fn our_leave_is_a_join_without_node_id_that_names_us_last() {
    let mut bench = Bench::operational(&[1, 2, 3]);
    let seq = bench.ring_id(2).seq;

    bench.input(2, Input::Leave);

    assert_eq!(bench.sent(), [leave(2, seq, &[1, 3], &[2])]);
    assert_eq!(bench.state(2), StateName::Stopped);
    assert_eq!(bench.rings[&2].next_deadline(), None);
}

#[test]
fn operational_node_ignores_joins_that_exclude_it_or_are_old() {
    let mut bench = Bench::operational(&[1, 2]);
    let seq = bench.ring_id(2).seq;
    let before = bench.rings[&2].stats().dropped(Drop::StaleJoin);

    bench.packet(2, &join(1, seq, &[1, 2], &[2]));
    bench.packet(2, &join(1, seq - 1, &[1, 2], &[]));

    assert_eq!(bench.state(2), StateName::Operational);
    assert_eq!(bench.rings[&2].stats().dropped(Drop::StaleJoin) - before, 2);
    bench.packet(2, &join(1, seq, &[1, 2], &[]));
    assert_eq!(bench.state(2), StateName::Gather);
}

#[test]
fn foreign_message_makes_its_sender_somebody_to_gather_with() {
    let mut bench = Bench::operational(&[1, 2]);
    let mut stranger = bench.ring_id(2);
    stranger.rep = 7;

    bench.packet(2, &Packet::Mcast(mcast(7, stranger, 1, "")));

    assert_eq!(bench.state(2), StateName::Gather);
    assert!(bench.rings[&2].status().gathering.contains(&id(7)));
}

#[test]
fn late_copy_of_a_member_from_an_earlier_ring_is_dropped() {
    let mut bench = Bench::operational(&[1, 2]);
    let mut earlier = bench.ring_id(2);
    earlier.seq -= 4;

    bench.packet(2, &Packet::Mcast(mcast(1, earlier, 1, "")));

    assert_eq!(bench.state(2), StateName::Operational);
    assert_eq!(bench.rings[&2].stats().dropped(Drop::ForeignMessage), 1);
}

#[test]
fn joins_that_waited_during_a_pause_are_ignored() {
    let mut bench = Bench::operational(&[1, 2]);
    let seq = bench.ring_id(2).seq;
    bench.now += ms(1600);

    bench.packet(2, &join(1, seq, &[1, 2], &[]));
    assert_eq!(bench.state(2), StateName::Operational);
    assert_eq!(bench.rings[&2].stats().dropped(Drop::JoinAfterPause), 1);
    bench.now += ms(51);
    bench.packet(2, &join(1, seq, &[1, 2], &[]));

    assert_eq!(bench.state(2), StateName::Gather);
}
