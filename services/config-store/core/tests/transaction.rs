//! Transactions on their way through the group: large ones, repeated ones, and replicas that come late.

#![allow(clippy::unwrap_used, reason = "a test program: what is not there fails it")]

mod world;

use std::time::Duration;

use bytes::Bytes;
use config_store_core::{
    ConfigPath, Expect, Operation, OperationError, RequestError, State, Transaction, VersionKind,
};
use world::{World, node};

fn path(text: &str) -> ConfigPath {
    text.parse().unwrap()
}

fn put(text: &str, content: Vec<u8>) -> Operation {
    Operation::Put { path: path(text), expect: Expect::Any, content: Bytes::from(content) }
}

fn together(operations: Vec<Operation>) -> Operation {
    Operation::Transaction(Transaction::new(operations).unwrap())
}

fn synced(count: u32) -> World {
    let mut world = World::new(7, count);
    world.run_until("all in sync", 5, World::all_synced);
    world
}

#[test]
fn one_of_four_mebibytes_travels_in_parts_and_is_performed_once_however_often_it_is_sent() {
    let mut world = synced(3);
    let operation = together((0..4).map(|at| put(&format!("f{at}"), vec![at; 1 << 20])).collect());
    let id = world.fresh_id();
    let patience = Duration::from_secs(20);
    let first = world.request(node(1), id, operation.clone(), patience);
    world.drain();
    let again = world.request(node(2), id, operation, patience);
    world.drain();

    let (first, again) = (world.checks.reply_of(first).unwrap(), world.checks.reply_of(again).unwrap());
    assert_eq!(first.as_ref().unwrap().version, 5, "one version for each file");
    assert_eq!(first, again);
    assert!(world.same_trees());
    assert_eq!(world.replica(node(3)).stats().operations_repeated, 1);
}

#[test]
fn a_refused_one_changes_nothing_anywhere_and_names_its_operation() {
    let mut world = synced(3);
    let check = Operation::Check { path: path("needed"), expect: Expect::Present };
    let operation = together(vec![put("a", vec![1]), put("b", vec![2]), check]);
    let id = world.fresh_id();
    let handle = world.request(node(1), id, operation, Duration::from_secs(20));
    world.drain();

    let Err(RequestError::Refused(OperationError::InTransaction { index, path, .. })) =
        world.checks.reply_of(handle).unwrap()
    else {
        panic!("{:?}", world.checks.reply_of(handle));
    };
    assert_eq!((*index, path.as_str()), (2, "needed"));
    assert_eq!(world.replica(node(2)).tree().version(), 1);
}

#[test]
fn a_latecomer_gets_all_of_it_and_learns_who_did_what() {
    // given: node 3 has the first content of a file
    let mut world = synced(3);
    world.put(node(1), "f", b"1");
    world.drain();
    world.partition(&[vec![node(1), node(2)], vec![node(3)]]);
    world.run_until("in sync", 5, |world| world.replica(node(1)).state() == State::Synced);

    // when: the others write it twice, in one step with another file
    let id = world.fresh_id();
    let operation = together(vec![put("f", vec![b'2']), put("g", vec![b'x']), put("f", vec![b'3'])]);
    world.request(node(1), id, operation, Duration::from_secs(20));
    world.drain();
    let all = world.ids();
    world.partition(&[all]);
    world.run_until("together", 10, |world| world.all_synced() && world.same_trees());

    // then
    let known = |id: u32| -> Vec<(u64, VersionKind, bool)> {
        let versions = world.replica(node(id)).file_history().versions(&path("f"), u64::MAX);
        versions.map(|version| (version.version, version.kind, version.content.is_some())).collect()
    };
    let (first, second, third) =
        ((5, VersionKind::Written, true), (3, VersionKind::Written, true), (2, VersionKind::Created, true));
    assert_eq!(known(1), [first, second, third]);
    assert_eq!(
        known(3),
        [first, (3, VersionKind::Written, false), third],
        "the content between never came here"
    );
}
