//! Who may act: votes in whole clusters.

use std::time::Duration;

use quorum_core::QuorumConfig;
use simulator::{
    fault::Daemon,
    history::Event,
    scenario::Scenario,
    setup::{QuorumOptions, Setup},
};

const SECOND: Duration = Duration::from_secs(1);

fn with_options(count: u32, quorum: QuorumOptions) -> Setup {
    Setup { quorum, ..Setup::healthy(count) }
}

#[test]
fn only_the_majority_of_a_partition_stays_quorate() {
    // given
    let mut scenario = Scenario::formed(5);
    // when
    scenario.partition(&[&[1, 2], &[3, 4, 5]]);
    // then
    scenario.expect(30 * SECOND, "both sides have noticed", |now| {
        now.share_a_ring(&[1, 2]) && now.share_a_ring(&[3, 4, 5]) && now.is_quorate(4)
    });
    scenario.pass(5 * SECOND);
    assert!([3, 4, 5].iter().all(|id| scenario.now().is_quorate(*id)));
    assert!([1, 2].iter().all(|id| !scenario.now().is_quorate(*id)));
    scenario.ends_well();
}

#[test]
fn an_even_split_without_a_tie_breaker_leaves_nobody_quorate() {
    // given
    let mut scenario = Scenario::formed(4);
    // when
    scenario.partition(&[&[1, 2], &[3, 4]]);
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 2]) && now.share_a_ring(&[3, 4]));
    scenario.pass(5 * SECOND);
    // then
    assert!((1..=4).all(|id| !scenario.now().is_quorate(id)));
    scenario.ends_well();
}

#[test]
fn the_tie_breaker_keeps_the_half_with_the_lowest_node_quorate() {
    // given
    let options = QuorumOptions { auto_tie_breaker: true, ..QuorumOptions::default() };
    let mut scenario = Scenario::formed_from(with_options(4, options));
    // when
    scenario.partition(&[&[1, 4], &[2, 3]]);
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 4]) && now.share_a_ring(&[2, 3]));
    scenario.pass(5 * SECOND);
    // then
    let quorate: Vec<u32> = (1..=4).filter(|id| scenario.now().is_quorate(*id)).collect();
    assert_eq!(quorate, [1, 4]);
    scenario.ends_well();
}

/// Scenario 21.
#[test]
fn a_tie_breaker_in_an_odd_cluster_lets_only_one_side_go_on() {
    // given
    let options = QuorumOptions { auto_tie_breaker: true, wait_for_all: true, ..QuorumOptions::default() };
    let mut scenario = Scenario::formed_from(with_options(5, options));
    // when
    scenario.partition(&[&[1, 2], &[3, 4, 5]]);
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 2]) && now.share_a_ring(&[3, 4, 5]));
    scenario.pass(5 * SECOND);
    // then
    let quorate: Vec<u32> = (1..=5).filter(|id| scenario.now().is_quorate(*id)).collect();
    assert_eq!(quorate, [3, 4, 5]);
    scenario.ends_well();
}

#[test]
fn a_two_node_cluster_survives_one_crash() {
    // given
    let options = QuorumOptions { two_node: true, wait_for_all: true, ..QuorumOptions::default() };
    let mut scenario = Scenario::formed_from(with_options(2, options));
    // when
    scenario.crash(2);
    // then
    scenario.expect(15 * SECOND, "the other goes on", |now| now.share_a_ring(&[1]) && now.is_quorate(1));
    scenario.pass(5 * SECOND);
    let write = scenario.write(1);
    scenario.pass(5 * SECOND);
    assert!(scenario.outcome(write).is_some(), "it writes alone");
    scenario.ends_well();
}

#[test]
fn a_node_of_two_that_starts_alone_waits_for_the_other() {
    // given
    let options = QuorumOptions { two_node: true, wait_for_all: true, ..QuorumOptions::default() };
    let mut scenario = Scenario::formed_from(with_options(2, options));
    scenario.crash(1);
    scenario.crash(2);
    // when
    scenario.boot(1);
    scenario.pass(30 * SECOND);
    // then
    assert!(!scenario.now().is_quorate(1));
    scenario.boot(2);
    scenario.expect(15 * SECOND, "both go on", |now| now.is_quorate(1) && now.is_quorate(2));
    scenario.ends_well();
}

/// Scenario 23: for a moment two sides believe that they are quorate; once both have noticed, one does.
#[test]
fn the_window_of_two_primaries_ends_with_the_token_timeout_of_the_minority() {
    // given
    let mut scenario = Scenario::formed(3);
    let params = scenario.cluster().setup().params.clone();
    // when
    scenario.partition(&[&[1, 2], &[3]]);
    // then
    let bound = params.token + params.consensus + SECOND;
    scenario.expect(bound, "the minority has noticed", |now| !now.is_quorate(3));
    scenario.ends_well();
}

#[test]
fn a_quorum_daemon_that_restarts_is_quorate_again_at_once() {
    // given
    let mut scenario = Scenario::formed(3);
    let ring = scenario.now().ring(2);
    // when
    scenario.kill(2, Daemon::Quorum);
    scenario.pass(SECOND);
    scenario.start(2, Daemon::Quorum);
    // then
    scenario.expect(3 * SECOND, "quorate again", |now| now.is_quorate(2) && now.is_writable(2));
    assert_eq!(scenario.now().ring(2), ring, "the ring has not even noticed");
    scenario.ends_well();
}

#[test]
fn without_the_membership_daemon_quorum_ends_at_once() {
    // given
    let mut scenario = Scenario::formed(3);
    // when
    scenario.kill(3, Daemon::Membership);
    // then
    scenario.expect(SECOND / 10, "not quorate", |now| !now.is_quorate(3));
    scenario.start(3, Daemon::Membership);
    scenario.ends_well();
}

/// Scenario 20.
#[test]
fn expected_votes_below_the_votes_present_are_refused() {
    // given
    let mut scenario = Scenario::formed(3);
    // when
    scenario.cluster().set_expected(1.try_into().unwrap(), 2);
    scenario.pass(SECOND);
    // then
    let last = scenario.history().iter().rev().find_map(|observation| match observation.event {
        Event::Quorum { expected_votes, .. } => Some(expected_votes),
        _ => None,
    });
    assert_eq!(last, Some(3));
    scenario.ends_well();
}

/// Scenarios 18 and 19: the node list of a running cluster changes, one node after the other, as a slow
/// reload does; at no time may two sides be quorate.
#[test]
fn a_node_taken_out_of_the_list_one_reload_at_a_time_splits_nothing() {
    // given
    let mut scenario = Scenario::formed(3);
    // when: 3 is gone for good, and the list shrinks to two nodes without two_node
    scenario.crash(3);
    scenario.expect(15 * SECOND, "two remain", |now| now.share_a_ring(&[1, 2]));
    scenario.cluster().configure_quorum(1.try_into().unwrap(), QuorumConfig::majority(1, 2, 2));
    scenario.pass(SECOND);
    scenario.cluster().configure_quorum(2.try_into().unwrap(), QuorumConfig::majority(1, 2, 2));
    scenario.pass(SECOND);
    // then: of two nodes with a vote each, none goes on alone
    scenario.partition(&[&[1], &[2]]);
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1]) && now.share_a_ring(&[2]));
    scenario.pass(5 * SECOND);
    assert!(!scenario.now().is_quorate(1) && !scenario.now().is_quorate(2));
    scenario.ends_well();
}

/// Scenario 18: under wait_for_all what was never seen counts, and after that a majority does.
#[test]
fn with_wait_for_all_two_of_three_are_quorate_only_after_all_three_were_there() {
    // given
    let options = QuorumOptions { wait_for_all: true, ..QuorumOptions::default() };
    let mut scenario = Scenario::booting(with_options(3, options));
    scenario.partition(&[&[1, 2], &[3]]);
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 2]) && now.share_a_ring(&[3]));
    scenario.pass(5 * SECOND);
    assert!((1..=3).all(|id| !scenario.now().is_quorate(id)));
    // when
    scenario.join_again();
    scenario.expect(30 * SECOND, "all three", |now| (1..=3).all(|id| now.is_quorate(id)));
    scenario.crash(3);
    // then
    scenario.expect(20 * SECOND, "two go on", |now| now.share_a_ring(&[1, 2]) && now.is_quorate(1));
    scenario.ends_well();
}

/// Scenario 24: a node that loses its interface hears only itself.
#[test]
fn a_node_that_hears_only_itself_is_not_quorate() {
    // given
    let mut scenario = Scenario::formed(3);
    // when
    scenario.partition(&[&[2], &[1, 3]]);
    // then
    scenario.expect(15 * SECOND, "it is alone", |now| now.share_a_ring(&[2]) && !now.is_quorate(2));
    scenario.ends_well();
}

/// Seeds 2484 and 5618: with `last_man_standing` a lost node that meets one of the survivors votes in the place of
/// the missing ones. corosync does the same: without fencing this option does not keep a cluster in one piece.
#[test]
fn without_fencing_a_lost_node_that_meets_the_last_men_standing_is_a_second_primary() {
    // given
    let options = QuorumOptions { last_man_standing: true, ..QuorumOptions::default() };
    let mut scenario = Scenario::formed_from(with_options(4, options));
    scenario.partition(&[&[1, 2, 3], &[4]]);
    scenario.expect(30 * SECOND, "three remain", |now| now.share_a_ring(&[1, 2, 3]) && !now.is_quorate(4));
    scenario.pass(QuorumConfig::LAST_MAN_STANDING_WINDOW + SECOND);
    // when
    scenario.join_again();
    scenario.partition(&[&[1, 4], &[2, 3]]);
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 4]) && now.share_a_ring(&[2, 3]));
    scenario.pass(5 * SECOND);
    // then
    assert!((1..=4).all(|id| scenario.now().is_quorate(id)));
    scenario.ends_well();
}

/// The same before the window is over: expected votes are still those of the whole cluster.
#[test]
fn before_its_window_is_over_the_last_men_standing_are_as_many_as_ever() {
    // given
    let options = QuorumOptions { last_man_standing: true, ..QuorumOptions::default() };
    let mut scenario = Scenario::formed_from(with_options(4, options));
    scenario.partition(&[&[1, 2, 3], &[4]]);
    scenario.expect(30 * SECOND, "three remain", |now| now.share_a_ring(&[1, 2, 3]) && now.is_quorate(1));
    // when
    scenario.join_again();
    scenario.partition(&[&[1, 4], &[2, 3]]);
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 4]) && now.share_a_ring(&[2, 3]));
    scenario.pass(2 * QuorumConfig::LAST_MAN_STANDING_WINDOW);
    // then
    assert!((1..=4).all(|id| !scenario.now().is_quorate(id)));
    scenario.ends_well();
}
