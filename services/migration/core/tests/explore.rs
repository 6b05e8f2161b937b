//! Every fault at every step of a migration: the guest ends up in one place, whole, and nothing is left behind.
//!
//! Nothing is left to chance: a run without faults is cut at each of its steps, and at each of them every fault is tried.

mod world;

use migration_core::Outcome;
use world::{FAULTS, Fault, Mutation, World, plan};

/// What a run is: disks, whether the guest runs, whether the commit is slow.
const KINDS: [(usize, bool, bool); 6] = [
    (0, true, false),
    (0, true, true),
    (2, true, false),
    (0, false, false),
    (1, false, false),
    (1, false, true),
];

/// Runs with one fault before the step; `None` if the run has fewer steps.
fn run(kind: (usize, bool, bool), fault: Fault, at: usize, mutation: Option<Mutation>) -> Option<World> {
    let mut world = World::new(plan(kind.0, kind.1), mutation);
    world.slow_commit = kind.2;
    let until = world.start + std::time::Duration::from_secs(600);
    for _ in 0..at {
        world.step(until);
        if world.outcome.is_some() {
            return None;
        }
    }
    world.inject(fault);
    world.settle();
    world.check_end(Some(fault));
    Some(world)
}

fn explore(mutation: Option<Mutation>) -> (usize, Vec<String>) {
    let (mut runs, mut violations) = (0, Vec::new());
    for kind in KINDS {
        for fault in FAULTS {
            let mut at = 0;
            while let Some(world) = run(kind, fault, at, mutation) {
                runs += 1;
                if let Some(violation) = world.violation {
                    violations.push(format!("{kind:?} {fault:?} at step {at}: {violation}"));
                }
                at += 1;
            }
        }
    }
    (runs, violations)
}

#[test]
fn after_any_fault_at_any_step_the_guest_is_whole_in_one_place() {
    let (runs, violations) = explore(None);
    assert!(runs > 300, "only {runs} runs");
    println!("{runs} runs");
    assert!(violations.is_empty(), "{} of {runs}:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn two_faults_at_any_two_steps_are_survived_too() {
    let mut violations = Vec::new();
    let mut runs = 0;
    for first in FAULTS {
        for second in [Fault::SourceDaemon, Fault::Quorum, Fault::Network, Fault::TargetDaemon] {
            for at in 0..40 {
                for gap in [0, 1, 3, 7] {
                    let mut world = World::new(plan(1, true), None);
                    let until = world.start + std::time::Duration::from_secs(600);
                    (0..at).for_each(|_| {
                        world.step(until);
                    });
                    world.inject(first);
                    (0..gap).for_each(|_| {
                        world.step(until);
                    });
                    world.inject(second);
                    world.settle();
                    world.check_end(Some(first));
                    runs += 1;
                    if let Some(violation) = world.violation {
                        violations.push(format!("{first:?} at {at}, {second:?} {gap} later: {violation}"));
                    }
                }
            }
        }
    }
    assert!(violations.is_empty(), "{} of {runs}:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn the_checks_see_what_is_built_wrong() {
    use Mutation::{CommitIsAssumed, TargetDoesNotAsk, TargetRunsByItself, VoidBindsNobody, VoidIsAssumed};
    for mutation in [TargetRunsByItself, TargetDoesNotAsk, VoidBindsNobody, VoidIsAssumed, CommitIsAssumed] {
        let (runs, violations) = explore(Some(mutation));
        assert!(!violations.is_empty(), "{mutation:?} was not noticed in {runs} runs");
        println!("{mutation:?}: {} of {runs} runs, e.g. {}", violations.len(), violations[0]);
    }
}

#[test]
fn without_a_fault_every_kind_of_guest_is_moved() {
    for kind in KINDS {
        let mut world = World::new(plan(kind.0, kind.1), None);
        world.settle();
        world.check_end(None);
        assert_eq!(world.violation, None, "{kind:?}");
        assert!(
            matches!(&world.outcome, Some(Outcome::Moved { problems, .. }) if problems.is_empty()),
            "{kind:?}"
        );
    }
}
