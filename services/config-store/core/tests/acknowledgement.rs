//! When a write is acknowledged, refused, or of unknown outcome, and that the first kind survives.

#![allow(clippy::unwrap_used, reason = "a test program: what is not there fails it")]

mod world;

use std::time::Duration;

use config_store_core::{
    Expect, Operation, OperationError, QuorumView, RequestError, RequestId, Shortfall, State,
};
use world::{World, node};

fn synced(count: u32) -> World {
    let mut world = World::new(7, count);
    world.run_until("all in sync", 5, World::all_synced);
    world
}

fn apart(world: &mut World, parts: &[&[u32]]) {
    let parts: Vec<Vec<_>> = parts.iter().map(|part| part.iter().copied().map(node).collect()).collect();
    world.partition(&parts);
}

#[test]
fn a_write_is_acknowledged_only_when_a_majority_has_stored_it() {
    // given
    let mut world = synced(3);

    // when: ordered and applied everywhere, stored by its originator alone
    let handle = world.put(node(1), "f", b"x");
    world.drain_but(|_, id| id != node(1));

    // then
    assert_eq!(world.content(node(3), "f").as_deref(), Some(&b"x"[..]));
    assert_eq!(world.checks.reply_of(handle), None);

    // when: one more has it
    world.store(node(3));
    world.drain_but(|_, id| id != node(1));

    // then
    assert_eq!(world.checks.reply_of(handle).unwrap().as_ref().unwrap().version, 2);
}

#[test]
fn an_acknowledged_write_survives_the_crash_of_any_minority_and_a_restart_of_all() {
    for lost in 1..=5 {
        let mut world = synced(5);
        let handle = world.put(node(1), "f", b"x");
        world.drain_but(|_, id| id.get() == lost || id.get() == lost % 5 + 1);
        assert!(world.checks.reply_of(handle).unwrap().is_ok());
        for id in world.ids() {
            world.power_off(id);
            world.start_process(id);
        }
        apart(&mut world, &[&[1, 2, 3, 4, 5]]);
        world.run_until("all in sync", 10, |world| world.all_synced() && world.same_trees());
        world.checks.nothing_lost(world.replica(node(1)));
    }
}

#[test]
fn a_refusal_too_waits_until_it_is_certain() {
    let mut world = synced(3);
    let made = world.put(node(1), "f", b"x");
    let create = Operation::Create { path: "f".parse().unwrap() };
    let id = world.fresh_id();
    let refused = world.request(node(2), id, create, Duration::from_secs(5));
    world.drain_but(|_, _| true);
    assert_eq!((world.checks.reply_of(made), world.checks.reply_of(refused)), (None, None));
    world.drain();
    let exists = OperationError::AlreadyExists { path: "f".parse().unwrap() };
    assert_eq!(world.checks.reply_of(refused), Some(&Err(RequestError::Refused(exists))));
}

#[test]
fn a_minority_refuses_writes_at_once_and_says_what_is_missing() {
    let mut world = synced(5);
    world.put(node(1), "f", b"x");
    world.drain();
    apart(&mut world, &[&[1, 2], &[3, 4, 5]]);
    world.run_until("majority in sync", 5, |world| world.replica(node(3)).state() == State::Synced);

    let handle = world.put(node(1), "g", b"y");

    let shortfall = Shortfall {
        votes_present: 2,
        votes_needed: 3,
        expected_votes: 5,
        absent: vec![node(3), node(4), node(5)],
        without_replica: vec![],
        forgot: vec![],
    };
    assert_eq!(world.checks.reply_of(handle), Some(&Err(RequestError::NotQuorate(shortfall))));
    assert_eq!(world.content(node(1), "f").as_deref(), Some(&b"x"[..]), "reads go on");
    assert_eq!(world.replica(node(1)).state(), State::NotQuorate);
}

#[test]
fn a_quorate_ring_with_too_few_replicas_is_read_only() {
    let mut world = synced(3);
    world.kill_process(node(2));
    world.kill_process(node(3));
    world.drain();
    let handle = world.put(node(1), "f", b"x");
    let reply = world.checks.reply_of(handle);
    let Some(Err(RequestError::NotQuorate(shortfall))) = reply else { panic!("{reply:?}") };
    assert_eq!(shortfall.without_replica, [node(2), node(3)]);
}

#[test]
fn a_loss_of_the_membership_service_is_a_loss_of_quorum_at_once() {
    let mut world = synced(3);
    let sent = world.put(node(1), "f", b"x");
    world.input(node(1), config_store_core::Input::GroupLost);
    assert_eq!(world.replica(node(1)).state(), State::Alone);
    let refused = world.put(node(1), "g", b"y");
    assert!(matches!(world.checks.reply_of(refused), Some(Err(RequestError::NotQuorate(_)))));
    world.pass(Duration::from_secs(30));
    assert_eq!(world.checks.reply_of(sent), Some(&Err(RequestError::OutcomeUnknown)));
}

#[test]
fn a_request_during_synchronisation_waits_and_then_happens() {
    let mut world = synced(3);
    apart(&mut world, &[&[1, 2]]);
    let handle = world.put(node(1), "f", b"x");
    while world.consume(node(1), 1) | world.deliver(node(1), 9) {}
    let waiting = world.put(node(1), "g", b"y");
    assert_eq!(world.checks.reply_of(waiting), None);
    world.run_until("both done", 5, |world| {
        [handle, waiting].iter().all(|handle| matches!(world.checks.reply_of(*handle), Some(Ok(_))))
    });
}

#[test]
fn a_request_that_was_never_sent_ends_with_its_deadline_and_changed_nothing() {
    let mut world = synced(3);
    apart(&mut world, &[&[1, 2]]);
    while world.consume(node(1), 9) | world.deliver(node(1), 9) {}
    let handle = world.put(node(1), "f", b"x");
    world.machines.get_mut(&node(2)).unwrap().stopped = true;
    world.pass(Duration::from_secs(60));
    assert_eq!(world.checks.reply_of(handle), Some(&Err(RequestError::DeadlineExceeded)));
}

#[test]
fn a_write_on_its_way_when_the_ring_breaks_is_answered_by_the_next_history() {
    for cut_off in [true, false] {
        // given: sent into the ring's order, delivered to nobody or to some
        let mut world = synced(3);
        world.cut_off = cut_off;
        let handle = world.put(node(1), "f", b"x");
        world.send(node(1));

        // when
        apart(&mut world, &[&[1, 2]]);
        world.run_until("in sync", 5, |world| world.replica(node(1)).state() == State::Synced);
        world.drain();

        // then: it happened once
        assert!(world.checks.reply_of(handle).unwrap().is_ok());
        assert_eq!(world.replica(node(2)).log().tip(), 2);
    }
}

#[test]
fn a_repeated_request_is_applied_once_whichever_node_it_is_sent_to() {
    let mut world = synced(3);
    let operation = Operation::Create { path: "f".parse().unwrap() };
    let wait = Duration::from_secs(5);
    let handles = [1, 2, 3, 1].map(|id| world.request(node(id), [9; 16], operation.clone(), wait));
    world.drain();
    let versions = handles.map(|handle| world.checks.reply_of(handle).unwrap().as_ref().unwrap().version);
    assert_eq!(versions, [2; 4]);
    assert_eq!(world.replica(node(3)).stats().operations_repeated, 3);
    assert_eq!(world.replica(node(3)).log().find(&RequestId([9; 16])).unwrap().version(), 2);
}

#[test]
fn a_file_of_exactly_one_mebibyte_travels_in_parts() {
    let mut world = synced(3);
    let content: Vec<u8> = (0..1024 * 1024).map(|index| (index / 999) as u8).collect();
    let handle = world.put(node(2), "f", &content);
    let too_large = world.put(node(2), "g", &[&content[..], b"x"].concat());
    world.drain();
    assert!(world.checks.reply_of(handle).unwrap().is_ok());
    assert_eq!(world.content(node(3), "f").as_deref(), Some(&content[..]));
    let refused = world.checks.reply_of(too_large);
    assert!(matches!(refused, Some(Err(RequestError::Refused(OperationError::FileTooLarge { .. })))));
}

#[test]
fn two_nodes_write_together_and_the_survivor_alone() {
    // given: two_node, so one vote is quorum
    let mut world = synced(2);
    let view = |world: &World, present: &[u32]| QuorumView {
        ring: world.components[0].ring,
        quorate: true,
        expected_votes: 2,
        quorum: 1,
        votes: present.iter().map(|id| (node(*id), 1)).collect(),
        absent: vec![],
    };
    let both = world.put(node(1), "f", b"x");
    world.drain_but(|_, id| id == node(2));
    assert_eq!(world.checks.reply_of(both), None, "both are there: both must have it");
    world.drain();
    assert!(world.checks.reply_of(both).unwrap().is_ok());

    // when
    world.power_off(node(2));
    let alone = view(&world, &[1]);
    world.machines.get_mut(&node(1)).unwrap().view = Some(alone);
    world.run_until("in sync", 5, |world| world.replica(node(1)).state() == State::Synced);
    let survivor = world.put(node(1), "g", b"y");
    world.drain();

    // then
    assert!(world.checks.reply_of(survivor).unwrap().is_ok());
}

#[test]
fn what_an_older_epoch_left_open_is_certain_only_once_the_new_epoch_is_stored() {
    // given: X reached node 1's disk only, in the first epoch
    let mut world = synced(3);
    world.cut_off = true;
    let x = world.put(node(1), "f", b"X");
    world.drain_alone(node(1));
    assert_eq!(world.replica(node(1)).tree().version(), 2);

    // and: in the second epoch, Y reached node 3's disk only; node 2 had promised, and not begun
    apart(&mut world, &[&[1], &[2, 3]]);
    let held = |world: &World, id| id == node(2) && world.replica(id).state() == State::Synced;
    world.drain_but(held);
    assert_eq!(world.replica(node(3)).state(), State::Synced);
    world.put(node(3), "f", b"Y");
    world.drain_alone(node(3));
    assert_eq!(world.replica(node(3)).tree().version(), 2);
    world.power_off(node(2));
    world.start_process(node(2));

    // when: nodes 1 and 2 begin a third epoch with X, and lose power before it is stored
    apart(&mut world, &[&[1, 2], &[3]]);
    let begun = |world: &World, id| id != node(3) && world.replica(id).state() == State::Synced;
    world.drain_but(begun);
    assert_eq!(world.content(node(2), "f").as_deref(), Some(&b"X"[..]));

    // then: X is not acknowledged, for node 3 wins over it
    assert_eq!(world.checks.reply_of(x), None);
    for id in [1, 2] {
        world.power_off(node(id));
        world.start_process(node(id));
    }
    apart(&mut world, &[&[1, 2, 3]]);
    world.run_until("all in sync", 9, |world| world.all_synced() && world.same_trees());
    assert_eq!(world.content(node(1), "f").as_deref(), Some(&b"Y"[..]));
    assert!(world.conflict_keys(node(1)) > 0 && world.conflict_keys(node(2)) > 0);
}

#[test]
fn an_epoch_begins_only_when_every_participant_has_stored_its_promise() {
    let mut world = World::new(7, 3);
    world.drain_but(|_, id| id == node(2));
    assert_eq!(world.replica(node(1)).state(), State::Synchronising);
    world.store(node(2));
    world.drain_but(|_, id| id == node(2));
    assert_eq!(world.replica(node(1)).state(), State::Synced);
}

#[test]
fn a_paused_node_does_not_answer_a_barrier_from_the_past() {
    // given: node 1 has the token's last visit in its inbox, and the others have gone on without it
    let mut world = synced(3);
    world.cut_off = true;
    world.machines.get_mut(&node(1)).unwrap().stopped = true;
    apart(&mut world, &[&[1], &[2, 3]]);
    let inbox = std::mem::take(&mut world.machines.get_mut(&node(1)).unwrap().inbox);
    world.run_until("others in sync", 5, |world| world.replica(node(2)).state() == State::Synced);
    world.put(node(2), "f", b"new");
    world.drain();

    // when: it resumes and asks
    world.machines.get_mut(&node(1)).unwrap().stopped = false;
    let handle = world.barrier(node(1), Duration::from_secs(3));
    world.drain();

    // then: no answer, and at the end an honest one
    assert_eq!(world.checks.reply_of(handle), None);
    world.machines.get_mut(&node(1)).unwrap().inbox = inbox;
    world.drain();
    world.pass(Duration::from_secs(3));
    assert!(world.checks.reply_of(handle).unwrap().is_err());
}

#[test]
fn a_barrier_answers_with_everything_acknowledged_before() {
    let mut world = synced(3);
    world.put(node(1), "f", b"x");
    world.drain();
    let handle = world.barrier(node(3), Duration::from_secs(3));
    world.drain();
    assert_eq!(world.checks.reply_of(handle).unwrap().as_ref().unwrap().version, 2);
}

#[test]
fn a_failed_store_ends_all_requests_and_lets_no_new_ones_in() {
    let mut world = synced(3);
    let sent = world.put(node(1), "f", b"x");
    world.drain_but(|_, id| id == node(1));
    let batch = world.machines[&node(1)].storing[0].id;
    let reply = world.checks.reply_of(sent).cloned();
    assert!(reply.is_some_and(|reply| reply.is_ok()), "two others have it");
    let open = world.put(node(1), "g", b"y");
    world.input(node(1), config_store_core::Input::StoreFailed { batch });
    let refused = world.put(node(1), "h", b"z");
    assert_eq!(world.checks.reply_of(open), Some(&Err(RequestError::OutcomeUnknown)));
    assert_eq!(world.checks.reply_of(refused), Some(&Err(RequestError::StoreFailed)));
    assert_eq!(world.replica(node(1)).state(), State::Failed);
}

#[test]
fn an_expectation_decides_between_two_writers() {
    let mut world = synced(3);
    let put = |content: &'static [u8]| Operation::Put {
        path: "f".parse().unwrap(),
        expect: Expect::Absent,
        content: content.into(),
    };
    let wait = Duration::from_secs(5);
    let first = world.request(node(1), [1; 16], put(b"1"), wait);
    let second = world.request(node(2), [2; 16], put(b"2"), wait);
    world.drain();
    let won = [first, second].map(|handle| world.checks.reply_of(handle).unwrap().is_ok());
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
}

/// A new node is given its first votes by a write. Those who have it already count by it at once, so the ring needs votes
/// that the new node does not know it has: it must learn of them though the ring is not quorate, or nobody ever is again.
#[test]
fn what_became_certain_is_shown_though_the_quorum_is_lost_meanwhile_in_the_same_ring() {
    // given: performed everywhere, stored nowhere
    let mut world = synced(3);
    let handle = world.put(node(1), "corosync.conf", b"votes");
    world.drain_but(|_, _| true);
    let (before, ring) = (world.replica(node(2)).committed(), world.components[0].ring);

    // when
    let votes = [1, 2, 3].map(|id| (node(id), 1)).into();
    let view = QuorumView { ring, quorate: false, expected_votes: 9, quorum: 5, votes, absent: Vec::new() };
    world.machines.get_mut(&node(2)).unwrap().view = Some(view);
    world.vote(node(2));
    assert_eq!(world.replica(node(2)).state(), State::NotQuorate);
    world.drain();

    // then
    assert!(world.checks.reply_of(handle).unwrap().is_ok());
    assert_eq!(world.replica(node(2)).committed(), before + 1);

    // when: it may not answer, though
    let late = world.put(node(2), "f", b"x");
    world.drain();
    assert!(matches!(world.checks.reply_of(late), Some(Err(RequestError::NotQuorate(_)))));
}
