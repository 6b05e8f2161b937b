//! Rings form, break and form again: who is a member, and what each is told.

use std::time::Duration;

use membership_core::srp::StateName;
use simulator::{
    fault::{Daemon, Fault},
    history::{Change, Event},
    network::Quality,
    rng::MILLION,
    scenario::Scenario,
    setup::Setup,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn seven_nodes_that_are_switched_on_together_form_one_ring() {
    let scenario = Scenario::formed(7);
    assert_eq!(scenario.now().members(4), [1, 2, 3, 4, 5, 6, 7]);
    scenario.ends_well();
}

/// Scenario 1 of the specification: the representative comes back before anyone has missed its token.
#[test]
fn a_representative_that_restarts_before_its_token_is_missed_has_left_and_joined() {
    // given
    let mut scenario = Scenario::formed(3);
    let before = scenario.now().ring(2).unwrap();
    // when
    scenario.kill(1, Daemon::Membership);
    scenario.pass(Duration::from_millis(200));
    scenario.start(1, Daemon::Membership);
    // then
    scenario.expect(10 * SECOND, "the three share a new ring", |now| {
        now.share_a_ring(&[1, 2, 3]) && now.ring(2) > Some(before)
    });
    assert_eq!(scenario.came_along(2), [2, 3]);
    assert_eq!(scenario.came_along(1), [1]);
    scenario.ends_well();
}

#[test]
fn the_loss_of_a_node_is_noticed_within_token_and_consensus_timeout() {
    // given
    let mut scenario = Scenario::formed(3);
    let params = scenario.cluster().setup().params.clone();
    // when
    scenario.crash(3);
    // then
    let bound = params.token + params.consensus + SECOND;
    scenario.expect(bound, "the other two go on", |now| now.share_a_ring(&[1, 2]));
    scenario.ends_well();
}

/// Scenario 12.
#[test]
fn after_an_orderly_leave_the_others_go_on_without_any_timeout() {
    // given
    let mut scenario = Scenario::formed(3);
    // when
    scenario.fault(Fault::Leave(3.try_into().unwrap()));
    // then
    scenario.expect(SECOND / 2, "the other two go on", |now| now.share_a_ring(&[1, 2]));
    scenario.ends_well();
}

/// Scenario 11.
#[test]
fn a_paused_node_that_resumes_is_told_that_it_had_left() {
    // given
    let mut scenario = Scenario::formed(3);
    // when
    scenario.pause(3);
    scenario.expect(15 * SECOND, "the others go on without it", |now| now.share_a_ring(&[1, 2]));
    scenario.resume(3);
    // then
    scenario.expect(30 * SECOND, "the three meet again", |now| now.share_a_ring(&[1, 2, 3]));
    assert_eq!(scenario.came_along(3), [3]);
    assert_eq!(scenario.came_along(1), [1, 2]);
    scenario.ends_well();
}

#[test]
fn two_sides_of_a_partition_go_on_apart_and_merge_when_it_ends() {
    // given
    let mut scenario = Scenario::formed(5);
    // when
    scenario.partition(&[&[1, 2], &[3, 4, 5]]);
    scenario
        .expect(30 * SECOND, "two rings", |now| now.share_a_ring(&[1, 2]) && now.share_a_ring(&[3, 4, 5]));
    scenario.join_again();
    // then
    scenario.expect(30 * SECOND, "one ring", |now| now.share_a_ring(&[1, 2, 3, 4, 5]));
    assert_eq!(scenario.came_along(1), [1, 2]);
    assert_eq!(scenario.came_along(4), [3, 4, 5]);
    scenario.ends_well();
}

#[test]
fn a_node_that_is_heard_but_does_not_hear_does_not_stop_the_others_for_good() {
    // given
    let mut scenario = Scenario::formed(4);
    // when
    scenario.block(&[1, 2, 3], &[4]);
    // then
    scenario.expect(90 * SECOND, "the others share a ring", |now| now.share_a_ring(&[1, 2, 3]));
    scenario.ends_well();
}

/// Scenario 2: the token is lost in every phase of the formation of a ring, again and again.
#[test]
fn a_token_lost_at_any_moment_of_the_formation_is_survived() {
    for step in 0..40 {
        // given
        let mut scenario = Scenario::formed(3);
        scenario.partition(&[&[1], &[2, 3]]);
        scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1]) && now.share_a_ring(&[2, 3]));
        scenario.join_again();
        scenario.expect_state(2, StateName::Gather);
        // when
        scenario.pass(step * Duration::from_micros(150));
        scenario.block(&[1, 2, 3], &[1, 2, 3]);
        scenario.pass(Duration::from_millis(400));
        scenario.join_again();
        // then
        scenario.expect(60 * SECOND, "one ring", |now| now.share_a_ring(&[1, 2, 3]));
        scenario.ends_well();
    }
}

/// Scenario 2, second part.
#[test]
fn two_of_five_that_die_during_recovery_do_not_stop_the_other_three() {
    // given
    let mut scenario = Scenario::formed(5);
    scenario.partition(&[&[1, 2, 3], &[4, 5]]);
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 2, 3]) && now.share_a_ring(&[4, 5]));
    scenario.join_again();
    scenario.expect_state(3, StateName::Recovery);
    // when
    scenario.crash(1);
    scenario.crash(4);
    // then
    scenario.expect(60 * SECOND, "the three share a ring", |now| now.share_a_ring(&[2, 3, 5]));
    scenario.ends_well();
}

/// Scenario 4.
#[test]
fn a_network_that_delivers_everything_twice_is_no_obstacle() {
    let quality = Quality { duplicate: MILLION, ..Quality::PERFECT };
    let mut scenario = Scenario::formed_from(Setup { quality, ..Setup::healthy(4) });
    let message = scenario.send(2, 100);
    scenario.pass(SECOND);
    assert_eq!(scenario.delivered(message), [1, 2, 3, 4]);
    scenario.ends_well();
}

/// Scenario 5: the first join messages of a node get lost; nobody has to wait for a token timeout.
#[test]
fn a_join_that_is_lost_is_sent_again() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.crash(3);
    scenario.expect(15 * SECOND, "the others go on", |now| now.share_a_ring(&[1, 2]));
    // when
    scenario.block(&[3], &[1, 2]);
    scenario.boot(3);
    scenario.expect(5 * SECOND, "it is up, alone", |now| now.share_a_ring(&[3]));
    scenario.join_again();
    // then
    scenario.expect(3 * SECOND, "it is taken in", |now| now.share_a_ring(&[1, 2, 3]));
    scenario.ends_well();
}

/// Scenario 10: a member dies while the services synchronise; the next round must not revive its
/// processes.
#[test]
fn a_member_that_dies_during_the_synchronisation_leaves_no_ghost_in_any_group() {
    for step in 0..50 {
        // given
        let mut scenario = Scenario::formed(4);
        scenario.partition(&[&[1, 2, 3], &[4]]);
        scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 2, 3]));
        scenario.join_again();
        scenario.expect_state(1, StateName::Recovery);
        scenario.expect_state(1, StateName::Operational);
        // when
        scenario.pass(step * Duration::from_micros(200));
        scenario.crash(4);
        scenario.expect(30 * SECOND, "the others go on", |now| now.share_a_ring(&[1, 2, 3]));
        // then
        let groups = scenario.history().iter().rev().find_map(|observation| match &observation.event {
            Event::GroupMembers { members, .. } => Some(members.clone()),
            _ => None,
        });
        let ids: Vec<u32> = groups.unwrap().into_iter().map(u32::from).collect();
        assert_eq!(ids, [1, 2, 3], "step {step}");
        scenario.ends_well();
    }
}

/// Scenario 10, first part: a daemon dies between the ring and the end of its synchronisation.
#[test]
fn a_service_that_dies_during_the_synchronisation_does_not_hold_up_the_others() {
    for daemon in [Daemon::Quorum, Daemon::Config] {
        // given
        let mut scenario = Scenario::formed(3);
        scenario.partition(&[&[1, 2], &[3]]);
        scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 2]));
        scenario.join_again();
        scenario.expect_state(2, StateName::Recovery);
        scenario.expect_state(2, StateName::Operational);
        // when
        scenario.kill(2, daemon);
        // then
        scenario.expect(3 * SECOND, "synchronised", |now| now.share_a_ring(&[1, 2, 3]));
        scenario.start(2, daemon);
        scenario.expect(10 * SECOND, "all is well", |now| now.all_writable());
        scenario.ends_well();
    }
}

/// A service that hangs instead of dying costs half a second, not the ring.
#[test]
fn a_service_that_hangs_during_the_synchronisation_does_not_hold_up_the_others() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.fault(Fault::Pause(3.try_into().unwrap(), Daemon::Quorum));
    // when
    scenario.kill(2, Daemon::Membership);
    scenario.start(2, Daemon::Membership);
    // then
    scenario.expect(5 * SECOND, "synchronised", |now| now.share_a_ring(&[1, 2, 3]));
    scenario.ends_well();
}

/// Scenario 17.
#[test]
fn timers_that_are_reloaded_are_in_force_from_then_on() {
    // given
    let mut scenario = Scenario::formed(3);
    let params = scenario.cluster().setup().params.clone();
    let ring = scenario.now().ring(1);
    // when
    for id in [1_u32, 2, 3] {
        scenario.fault(Fault::Timers(id.try_into().unwrap(), 30));
        scenario.pass(SECOND);
    }
    scenario.pass(10 * SECOND);
    assert_eq!(scenario.now().ring(1), ring, "a reload does not break the ring");
    scenario.crash(3);
    // then
    let bound = (params.token + params.consensus) * 30 / 100 + SECOND;
    scenario.expect(bound, "the loss is noticed sooner", |now| now.share_a_ring(&[1, 2]));
    scenario.ends_well();
}

#[test]
fn nodes_whose_clocks_differ_by_half_a_per_cent_share_a_ring() {
    let setup = Setup {
        clock_ppm: (1..=4).map(|id| (id.try_into().unwrap(), i64::from(id) * 4000 - 10_000)).collect(),
        ..Setup::healthy(4)
    };
    let mut scenario = Scenario::formed_from(setup);
    scenario.pass(60 * SECOND);
    let rings = scenario.history().iter().filter(|observation| {
        observation.at > 20 * SECOND && matches!(observation.event, Event::Ring(Change::Regular { .. }))
    });
    assert_eq!(rings.count(), 0, "the ring is stable");
    scenario.ends_well();
}

/// Scenario 16: long datagrams vanish on the way to one node; the short ones of the membership protocol
/// do not.
#[test]
fn a_black_hole_for_long_datagrams_is_survived() {
    // given
    let mut scenario = Scenario::formed(3);
    for from in [1, 2] {
        let hole = Quality { bytes_max: 600, ..Quality::PERFECT };
        scenario.fault(Fault::Link(from.try_into().unwrap(), 3.try_into().unwrap(), Some(hole)));
    }
    // when
    let message = scenario.send(1, 1200);
    scenario.pass(120 * SECOND);
    // then
    assert!(scenario.delivered(message).contains(&1));
    assert!(scenario.delivered(message).contains(&2));
    scenario.ends_well();
}
