//! Feature levels and what they are for: a loss noticed soon, and no false alarm.

use std::time::Duration;

use membership_core::srp::Pace;
use quorate_types::NodeId;
use simulator::{
    fault::Fault,
    history::{Change, Event},
    network::Quality,
    rng::MILLION,
    scenario::Scenario,
    setup::Setup,
};

const SECOND: Duration = Duration::from_secs(1);
const LOSSY: Quality = Quality { loss: MILLION / 100, ..Quality::PERFECT };

fn node(id: u32) -> NodeId {
    NodeId::new(id).expect("nodes of a scenario are numbered from 1")
}

fn fast(scenario: &mut Scenario) -> Pace {
    Pace::fast(&scenario.cluster().setup().params)
}

fn configured(scenario: &mut Scenario) -> Pace {
    Pace::configured(&scenario.cluster().setup().params)
}

/// From the crash of a node to the first moment at which all others are in a new ring without it, synchronised
/// and quorate.
fn detection(scenario: &mut Scenario, count: u32, victim: u32) -> Duration {
    let others: Vec<u32> = (1..=count).filter(|id| *id != victim).collect();
    let begin = scenario.cluster().now();
    scenario.crash(victim);
    scenario.expect(60 * SECOND, "the others go on", |now| {
        now.share_a_ring(&others) && others.iter().all(|id| now.is_quorate(*id))
    });
    scenario.cluster().now() - begin
}

/// The longest detection of the loss of each of these nodes, at moments that are spread over the idle ring's rotation.
fn slowest_detection(count: u32, victims: &[u32], links: Quality) -> Duration {
    let mut slowest = Duration::ZERO;
    let mut scenario = Scenario::formed_from(Setup { quality: links, ..Setup::created(count) });
    for (round, victim) in (1..).zip(victims) {
        scenario.pass(3 * SECOND + round * Duration::from_millis(7));
        slowest = slowest.max(detection(&mut scenario, count, *victim));
        scenario.boot(*victim);
        let all: Vec<u32> = (1..=count).collect();
        scenario.expect(60 * SECOND, "together again", |now| now.share_a_ring(&all) && now.all_writable());
    }
    println!("{count} nodes: a loss was noticed and repaired within {slowest:?}");
    scenario.ends_well();
    slowest
}

#[test]
fn the_loss_of_one_of_3_nodes_costs_less_than_a_second() {
    assert!(slowest_detection(3, &[3, 1, 2, 3, 1, 2], Quality::PERFECT) < SECOND);
    assert!(slowest_detection(3, &[1, 2, 3], LOSSY) < SECOND);
}

#[test]
fn the_loss_of_one_of_8_nodes_costs_little_more_than_a_second() {
    assert!(slowest_detection(8, &[1, 4, 8], Quality::PERFECT) < SECOND);
    assert!(slowest_detection(8, &[1, 4, 8], LOSSY) < SECOND * 3 / 2);
}

#[test]
fn the_loss_of_one_of_32_nodes_costs_less_than_three_seconds() {
    assert!(slowest_detection(32, &[1, 17, 32], Quality::PERFECT) < 3 * SECOND);
}

#[test]
fn the_loss_is_noticed_within_the_time_that_the_status_states() {
    for count in [2, 3, 8] {
        let mut scenario = Scenario::formed_from(Setup::created(count));
        scenario.pass(5 * SECOND);
        let stated = scenario.now().pace(1).unwrap().detection_worst_case();
        let others: Vec<u32> = (1..count).collect();
        scenario.crash(count);
        scenario.expect(stated, "the others have a new ring", |now| {
            others.iter().all(|id| now.members(*id) == others)
        });
        scenario.ends_well();
    }
}

/// Rings that were installed after the first minute.
fn later_rings(scenario: &Scenario) -> usize {
    let later = scenario.history().iter().filter(|observation| {
        observation.at > 60 * SECOND && matches!(observation.event, Event::Ring(Change::Regular { .. }))
    });
    later.count()
}

/// Half an hour each; `simulate --calm-hours 24` does this for as long as one likes.
#[test]
fn a_ring_that_loses_one_packet_in_a_hundred_raises_no_false_alarm() {
    for count in [3, 8] {
        let mut scenario = Scenario::formed_from(Setup { quality: LOSSY, ..Setup::created(count) });
        for round in 0..180 {
            scenario.send(1 + round % count, 200);
            scenario.pass(10 * SECOND);
        }
        assert_eq!(scenario.now().pace(1), Some(fast(&mut scenario)));
        assert_eq!(later_rings(&scenario), 0, "{count} nodes");
        scenario.ends_well();
    }
}

#[test]
fn a_corosync_node_that_joins_brings_its_timers_and_takes_them_away_when_it_dies() {
    // given three nodes of ours, and a fourth that runs corosync
    let levels = [(node(4), None)].into();
    let mut scenario = Scenario::formed_from(Setup { levels, ..Setup::created(4) });
    let (fast, configured) = (fast(&mut scenario), configured(&mut scenario));
    let all_at = |now: &simulator::scenario::View<'_>, ids: &[u32], level: u32, pace: Pace| {
        now.share_a_ring(ids)
            && ids.iter().all(|id| now.pace(*id) == Some(pace))
            && ids.iter().filter(|id| **id != 4).all(|id| now.feature_level(*id) == level)
    };
    scenario.expect(SECOND, "level 0", |now| all_at(now, &[1, 2, 3, 4], 0, configured));
    // when it dies, then
    let begin = scenario.cluster().now();
    scenario.crash(4);
    scenario.expect(10 * SECOND, "level 1", |now| all_at(now, &[1, 2, 3], 1, fast));
    assert!(scenario.cluster().now() - begin > configured.token, "its timers ruled to the end");
    // when it comes back, then
    scenario.boot(4);
    scenario.expect(10 * SECOND, "level 0 again", |now| all_at(now, &[1, 2, 3, 4], 0, configured));
    // when it leaves, then
    scenario.fault(Fault::Leave(node(4)));
    scenario.expect(SECOND, "level 1 again", |now| all_at(now, &[1, 2, 3], 1, fast));
    scenario.ends_well();
}

/// The other way round: our node among corosync's.
#[test]
fn one_of_our_nodes_among_corosync_nodes_is_as_patient_as_they_are() {
    let levels = [(node(1), None), (node(3), None)].into();
    let mut scenario = Scenario::formed_from(Setup { levels, ..Setup::created(3) });
    let configured = configured(&mut scenario);
    scenario.pass(5 * SECOND);
    for id in 1..=3 {
        assert_eq!(scenario.now().pace(id), Some(configured), "node {id}");
    }
    scenario.crash(3);
    scenario.expect(10 * SECOND, "the others go on", |now| now.share_a_ring(&[1, 2]));
    scenario.ends_well();
}

/// An upgrade node by node: the last one opens the gate.
#[test]
fn nodes_that_are_replaced_one_by_one_are_fast_once_the_last_is_ours() {
    let ids = [1, 2, 3];
    let levels = ids.map(|id| (node(id), None)).into();
    let mut scenario = Scenario::formed_from(Setup { levels, ..Setup::created(3) });
    for id in ids {
        assert_eq!(scenario.now().feature_level(1), 0);
        scenario.fault(Fault::Leave(node(id)));
        scenario.cluster().replace_program(node(id), Some(1));
        scenario.boot(id);
        scenario.expect(10 * SECOND, "together again", |now| now.share_a_ring(&ids) && now.all_writable());
    }
    let fast = fast(&mut scenario);
    for id in ids {
        assert_eq!((scenario.now().feature_level(id), scenario.now().pace(id)), (1, Some(fast)));
    }
    scenario.ends_well();
}

#[test]
fn two_fast_rings_that_meet_become_one_fast_ring() {
    let mut scenario = Scenario::formed_from(Setup::created(5));
    scenario.partition(&[&[1, 2], &[3, 4, 5]]);
    scenario.expect(5 * SECOND, "apart", |now| now.share_a_ring(&[1, 2]) && now.share_a_ring(&[3, 4, 5]));
    assert_eq!((scenario.now().feature_level(1), scenario.now().feature_level(4)), (1, 1));
    scenario.join_again();
    scenario.expect(5 * SECOND, "one ring", |now| now.share_a_ring(&[1, 2, 3, 4, 5]));
    let fast = fast(&mut scenario);
    assert!((1..=5).all(|id| scenario.now().pace(id) == Some(fast)));
    scenario.ends_well();
}

/// A node that was fast and one that has just started have different patience; a third that nobody hears must not keep
/// them apart.
#[test]
fn nodes_of_different_patience_find_each_other_while_a_third_is_silent() {
    for step in 0..20 {
        // given
        let mut scenario = Scenario::formed_from(Setup::created(4));
        scenario.crash(4);
        scenario.expect(5 * SECOND, "three go on", |now| now.share_a_ring(&[1, 2, 3]));
        scenario.pass(2 * SECOND);
        // when one dies while another starts
        scenario.crash(3);
        scenario.boot(4);
        scenario.pass(step * Duration::from_millis(40));
        // then
        scenario.expect(10 * SECOND, "the three share a ring", |now| now.share_a_ring(&[1, 2, 4]));
        scenario.ends_well();
    }
}

#[test]
fn a_representative_that_dies_while_a_ring_forms_is_survived() {
    for step in 0..30 {
        // given
        let mut scenario = Scenario::formed_from(Setup::created(4));
        scenario.pass(2 * SECOND);
        let fast = fast(&mut scenario);
        scenario.crash(4);
        scenario.pass(fast.token + fast.consensus - Duration::from_millis(40));
        // when
        scenario.pass(step * Duration::from_millis(3));
        scenario.crash(1);
        // then
        scenario.expect(10 * SECOND, "two go on", |now| now.share_a_ring(&[2, 3]));
        scenario.ends_well();
    }
}

#[test]
fn a_node_that_switches_fast_detection_off_switches_it_off_for_all() {
    let mut scenario = Scenario::formed_from(Setup::created(3));
    let (fast, configured) = (fast(&mut scenario), configured(&mut scenario));
    let ring = scenario.now().ring(1);
    scenario.cluster().set_fast_detection(node(2), false);
    scenario
        .expect(SECOND, "patient", |now| [1, 2, 3].into_iter().all(|id| now.pace(id) == Some(configured)));
    scenario.cluster().set_fast_detection(node(2), true);
    scenario.expect(SECOND, "fast", |now| [1, 2, 3].into_iter().all(|id| now.pace(id) == Some(fast)));
    assert_eq!(scenario.now().ring(1), ring, "without a change of the ring");
    scenario.ends_well();
}
