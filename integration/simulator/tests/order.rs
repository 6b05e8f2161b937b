//! Messages arrive in one order at all members, whatever their size and whatever the network does.

use std::time::Duration;

use membership_core::srp::Params;
use simulator::{
    fault::{Daemon, Fault},
    history::Probe,
    network::Quality,
    scenario::Scenario,
    setup::Setup,
};

const SECOND: Duration = Duration::from_secs(1);

fn lossy(per_cent: u32) -> Quality {
    Quality { loss: per_cent * 10_000, ..Quality::PERFECT }
}

#[test]
fn messages_of_all_members_arrive_in_one_order_under_loss() {
    // given
    let mut scenario = Scenario::formed(5);
    scenario.links(lossy(10));
    // when
    let messages: Vec<_> = (0..200).map(|count| scenario.send(1 + count % 5, 300)).collect();
    scenario.pass(30 * SECOND);
    // then
    scenario.links(Quality::PERFECT);
    scenario.pass(10 * SECOND);
    for message in messages {
        assert_eq!(scenario.delivered(message), [1, 2, 3, 4, 5], "#{message}");
    }
    scenario.ends_well();
}

/// Scenario 9: every size around the limits of a packet, and the largest there is.
#[test]
fn messages_of_every_size_are_put_together_again() {
    // given
    let mut scenario = Scenario::formed(3);
    let around = |size: usize| size - 20..size + 20;
    let sizes = (20..60).chain(around(600)).chain(around(1200)).chain(around(1402)).chain(around(2804));
    // when
    let mut messages: Vec<_> = sizes.map(|size| scenario.send(2, size)).collect();
    messages.push(scenario.send(1, 1_048_576 - 212));
    messages.push(scenario.send(1, 30));
    messages.push(scenario.send(3, 1_048_576));
    messages.push(scenario.send(3, 30));
    scenario.pass(60 * SECOND);
    // then
    for message in messages {
        assert_eq!(scenario.delivered(message), [1, 2, 3], "#{message}");
    }
    scenario.ends_well();
}

/// Scenario 14.
#[test]
fn the_numbers_of_messages_may_wrap() {
    for before in [1, 2, 50, 700] {
        // given
        let mut setup = Setup::healthy(3);
        setup.params.initial_seq = u32::MAX - before;
        let mut scenario = Scenario::formed_from(setup);
        scenario.links(lossy(5));
        // when
        let messages: Vec<_> = (0..1500).map(|count| scenario.send(1 + count % 3, 1200)).collect();
        scenario.pass(60 * SECOND);
        scenario.links(Quality::PERFECT);
        scenario.pass(10 * SECOND);
        // then
        for message in messages {
            assert_eq!(scenario.delivered(message), [1, 2, 3], "#{message}, wrap after {before}");
        }
        scenario.ends_well();
    }
}

/// Scenario 6: a message is lost while the ring is idle. Neither must it wait for minutes, nor must its
/// retransmission make the token spin.
#[test]
fn a_message_lost_on_an_idle_ring_is_sent_again_soon_and_without_a_storm() {
    for cancel_token_hold_on_retransmit in [false, true] {
        // given
        let mut setup = Setup::healthy(3);
        setup.params.cancel_token_hold_on_retransmit = cancel_token_hold_on_retransmit;
        let mut scenario = Scenario::formed_from(setup);
        scenario.pass(60 * SECOND);
        scenario.fault(Fault::Link(1.try_into().unwrap(), 3.try_into().unwrap(), Some(lossy(100))));
        let message = scenario.send(1, 100);
        scenario.pass(Duration::from_millis(1));
        scenario.fault(Fault::Link(1.try_into().unwrap(), 3.try_into().unwrap(), None));
        let before = scenario.network_stats().sent;
        // when
        scenario.pass(10 * SECOND);
        // then
        assert_eq!(scenario.delivered(message), [1, 2, 3]);
        let sent = scenario.network_stats().sent - before;
        assert!(sent < 5000, "{sent} datagrams in 10 s for one message");
        scenario.ends_well();
    }
}

#[test]
fn an_idle_ring_sends_next_to_nothing() {
    // The fast timers hold the token for a shorter time.
    for (fast_detection, most) in [(false, 20), (true, 45)] {
        // given
        let setup = Setup::healthy(3);
        let params = Params { fast_detection, ..setup.params.clone() };
        let mut scenario = Scenario::formed_from(Setup { params, ..setup });
        scenario.pass(60 * SECOND);
        let before = scenario.network_stats().sent;
        // when
        scenario.pass(60 * SECOND);
        // then
        let per_second = (scenario.network_stats().sent - before) / 60;
        assert!(per_second < most, "{per_second} datagrams per second");
        scenario.ends_well();
    }
}

/// Scenario 3: restarts at random under loss, then messages; one that never arrives is a hole for ever.
#[test]
fn after_restarts_under_loss_every_node_can_send() {
    // given
    let mut scenario = Scenario::formed(5);
    scenario.links(lossy(15));
    for round in 0..12 {
        let id = 1 + round * 3 % 5;
        scenario.kill(id, Daemon::Membership);
        for sender in (1..=5).filter(|sender| *sender != id) {
            scenario.send(sender, 2000);
        }
        scenario.pass(Duration::from_millis(700 * u64::from(round)));
        scenario.start(id, Daemon::Membership);
        scenario.pass(2 * SECOND);
    }
    // when
    scenario.links(Quality::PERFECT);
    scenario.expect(60 * SECOND, "one ring", |now| now.share_a_ring(&[1, 2, 3, 4, 5]));
    let messages: Vec<_> = (1..=5).map(|id| scenario.send(id, 100)).collect();
    scenario.pass(5 * SECOND);
    // then
    for message in messages {
        assert_eq!(scenario.delivered(message), [1, 2, 3, 4, 5]);
    }
    scenario.ends_well();
}

/// Scenarios 7 and 8: one node receives slowly and restarts again and again while all send.
#[test]
fn a_slow_receiver_that_restarts_under_load_corrupts_nothing_and_catches_up() {
    // given
    let mut scenario = Scenario::formed(3);
    let slow = 3.try_into().unwrap();
    scenario.fault(Fault::Receiver(slow, Some(Duration::from_millis(2))));
    // when
    for round in 0..60_u32 {
        for id in 1..=3 {
            (0..20).for_each(|_| {
                scenario.send(id, 1000);
            });
        }
        if round % 20 == 19 {
            scenario.kill(3, Daemon::Membership);
            scenario.start(3, Daemon::Membership);
        }
        scenario.pass(SECOND);
    }
    // then
    scenario.fault(Fault::Receiver(slow, None));
    scenario.expect(60 * SECOND, "it has caught up", |now| now.share_a_ring(&[1, 2, 3]));
    scenario.ends_well();
}

/// Scenario 8, second part: what a paused node had queued must not overtake the synchronisation.
#[test]
fn messages_queued_at_a_paused_node_come_after_the_synchronisation() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.pause(2);
    let messages: Vec<_> = (0..50).map(|_| scenario.send(2, 3000)).collect();
    scenario.expect(15 * SECOND, "the others go on", |now| now.share_a_ring(&[1, 3]));
    // when
    scenario.resume(2);
    scenario.expect(30 * SECOND, "together again", |now| now.share_a_ring(&[1, 2, 3]));
    scenario.pass(10 * SECOND);
    // then: it may have found the old token first and sent a visit's worth, 17 packets, to itself alone
    let to_itself = messages.iter().take_while(|message| scenario.delivered(**message) == [2]).count();
    assert!(to_itself <= 8, "{to_itself}");
    for message in &messages[to_itself..] {
        assert_eq!(scenario.delivered(*message), [1, 2, 3]);
    }
    scenario.ends_well();
}

/// Scenario 15.
#[test]
fn a_node_that_joins_under_load_takes_part_at_once() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.crash(3);
    scenario.expect(15 * SECOND, "the others go on", |now| now.share_a_ring(&[1, 2]));
    // when
    scenario.boot(3);
    for _ in 0..40 {
        (0..30).for_each(|_| {
            scenario.send(1, 1300);
            scenario.send(2, 1300);
        });
        scenario.pass(SECOND / 10);
    }
    scenario.expect(20 * SECOND, "it is in", |now| now.share_a_ring(&[1, 2, 3]));
    let message = scenario.send(3, 100);
    scenario.pass(20 * SECOND);
    // then
    assert_eq!(scenario.delivered(message), [1, 2, 3]);
    scenario.ends_well();
}

#[test]
fn a_safe_message_is_held_back_until_all_members_have_it() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.block(&[1, 2], &[3]);
    // when
    let message = scenario.send_by(1, Probe::Safe, 100);
    scenario.pass(SECOND);
    // then
    assert!(scenario.delivered(message).is_empty(), "3 can not have it");
    scenario.join_again();
    scenario.expect(30 * SECOND, "one ring", |now| now.share_a_ring(&[1, 2, 3]));
    scenario.ends_well();
}

/// Scenario 3: the sender dies in the middle of a burst of which every other member has other parts.
#[test]
fn gaps_in_what_a_dead_member_sent_are_filled_from_each_other() {
    for seed in 0..40 {
        // given
        let mut scenario = Scenario::formed_from(Setup { seed, ..Setup::healthy(4) });
        scenario.links(lossy(60));
        // when
        let messages: Vec<_> = (0..60).map(|count| scenario.send(1 + count % 4, 1300)).collect();
        scenario.pass(Duration::from_millis(1 + seed % 5));
        scenario.crash(4);
        scenario.links(Quality::PERFECT);
        scenario.expect(20 * SECOND, "the others go on", |now| now.share_a_ring(&[1, 2, 3]));
        scenario.pass(20 * SECOND);
        // then: whatever one of them delivered, all did
        for message in messages {
            let by = scenario.delivered(message);
            let survivors: Vec<u32> = by.into_iter().filter(|id| *id != 4).collect();
            assert!(survivors.is_empty() || survivors == [1, 2, 3], "#{message} at {survivors:?} only");
        }
        scenario.ends_well();
    }
}

/// Scenario 3: behind a gap that nobody can fill any more there is a message that only some have.
#[test]
fn a_message_behind_a_gap_that_nobody_can_fill_reaches_all_who_go_on_together() {
    for step in 0..60 {
        // given: long messages of 4 get lost, and 3 does not hear 1
        let mut scenario = Scenario::formed(4);
        let hole = Quality { bytes_max: 500, ..Quality::PERFECT };
        for to in 1..=3 {
            scenario.fault(Fault::Link(4.try_into().unwrap(), to.try_into().unwrap(), Some(hole)));
        }
        scenario.fault(Fault::Link(1.try_into().unwrap(), 3.try_into().unwrap(), Some(lossy(100))));
        let lost = scenario.send(4, 1000);
        let behind = scenario.send(1, 100);
        // when
        scenario.pass(step * Duration::from_micros(50));
        scenario.crash(4);
        scenario.links(Quality::PERFECT);
        scenario.fault(Fault::Link(1.try_into().unwrap(), 3.try_into().unwrap(), None));
        scenario.expect(20 * SECOND, "the others go on", |now| now.share_a_ring(&[1, 2, 3]));
        scenario.pass(2 * SECOND);
        // then
        assert!(scenario.delivered(lost).iter().all(|id| *id == 4), "step {step}");
        assert_eq!(
            scenario.delivered(behind).into_iter().filter(|id| *id != 4).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        scenario.ends_well();
    }
}
