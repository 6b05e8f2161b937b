//! Callers of the store that do not give up: a write without a certain outcome is tried again, under
//! the same identity, often at another node.

use std::{collections::BTreeMap, time::Duration};

use quorate_types::NodeId;

use crate::{
    history::{Event, Outcome, WriteId},
    rng::{MILLION, Rng},
    workload::{Action, Change, Workload},
};

/// How often a write is tried at most.
const ATTEMPTS_MAX: u32 = 4;
/// Longest time until the next attempt.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// All callers.
#[derive(Debug)]
pub(super) struct Callers {
    rng: Rng,
    nodes: Vec<NodeId>,
    changes: BTreeMap<WriteId, Change>,
    /// Attempts that wait for their answer, by node.
    waiting: BTreeMap<NodeId, Vec<(WriteId, u32)>>,
}

impl Callers {
    pub(super) fn new(rng: Rng, workload: &Workload) -> Self {
        let writes = workload.actions.iter().filter_map(|(_, _, action)| match action {
            Action::Write { write, change, .. } => Some((*write, *change)),
            _ => None,
        });
        let mut nodes: Vec<NodeId> = workload.actions.iter().map(|(_, node, _)| *node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Self { rng, nodes, changes: writes.collect(), waiting: BTreeMap::new() }
    }

    /// Follows what happens; returns what a caller does next, where, and after which pause.
    pub(super) fn observe(&mut self, node: NodeId, event: &Event) -> Vec<(Duration, NodeId, Action)> {
        match event {
            Event::Submitted { write, attempt, .. } => {
                self.waiting.entry(node).or_default().push((*write, *attempt));
                Vec::new()
            }
            Event::Replied { write, attempt, outcome } => {
                let waiting = self.waiting.entry(node).or_default();
                waiting.retain(|other| *other != (*write, *attempt));
                let again = *outcome == Outcome::Unknown || self.rng.chance(MILLION / 20);
                if again { self.again(*write, *attempt).into_iter().collect() } else { Vec::new() }
            }
            Event::StoreStopped => {
                let waiting = self.waiting.remove(&node).unwrap_or_default();
                waiting.into_iter().filter_map(|(write, attempt)| self.again(write, attempt)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn again(&mut self, write: WriteId, attempt: u32) -> Option<(Duration, NodeId, Action)> {
        let change = *self.changes.get(&write)?;
        if attempt + 1 == ATTEMPTS_MAX {
            return None;
        }
        let pause = self.rng.span(Duration::ZERO, PAUSE_MAX);
        let node = *self.rng.pick(&self.nodes);
        Some((pause, node, Action::Write { write, attempt: attempt + 1, change }))
    }
}
