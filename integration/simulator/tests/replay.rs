//! A seed is a run: the same events, in the same order, every time.

use simulator::{
    simulation::{Options, run},
    trace::Lines,
};

#[test]
fn a_seed_that_runs_twice_has_the_same_trace() {
    for seed in 1..=6 {
        // given, when
        let (first, second) = (run(Options::of(seed)), run(Options::of(seed)));
        // then
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        assert!(first.events > 100, "seed {seed} did something");
    }
}

#[test]
fn keeping_the_lines_does_not_change_the_run() {
    let silent = run(Options::of(7));
    let told = run(Options { lines: Lines::Tail, ..Options::of(7) });
    assert_eq!(silent.hash, told.hash);
    assert!(!told.tail.is_empty());
}

#[test]
fn different_seeds_are_different_runs() {
    let hashes: std::collections::BTreeSet<u64> = (1..=6).map(|seed| run(Options::of(seed)).hash).collect();
    assert_eq!(hashes.len(), 6);
}
