//! Which timers are in force: the configured ones and the fast ones.

use quorate_types::RingId;

use super::{
    super::{Input, Pace, Params, StateName},
    bench::{Bench, ids, join, ms},
};

fn fast() -> Pace {
    Pace::fast(&Params::default())
}

fn configured() -> Pace {
    Pace::configured(&Params::default())
}

/// A ring whose members have agreed to the fast timers.
fn fast_ring(nodes: &[u32]) -> Bench {
    let mut bench = Bench::operational(nodes);
    for node in nodes {
        let ring = bench.ring_id(*node);
        bench.input(*node, Input::SetFast { ring, on: true });
    }
    bench.settle();
    bench
}

fn pace(bench: &Bench, node: u32) -> Pace {
    bench.rings[&node].status().pace
}

#[test]
fn a_ring_that_agreed_misses_its_token_after_the_fast_timeout() {
    let mut bench = fast_ring(&[1, 2, 3]);
    assert_eq!(pace(&bench, 2), fast());
    bench.settle();
    bench.rings.remove(&3);
    bench.lose();
    // when the token is with the dead node
    bench.pass(fast().token + ms(1));
    // then the others gather, with the patience of the fast ring
    assert_eq!((bench.state(1), pace(&bench, 1)), (StateName::Gather, fast()));
}

#[test]
fn an_agreement_of_another_ring_and_one_that_is_over_have_no_effect() {
    let mut bench = Bench::operational(&[1, 2]);
    bench.input(1, Input::SetFast { ring: RingId { rep: 1, seq: 1 }, on: true });
    assert_eq!(pace(&bench, 1), configured());
    let ring = bench.ring_id(1);
    bench.input(1, Input::SetFast { ring, on: true });
    assert_eq!(pace(&bench, 1), fast());
    bench.input(1, Input::SetFast { ring, on: false });
    assert_eq!(pace(&bench, 1), configured());
}

#[test]
fn a_node_that_does_not_agree_itself_keeps_the_configured_timers() {
    let mut bench = Bench::operational(&[1, 2]);
    bench.input(1, Input::SetParams(Params { fast_detection: false, ..Params::default() }));
    let ring = bench.ring_id(1);
    bench.input(1, Input::SetFast { ring, on: true });
    assert_eq!(pace(&bench, 1), configured());
}

#[test]
fn an_unknown_node_in_the_gathering_brings_the_configured_timers_back() {
    let mut bench = fast_ring(&[1, 2, 3]);
    let seq = bench.ring_id(1).seq;
    bench.packet(1, &join(2, seq, &[1, 2, 3], &[]));
    assert_eq!((bench.state(1), pace(&bench, 1)), (StateName::Gather, fast()));
    bench.packet(1, &join(9, 40, &[9], &[]));
    assert_eq!((bench.state(1), pace(&bench, 1)), (StateName::Gather, configured()));
}

#[test]
fn survivors_stay_fast_before_they_have_synchronised_again() {
    let mut bench = fast_ring(&[1, 2, 3]);
    bench.rings.remove(&3);
    for _ in 0..40 {
        bench.pass(ms(50));
        bench.settle();
    }
    assert_eq!(bench.rings[&1].status().members, ids(&[1, 2]));
    assert_eq!((pace(&bench, 1), pace(&bench, 2)), (fast(), fast()));
}

#[test]
fn a_member_that_was_away_is_unknown_until_the_next_synchronisation() {
    let mut bench = fast_ring(&[1, 2]);
    let before = bench.ring_id(1);
    bench.restart(2, before.seq);
    for _ in 0..40 {
        bench.pass(ms(50));
        bench.settle();
    }
    assert_eq!(bench.rings[&1].status().members, ids(&[1, 2]));
    assert!(bench.ring_id(1).seq > before.seq);
    assert_eq!((pace(&bench, 1), pace(&bench, 2)), (configured(), configured()));
}

#[test]
fn a_commit_token_may_take_as_long_as_the_disks_of_all_members() {
    let mut bench = fast_ring(&[1, 2]);
    bench.rings.remove(&2);
    bench.lose();
    bench.stores = false;
    // when node 1 is alone and stores the id of its new ring
    bench.pass(fast().token + fast().consensus + ms(1));
    assert_eq!((bench.state(1), pace(&bench, 1)), (StateName::Commit, fast()));
    let given_up = |bench: &Bench| bench.rings[&1].stats().commit.token_lost;
    bench.pass(fast().token + ms(1));
    assert_eq!(given_up(&bench), 0, "it waits longer than the fast token timeout");
    bench.pass(configured().token);
    assert_eq!(given_up(&bench), 1);
}
