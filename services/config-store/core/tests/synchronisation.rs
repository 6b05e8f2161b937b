//! What happens when members come, go, stall and differ: who gets what from whom, and what is kept.

#![allow(clippy::unwrap_used, reason = "a test program: what is not there fails it")]

mod world;

use std::time::Duration;

use bytes::Bytes;
use config_store_core::{
    Compacted, ConflictItem, Input, LOG_WINDOW, Message, Operation, QuorumView, RequestError, Signed, Space,
    State,
};
use world::{World, machine_events, node};

fn synced(count: u32) -> World {
    let mut world = World::new(11, count);
    world.run_until("all in sync", 5, World::all_synced);
    world
}

fn apart(world: &mut World, parts: &[&[u32]]) {
    let parts: Vec<Vec<_>> = parts.iter().map(|part| part.iter().copied().map(node).collect()).collect();
    world.partition(&parts);
}

fn together_again(world: &mut World) {
    let all = world.ids();
    world.partition(&[all]);
    world.run_until("all in sync", 20, |world| world.all_synced() && world.same_trees());
}

fn write(world: &mut World, id: u32, count: usize, size: usize) {
    for index in 0..count {
        world.put(node(id), &format!("f{index}"), &vec![index as u8; size]);
    }
    world.drain();
}

#[test]
fn a_node_that_missed_a_few_writes_gets_only_those() {
    // given: a tree of 200 KiB that all have
    let mut world = synced(3);
    write(&mut world, 1, 200, 1000);

    // when: node 3 misses three writes
    apart(&mut world, &[&[1, 2], &[3]]);
    world.run_until("in sync", 5, |world| world.replica(node(1)).state() == State::Synced);
    write(&mut world, 1, 3, 500);
    together_again(&mut world);

    // then
    let stats = *world.replica(node(3)).stats();
    assert_eq!((stats.deltas_adopted, stats.indexes_adopted), (1, 0));
    assert!(stats.transfer_bytes_received < 3000, "{}", stats.transfer_bytes_received);
    assert_eq!(world.checks.conflicts, 0);
}

#[test]
fn an_empty_node_adopts_everything_in_pieces() {
    let mut world = synced(3);
    write(&mut world, 1, 30, 100_000);
    world.power_off(node(3));
    world.machines.get_mut(&node(3)).unwrap().disk.clear();
    world.start_process(node(3));
    together_again(&mut world);
    assert!(world.replica(node(3)).stats().transfer_bytes_received > 3_000_000);
    assert_eq!(world.replica(node(3)).tree().entry_count(), 30);
}

#[test]
fn a_node_that_is_further_behind_than_the_log_compares_by_index() {
    // given: 2000 files that all have
    let mut world = synced(3);
    write(&mut world, 1, 2000, 100);
    apart(&mut world, &[&[1, 2], &[3]]);
    world.run_until("in sync", 5, |world| world.replica(node(1)).state() == State::Synced);

    // when: more versions pass than the log keeps, all of one file
    for _ in 0..LOG_WINDOW / 1024 + 1 {
        for _ in 0..1024 {
            world.put(node(1), "f7", b"again");
        }
        world.drain();
    }
    together_again(&mut world);

    // then: one entry was sent, and the log
    let stats = *world.replica(node(3)).stats();
    assert_eq!((stats.deltas_adopted, stats.indexes_adopted, stats.conflicts_kept), (0, 1, 0));
    let whole_log = LOG_WINDOW * 120;
    assert!(stats.transfer_bytes_received < whole_log + 10_000, "{}", stats.transfer_bytes_received);
    assert_eq!(
        world.replica(node(3)).changes_since(5),
        Err(Compacted { oldest: world.replica(node(3)).log().first() })
    );
}

#[test]
fn what_a_minority_had_applied_is_kept_as_a_conflict_copy_and_nothing_else_is_touched() {
    // given: node 1 applied and stored what nobody else got
    let mut world = synced(3);
    write(&mut world, 2, 50, 1000);
    world.cut_off = true;
    let lost = world.put(node(1), "mine", b"work of an hour");
    world.drain_alone(node(1));
    apart(&mut world, &[&[1], &[2, 3]]);
    world.run_until("in sync", 5, |world| world.replica(node(2)).state() == State::Synced);
    world.put(node(2), "f7", b"theirs");
    world.drain();
    let before = world.replica(node(1)).tree().version();
    world.power_off(node(1));
    world.start_process(node(1));

    // when
    together_again(&mut world);

    // then
    assert_eq!(world.checks.reply_of(lost), None, "its process has died");
    assert_eq!(world.content(node(1), "mine"), None);
    assert_eq!(world.content(node(1), "f7").as_deref(), Some(&b"theirs"[..]));
    let stored = world.machines[&node(1)].disk.iter().filter(|((space, _), _)| *space == Space::Conflict);
    let items: Vec<_> = stored.map(|(_, value)| ConflictItem::decode(value.clone()).unwrap()).collect();
    let ConflictItem::Header(header) = &items[0] else { panic!("{items:?}") };
    assert_eq!((header.common, header.version), (before - 1, before));
    let ConflictItem::Entry { path, entry } = &items[1] else { panic!("{items:?}") };
    assert_eq!((path.as_str(), &entry.content()[..]), ("mine", &b"work of an hour"[..]));
    assert!(matches!(&items[2], ConflictItem::Record(record) if record.version() == before));
    assert_eq!(items.len(), 3);
    assert!(world.replica(node(1)).stats().transfer_bytes_received < 60_000);
}

#[test]
fn an_inode_that_was_a_file_in_the_lost_history_may_be_a_directory_in_the_one_that_won() {
    // given: inode 2 is a file with content on node 1, and a directory everywhere else
    let mut world = synced(3);
    world.cut_off = true;
    world.put(node(1), "f", b"content");
    world.drain_alone(node(1));
    apart(&mut world, &[&[1], &[2, 3]]);
    world.run_until("in sync", 5, |world| world.replica(node(2)).state() == State::Synced);
    let id = world.fresh_id();
    world.request(node(2), id, Operation::Mkdir { path: "d".parse().unwrap() }, Duration::from_secs(5));
    world.drain();
    together_again(&mut world);

    // when
    world.power_off(node(1));
    world.start_process(node(1));

    // then: its disk can be loaded
    together_again(&mut world);
    assert!(world.replica(node(1)).tree().entry(2).unwrap().is_directory());
}

#[test]
fn a_request_lost_with_a_minority_happens_in_the_history_that_won() {
    let mut world = synced(3);
    world.cut_off = true;
    let handle = world.put(node(1), "mine", b"work");
    world.drain_alone(node(1));
    apart(&mut world, &[&[1], &[2, 3]]);
    world.run_until("in sync", 5, |world| world.replica(node(2)).state() == State::Synced);
    world.put(node(2), "theirs", b"x");
    world.drain();
    together_again(&mut world);
    assert_eq!(world.checks.reply_of(handle).unwrap().as_ref().unwrap().version, 3);
    assert_eq!(world.content(node(2), "mine").as_deref(), Some(&b"work"[..]));
}

#[test]
fn a_process_that_restarts_in_a_healthy_ring_comes_back_by_itself() {
    let mut world = synced(3);
    write(&mut world, 1, 10, 100);
    world.kill_process(node(2));
    write(&mut world, 1, 12, 100);
    world.start_process(node(2));
    world.run_until("all in sync", 5, |world| world.all_synced() && world.same_trees());
    assert!(world.replica(node(2)).epoch().round > 0, "the same ring, a later round");
}

#[test]
fn a_stopped_process_is_left_out_and_taken_in_again_when_it_wakes_up() {
    // given: node 2's process is stopped, and the group changes
    let mut world = synced(5);
    world.machines.get_mut(&node(2)).unwrap().stopped = true;
    world.kill_process(node(5));

    // when: the other three have the votes
    let others = |world: &World| [1, 3, 4].iter().all(|id| world.replica(node(*id)).state() == State::Synced);
    world.run_until("the others go on", 10, others);
    let handle = world.put(node(1), "f", b"x");
    world.drain();

    // then
    assert!(world.checks.reply_of(handle).unwrap().is_ok());
    world.start_process(node(5));
    world.machines.get_mut(&node(2)).unwrap().stopped = false;
    world.run_until("all in sync", 20, |world| world.all_synced() && world.same_trees());
    assert!(world.replica(node(2)).stats().times_left_out > 0);
}

#[test]
fn the_lowest_node_is_missed_no_more_than_any_other() {
    let mut world = synced(5);
    world.machines.get_mut(&node(1)).unwrap().stopped = true;
    world.kill_process(node(5));
    let others = |world: &World| [2, 3, 4].iter().all(|id| world.replica(node(*id)).state() == State::Synced);
    world.run_until("the others go on", 10, others);
}

#[test]
fn a_node_without_its_quorum_service_holds_nobody_up() {
    // given: the lowest node never hears of votes
    let mut world = World::new(3, 3);
    world.machines.get_mut(&node(1)).unwrap().view = None;

    // when
    let others = |world: &World| [2, 3].iter().all(|id| world.replica(node(*id)).state() == State::Synced);
    world.run_until("the others are in sync", 5, others);
    let handle = world.put(node(2), "f", b"x");
    let refused = world.put(node(1), "g", b"y");
    world.drain();

    // then: it follows, and takes no writes of its own
    assert!(world.checks.reply_of(handle).unwrap().is_ok());
    assert_eq!(world.content(node(1), "f").as_deref(), Some(&b"x"[..]));
    assert!(matches!(world.checks.reply_of(refused), Some(Err(RequestError::NotQuorate(_)))));
}

#[test]
fn replicas_of_a_minority_stay_as_they_are() {
    let mut world = synced(5);
    world.cut_off = true;
    world.put(node(1), "f", b"x");
    world.drain_alone(node(1));
    apart(&mut world, &[&[1], &[2], &[3, 4, 5]]);
    apart(&mut world, &[&[1, 2], &[3, 4, 5]]);
    world.run_until("majority in sync", 5, |world| world.replica(node(3)).state() == State::Synced);
    let versions = [1, 2].map(|id| world.replica(node(id)).tree().version());
    assert_eq!(versions, [2, 1]);
    assert_eq!(world.replica(node(2)).stats().rounds_started, 1);
}

#[test]
fn an_operation_that_one_replica_cannot_read_costs_it_one_round() {
    // given
    let mut world = synced(3);
    let epoch = world.replica(node(3)).epoch();
    let message =
        Message::Operation { epoch, head: Bytes::from_static(b"from the future"), content: Bytes::new() };
    let payload = Signed { incarnation: 1, serial: 1, message }.encode();

    // when: the others could read it; to this one it is noise
    world.input(node(3), Input::Message { from: node(1), payload });
    assert_eq!(world.replica(node(3)).state(), State::Synchronising);

    // then
    world.run_until("all in sync", 10, |world| world.all_synced() && world.same_trees());
    let handle = world.put(node(3), "f", b"x");
    world.drain();
    assert!(world.checks.reply_of(handle).unwrap().is_ok());
}

#[test]
fn a_replica_that_silently_diverged_is_found_at_once_and_repaired() {
    // given: one byte of a write changes on its way into node 3
    let mut world = synced(3);
    write(&mut world, 1, 20, 100);
    world.checks.broken_on_purpose = true;
    world.put(node(1), "f3", b"correct");
    world.send(node(1));
    world.deliver(node(3), 99);
    machine_events(&mut world, node(3), |payload| {
        let at = payload.windows(7).position(|window| window == b"correct");
        if let Some(at) = at {
            payload[at] = b'C';
        }
    });

    // when
    world.run_until("all in sync", 20, |world| world.all_synced() && world.same_trees());

    // then
    assert!(world.checks.divergences > 0);
    for id in world.ids() {
        assert_eq!(world.content(id, "f3").as_deref(), Some(&b"correct"[..]));
    }
    assert_eq!(world.checks.conflicts, 1);
}

#[test]
fn an_operators_override_voids_the_promise_and_tells_the_watchers() {
    // given: node 1 is forced to be quorate alone and writes
    let mut world = synced(3);
    write(&mut world, 2, 3, 10);
    apart(&mut world, &[&[1], &[2, 3]]);
    world.run_until("in sync", 5, |world| world.replica(node(2)).state() == State::Synced);
    let ring = world.components[0].ring;
    let votes = [(node(1), 1)].into();
    let forced = QuorumView { ring, quorate: true, expected_votes: 1, quorum: 1, votes, absent: vec![] };
    world.machines.get_mut(&node(1)).unwrap().view = Some(forced);
    world.run_until("forced", 5, |world| world.replica(node(1)).state() == State::Synced);
    world.checks.broken_on_purpose = true;
    let forced = world.put(node(1), "forced", b"x");
    world.drain();
    assert!(world.checks.reply_of(forced).unwrap().is_ok());

    // when: the others are in a later ring, and all meet
    apart(&mut world, &[&[1], &[2, 3]]);
    world.run_until("in sync", 5, |world| world.replica(node(2)).state() == State::Synced);
    together_again(&mut world);

    // then
    assert_eq!(world.content(node(1), "forced"), None);
    assert!(world.conflict_keys(node(1)) > 0);
    assert_eq!(world.checks.resets, 1);
}

#[test]
fn what_a_cluster_node_writes_stand_alone_never_wins_over_the_cluster() {
    // given
    let mut world = synced(3);
    write(&mut world, 2, 3, 10);
    world.power_off(node(1));
    world.start_process(node(1));
    world.input(node(1), Input::LocalMode(true));
    assert_eq!(world.replica(node(1)).state(), State::Local);

    // when: many local writes, each acknowledged once stored
    for _ in 0..20 {
        let handle = world.put(node(1), "local", b"x");
        assert_eq!(world.checks.reply_of(handle), None);
        world.store(node(1));
        assert!(world.checks.reply_of(handle).unwrap().is_ok());
    }
    world.checks.broken_on_purpose = true;
    world.input(node(1), Input::LocalMode(false));
    together_again(&mut world);

    // then
    assert_eq!(world.content(node(1), "local"), None);
    assert!(world.conflict_keys(node(1)) > 20);
}

#[test]
fn a_stand_alone_tree_becomes_the_clusters_first_tree() {
    // given: node 1 was stand-alone, the others are new
    let mut world = World::new(5, 3);
    apart(&mut world, &[]);
    world.input(node(1), Input::LocalMode(true));
    for name in ["a", "b"] {
        world.put(node(1), name, b"x");
    }
    while world.store(node(1)) {}
    assert_eq!(world.replica(node(1)).tree().get(&"a".parse().unwrap()).unwrap().head().writer, 0);

    // when
    world.input(node(1), Input::LocalMode(false));
    together_again(&mut world);

    // then
    assert_eq!(world.content(node(3), "b").as_deref(), Some(&b"x"[..]));
    assert_eq!(world.checks.conflicts, 0);
}

#[test]
fn a_watch_resumes_where_it_was_on_another_node() {
    let mut world = synced(3);
    write(&mut world, 1, 5, 10);
    let changes = world.replica(node(3)).changes_since(3).unwrap();
    assert_eq!(changes.iter().map(|change| change.version).collect::<Vec<_>>(), [4, 5, 6]);
    assert_eq!(world.replica(node(2)).changes_since(6).unwrap(), []);
    assert_eq!(world.replica(node(2)).changes_since(600).unwrap(), []);
}

#[test]
fn watchers_see_only_what_can_no_longer_be_lost() {
    let mut world = synced(3);
    world.put(node(1), "f", b"x");
    world.drain_but(|_, _| true);
    assert_eq!(world.replica(node(2)).tree().version(), 2);
    assert_eq!(
        (world.replica(node(2)).committed(), world.replica(node(2)).changes_since(1)),
        (1, Ok(vec![]))
    );
    world.drain();
    assert_eq!(world.replica(node(2)).changes_since(1).unwrap().len(), 1);
}

#[test]
fn damaged_messages_never_end_a_replica() {
    for seed in 0..200 {
        let mut world = World::new(seed, 3);
        world.checks.lawless = true;
        for round in 0..6 {
            world.put(node(1 + round % 3), "f", &vec![round as u8; 300]);
            for _ in 0..8 {
                let id = node(1 + world.chance.below(3) as u32);
                while world.send(id) {}
                world.vote(id);
                world.deliver(id, 9);
                let (at, bit) = (world.chance.below(64), world.chance.below(8));
                let damage = world.chance.below(3) == 0;
                machine_events(&mut world, id, |payload| {
                    if damage && at < payload.len() {
                        payload[at] ^= 1 << bit;
                    }
                });
                world.consume(id, 9);
                world.store(id);
            }
            world.pass(Duration::from_millis(500));
        }
        world.run_until("all in sync", 90, World::all_synced);
        world.barrier(node(1), Duration::from_secs(9));
        world.run_until("all the same", 90, |world| world.all_synced() && world.same_trees());
    }
}
