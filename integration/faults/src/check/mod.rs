//! The judgement of a record: pure functions from events to problems.

pub mod end;
mod files;
pub mod local;
pub mod lock;
pub mod watch;

use std::{collections::BTreeMap, fmt};

pub use files::{Files, Write};

use crate::{
    linear::{self, Answer, Effort},
    record::Event,
};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The property that does not hold.
    pub property: &'static str,
    /// With names and numbers.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

/// What a record proves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// All that is wrong.
    pub problems: Vec<Problem>,
    /// What was judged.
    pub summary: Summary,
}

/// How much was judged: a run in which nothing succeeded proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Writes that took effect for sure.
    pub done: usize,
    /// Writes that had no effect for sure.
    pub refused: usize,
    /// Writes of which nobody knows.
    pub unknown: usize,
    /// Linearizable reads that were answered.
    pub fresh_reads: usize,
    /// Reads of a replica that were answered.
    pub local_reads: usize,
    /// Changes that watchers were told.
    pub changes: usize,
    /// Times that a lock was held.
    pub held: usize,
    /// Most states of a register at one moment.
    pub states_max: usize,
    /// What a replica showed and then, as it was nobody's, no longer.
    pub rolled_back: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, refused, unknown, fresh_reads, local_reads, changes, held, states_max, rolled_back } =
            self;
        write!(
            f,
            "writes: {done} done, {refused} without effect, {unknown} unknown; reads: {fresh_reads} linearizable, \
             {local_reads} local ({rolled_back} of what was nobody's and then gone); {changes} changes watched; \
             {held} locks held; at most {states_max} states of a file at a time"
        )
    }
}

/// Judges everything.
#[must_use]
pub fn judge(events: &[Event]) -> Verdict {
    let mut verdict = Verdict::default();
    count(events, &mut verdict.summary);
    let files = Files::of(events);
    linearizable(events, &mut verdict);
    let (problems, rolled_back) = local::check(events, &files);
    verdict.problems.extend(problems);
    verdict.summary.rolled_back = rolled_back;
    verdict.problems.extend(watch::check(events, &files));
    verdict.problems.extend(lock::check(events));
    verdict.problems.extend(end::check(events));
    verdict
}

fn count(events: &[Event], summary: &mut Summary) {
    for event in events {
        match event {
            Event::Called(called) => match (&called.local, called.answer) {
                (None, Answer::Done { .. }) => summary.done += 1,
                (None, Answer::Found { .. }) => summary.fresh_reads += 1,
                (Some(_), Answer::Found { .. } | Answer::Missing) => summary.local_reads += 1,
                (None, Answer::Missing) if called.call == linear::Call::Get => summary.fresh_reads += 1,
                (None, Answer::Missing | Answer::Unexpected | Answer::Refused) => summary.refused += 1,
                (None, Answer::Unknown) if called.call != linear::Call::Get => summary.unknown += 1,
                _ => {}
            },
            Event::Watched(watched) => summary.changes += watched.changes.len(),
            Event::Held(_) => summary.held += 1,
            _ => {}
        }
    }
}

/// Judges every file by itself.
fn linearizable(events: &[Event], verdict: &mut Verdict) {
    let mut by_path: BTreeMap<&str, Vec<linear::Operation>> = BTreeMap::new();
    for event in events {
        if let Event::Called(called) = event
            && let Some(operation) = called.operation()
        {
            by_path.entry(&called.path).or_default().push(operation);
        }
    }
    for (path, history) in by_path {
        match linear::check(&history) {
            Ok(Effort { states_max, .. }) => {
                verdict.summary.states_max = verdict.summary.states_max.max(states_max);
            }
            Err(flaw) => {
                let told = flaw.operations().into_iter().filter_map(|id| tell(events, id));
                let what = format!("{path}: {flaw}\n{}", told.collect::<Vec<_>>().join("\n"));
                verdict.problems.push(Problem { property: "linearizability", what });
            }
        }
    }
}

/// A call in one line.
fn tell(events: &[Event], id: u64) -> Option<String> {
    let called = events.iter().find_map(|event| match event {
        Event::Called(called) if called.id == id => Some(called),
        _ => None,
    })?;
    let ms = |time: u64| time as f64 / 1e6;
    Some(format!(
        "    {id}: {} at {}, {:.3} to {:.3} ms: {:?} -> {:?}",
        called.client,
        called.node,
        ms(called.invoked),
        ms(called.returned),
        called.call,
        called.answer
    ))
}
