//! Against the definition, and against known ways to be wrong.

use proptest::prelude::*;

use super::{brute, generate::*, *};

/// Builds histories: each line is one operation.
struct Story(Vec<Operation>);

impl Story {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn then(mut self, span: std::ops::Range<u64>, call: Call, answer: Answer) -> Self {
        let id = self.0.len() as u64;
        self.0.push(Operation { id, invoked: span.start, returned: span.end, call, answer });
        self
    }

    fn put(self, span: std::ops::Range<u64>, value: u64, version: u64) -> Self {
        let call = Call::Put { expect: Expect::Any, value };
        self.then(span, call, Answer::Done { version: Some(version) })
    }

    fn swap(self, span: std::ops::Range<u64>, expected: u64, value: u64, answer: Answer) -> Self {
        self.then(span, Call::Put { expect: Expect::Version(expected), value }, answer)
    }

    fn unknown(self, start: u64, value: u64) -> Self {
        self.then(start..start, Call::Put { expect: Expect::Any, value }, Answer::Unknown)
    }

    fn delete(self, span: std::ops::Range<u64>, answer: Answer) -> Self {
        self.then(span, Call::Delete { expect: Expect::Any }, answer)
    }

    fn get(self, span: std::ops::Range<u64>, value: u64, version: u64) -> Self {
        self.then(span, Call::Get, Answer::Found { value, version: Some(version) })
    }

    fn missing(self, span: std::ops::Range<u64>) -> Self {
        self.then(span, Call::Get, Answer::Missing)
    }

    /// The operations that show the flaw, in order.
    fn flaw(&self) -> Vec<u64> {
        let mut operations = check(&self.0).expect_err("it is wrong").operations();
        operations.sort_unstable();
        operations
    }

    fn is_right(&self) -> bool {
        let right = check(&self.0).is_ok();
        assert_eq!(right, brute::is_linearizable(&self.0), "{:?}", check(&self.0));
        right
    }
}

fn done(version: u64) -> Answer {
    Answer::Done { version: Some(version) }
}

#[test]
fn what_overlaps_may_take_effect_in_either_order() {
    let story = Story::new().put(0..10, 1, 2).put(5..15, 2, 3).get(6..7, 1, 2).get(8..20, 2, 3);
    assert!(story.is_right());
}

#[test]
fn a_stale_read_is_rejected_with_the_write_that_it_missed() {
    let story = Story::new().put(0..1, 1, 2).put(2..3, 2, 3).get(4..5, 1, 2);
    assert_eq!(story.flaw(), [0, 1, 2]);
}

#[test]
fn a_stale_absence_is_rejected() {
    let story = Story::new().missing(0..1).put(2..3, 1, 2).missing(4..5);
    assert_eq!(story.flaw(), [1, 2]);
}

#[test]
fn a_lost_update_is_rejected() {
    // Both replaced the same version.
    let story = Story::new().put(0..1, 1, 2).swap(2..9, 2, 2, done(3)).swap(3..8, 2, 3, done(4));
    assert_eq!(story.flaw(), [0, 1, 2]);
}

#[test]
fn a_value_that_comes_back_after_its_deletion_is_rejected() {
    let story = Story::new().put(0..1, 1, 2).delete(2..3, done(3)).missing(4..5).get(6..7, 1, 2);
    assert!(story.flaw().contains(&3));
    assert!(!story.is_right());
}

#[test]
fn a_value_that_comes_back_after_another_is_rejected_without_versions_too() {
    let mut story = Story::new().put(0..1, 1, 2).put(2..3, 2, 3).get(4..5, 2, 3).get(6..7, 1, 2);
    for operation in &mut story.0 {
        match &mut operation.answer {
            Answer::Done { version } | Answer::Found { version, .. } => *version = None,
            _ => {}
        }
    }
    assert!(story.flaw().contains(&3));
    assert!(!story.is_right());
}

#[test]
fn two_histories_are_rejected() {
    // Each side of a split went on with the version that it had.
    let story = Story::new().put(0..1, 1, 2).put(2..3, 2, 3).put(4..5, 3, 3);
    assert_eq!(story.flaw(), [1, 2]);
}

#[test]
fn versions_that_go_back_in_time_are_rejected() {
    assert_eq!(Story::new().put(0..1, 1, 5).put(2..3, 2, 4).flaw(), [0, 1]);
}

#[test]
fn a_dirty_read_is_rejected_once_what_it_read_is_known_to_be_lost() {
    // Value 2 was seen, but then 1 is still there: what was read was never certain.
    let story = Story::new().put(0..1, 1, 2).unknown(2, 2).get(3..4, 2, 3).get(5..6, 1, 2);
    assert!(story.flaw().contains(&3));
    assert!(!story.is_right());
}

#[test]
fn a_write_of_unknown_outcome_happens_late_or_never() {
    let base = || Story::new().put(0..1, 1, 2).unknown(2, 2).get(3..4, 1, 2);
    assert!(base().is_right());
    assert!(base().get(5..6, 2, 3).is_right());
    assert!(!base().get(5..6, 2, 3).get(7..8, 1, 2).is_right());
}

#[test]
fn a_deletion_of_unknown_outcome_explains_an_absence_once() {
    let base = || {
        let unknown = Story::new().put(0..1, 1, 2).delete(2..2, Answer::Unknown);
        unknown.get(3..4, 1, 2).missing(5..6)
    };
    assert!(base().is_right());
    assert!(base().put(7..8, 2, 5).get(9..10, 2, 5).is_right());
    assert!(!base().put(7..8, 2, 5).missing(9..10).is_right());
}

#[test]
fn a_write_that_nobody_saw_explains_a_refusal() {
    let create =
        |story: Story| story.then(5..6, Call::Put { expect: Expect::Absent, value: 9 }, Answer::Unexpected);
    assert!(create(Story::new().unknown(0, 1)).is_right());
    assert!(!create(Story::new()).is_right());
    assert!(!create(Story::new().unknown(7, 1)).is_right());
}

#[test]
fn a_refused_write_that_is_read_is_rejected_with_both() {
    let refused = Story::new().then(0..1, Call::Put { expect: Expect::Any, value: 1 }, Answer::Refused);
    assert_eq!(refused.get(2..3, 1, 2).flaw(), [0, 1]);
}

#[test]
fn a_value_from_nowhere_or_from_the_future_is_rejected() {
    assert_eq!(check(&Story::new().get(0..1, 7, 2).0), Err(Flaw::NeverWritten { operation: 0, value: 7 }));
    let early = Story::new().get(0..1, 7, 2).put(2..3, 7, 2);
    assert_eq!(check(&early.0), Err(Flaw::FromTheFuture { operation: 0, writer: 1 }));
}

#[test]
fn one_write_has_one_version() {
    let story = Story::new().put(0..1, 1, 2).get(2..3, 1, 4);
    assert!(matches!(check(&story.0), Err(Flaw::SeveralVersions { writer: 0, version: 2, operation: 1 })));
}

#[test]
fn an_acknowledged_write_that_is_gone_at_the_end_is_rejected() {
    let story = Story::new().put(0..1, 1, 2).put(2..3, 2, 3).get(2..9, 1, 2).get(10..11, 1, 2);
    assert!(story.flaw().contains(&3));
}

/// Takes one answer of a right history and makes it wrong, so that no order can explain it.
fn break_it(history: &mut [Operation]) -> bool {
    let newest = history.iter().filter_map(|operation| match operation.answer {
        Answer::Done { .. } if matches!(operation.call, Call::Put { .. }) => Some(operation.returned),
        _ => None,
    });
    let Some(last) = newest.max() else { return false };
    let oldest = history.iter().find_map(|operation| match (operation.call, operation.answer) {
        (Call::Put { value, .. }, Answer::Done { version }) if operation.returned < last => {
            Some((value, version))
        }
        _ => None,
    });
    let Some((value, version)) = oldest else { return false };
    let victim = history.iter_mut().find(|operation| {
        operation.call == Call::Get
            && operation.invoked > last
            && !matches!(operation.answer, Answer::Found { value: found, .. } if found == value)
    });
    victim.map(|operation| operation.answer = Answer::Found { value, version }).is_some()
}

#[test]
fn a_hundred_thousand_operations_are_judged_with_few_states() {
    for (operations, versions, unknown_one_in) in
        [(100_000, true, 100), (20_000, true, 10), (20_000, false, 50)]
    {
        let usage = Usage { operations, clients: 8, unknown_one_in, versions };
        let mut history = of_a_register(7, usage);
        let effort = check(&history).expect("a right register");
        assert!(effort.states_max < 5_000, "{effort:?}");
        if break_it(&mut history) {
            assert!(matches!(check(&history), Err(Flaw::NoOrder { .. })));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn small_histories_of_any_kind_are_judged_as_by_the_definition(history in anything()) {
        let verdict = check(&history);
        prop_assert_eq!(verdict.is_ok(), brute::is_linearizable(&history), "{:?}", verdict);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn small_histories_of_a_register_are_right_and_one_wrong_answer_is_noticed(
        seed: u64,
        versions: bool,
    ) {
        let usage = Usage { operations: 8, clients: 3, unknown_one_in: 4, versions };
        let mut history = of_a_register(seed, usage);
        prop_assert!(brute::is_linearizable(&history));
        prop_assert_eq!(check(&history).map(|effort| effort.operations), Ok(8));
        if break_it(&mut history) {
            prop_assert_eq!(check(&history).is_ok(), brute::is_linearizable(&history));
        }
    }

    #[test]
    fn longer_histories_of_a_register_are_right(seed: u64, clients in 1_u64..12, versions: bool) {
        let usage = Usage { operations: 300, clients, unknown_one_in: 6, versions };
        let history = of_a_register(seed, usage);
        prop_assert!(check(&history).is_ok(), "{:?}", check(&history));
    }
}
