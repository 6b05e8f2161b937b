//! Lock directories: who may refresh one, and when one that was left behind is broken.
//! Source: pmxcfs specification, section 5 and acceptance test 8.

#![allow(clippy::unwrap_used, reason = "a test program: what is not there fails it")]

mod world;

use std::time::Duration;

use config_store_core::{LOCK_LIFETIME, Operation, OperationError, RequestError};
use quorate_types::NodeId;
use world::{World, node};

const LOCK: &str = "priv/lock/file-user_cfg";
const SECOND: Duration = Duration::from_secs(1);

fn path(text: &str) -> config_store_core::ConfigPath {
    text.parse().unwrap()
}

fn run(world: &mut World, id: NodeId, operation: Operation) -> Result<(), OperationError> {
    let request = world.fresh_id();
    let handle = world.request(id, request, operation, Duration::from_secs(5));
    world.drain();
    match world.checks.reply_of(handle).unwrap() {
        Ok(_) => Ok(()),
        Err(RequestError::Refused(error)) => Err(error.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// Three nodes, of which the first holds a lock.
fn held() -> World {
    let mut world = World::new(7, 3);
    world.run_until("all in sync", 5, World::all_synced);
    for directory in ["priv", "priv/lock", LOCK] {
        run(&mut world, node(1), Operation::Mkdir { path: path(directory) }).unwrap();
    }
    world
}

fn touch(world: &mut World, id: u32, mtime: u32) -> Result<(), OperationError> {
    run(world, node(id), Operation::SetMtime { path: path(LOCK), mtime })
}

fn is_held(world: &World) -> bool {
    world.ids().into_iter().all(|id| world.replica(id).tree().get(&path(LOCK)).is_some())
}

#[test]
fn a_lock_can_be_taken_once() {
    let mut world = held();
    let second = run(&mut world, node(2), Operation::Mkdir { path: path(LOCK) });
    assert_eq!(second, Err(OperationError::AlreadyExists { path: path(LOCK) }));
}

#[test]
fn a_lock_is_broken_when_it_is_too_old_and_not_before() {
    let mut world = held();
    world.pass(LOCK_LIFETIME - SECOND);
    assert!(matches!(touch(&mut world, 2, 0), Err(OperationError::LockHeld { .. })));
    assert!(is_held(&world));

    world.pass(2 * SECOND);
    let asked = touch(&mut world, 2, 0);

    // The request itself is refused, as ever; the lock is gone for whoever tries to take it next.
    assert!(matches!(asked, Err(OperationError::LockHeld { .. })));
    assert!(!is_held(&world) && world.same_trees());
    run(&mut world, node(2), Operation::Mkdir { path: path(LOCK) }).unwrap();
}

#[test]
fn two_who_wait_break_one_lock_and_not_the_next() {
    let mut world = held();
    world.pass(LOCK_LIFETIME + SECOND);
    let asked: Vec<u64> = [2, 3]
        .into_iter()
        .map(|id| {
            let (request, operation) = (world.fresh_id(), Operation::SetMtime { path: path(LOCK), mtime: 0 });
            world.request(node(id), request, operation, Duration::from_secs(5))
        })
        .collect();
    world.drain();
    assert!(asked.iter().all(|handle| world.checks.reply_of(*handle).unwrap().is_err()));
    assert!(!is_held(&world));

    run(&mut world, node(3), Operation::Mkdir { path: path(LOCK) }).unwrap();
    let _ = touch(&mut world, 2, 0);
    assert!(is_held(&world), "a young lock of the same name lives");
}

#[test]
fn its_holder_refreshes_a_lock_and_nobody_else() {
    let mut world = held();
    world.pass(LOCK_LIFETIME - SECOND);
    let now = world.replica(node(1)).tree().get(&path(LOCK)).unwrap().head().mtime + 119;
    assert!(matches!(touch(&mut world, 2, now), Err(OperationError::LockHeld { .. })));
    touch(&mut world, 1, now).unwrap();

    world.pass(LOCK_LIFETIME - SECOND);
    let _ = touch(&mut world, 3, 0);

    assert!(is_held(&world));
}

#[test]
fn whoever_has_not_seen_the_lock_for_long_enough_does_not_judge() {
    let mut world = held();
    world.pass(LOCK_LIFETIME + SECOND);
    world.kill_process(node(2));
    world.drain();
    world.start_process(node(2));
    world.run_until("all in sync", 30, World::all_synced);

    let _ = touch(&mut world, 2, 0);
    assert!(is_held(&world), "node 2 knows the lock for a moment only");

    let _ = touch(&mut world, 3, 0);
    assert!(!is_held(&world));
}

#[test]
fn an_ordinary_directory_is_not_a_lock() {
    let mut world = held();
    world.pass(LOCK_LIFETIME + SECOND);
    run(&mut world, node(2), Operation::SetMtime { path: path("priv"), mtime: 0 }).unwrap();
    assert!(world.replica(node(2)).tree().get(&path("priv")).is_some());
}
