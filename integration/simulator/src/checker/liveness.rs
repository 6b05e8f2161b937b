//! After the faults: one ring, quorate, in sync, within a bound.

use std::{collections::BTreeSet, time::Duration};

use quorate_types::{NodeId, RingId};

use super::Violation;
use crate::history::Position;

/// What a live node looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Which node.
    pub node: NodeId,
    /// The ring it is in, if it is operational.
    pub ring: Option<RingId>,
    /// The ring's members.
    pub members: Vec<NodeId>,
    /// The services have synchronised in this ring.
    pub in_sync: bool,
    /// It may act.
    pub quorate: bool,
    /// The store takes writes.
    pub writable: bool,
    /// Bytes that wait to be sent to the ring.
    pub backlog_bytes: usize,
    /// What the store holds.
    pub position: Option<Position>,
}

/// What must come true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The nodes that live and hear each other.
    pub live: BTreeSet<NodeId>,
    /// Whether they have enough votes.
    pub quorate: bool,
    /// Time they have.
    pub bound: Duration,
}

/// Checks P9 and P2.3: all live nodes share one ring of exactly them, are in sync, are quorate and
/// writable if they have the votes, and hold the same tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivenessChecker {
    expectation: Expectation,
}

impl LivenessChecker {
    /// A checker for what must come true.
    #[must_use]
    pub fn new(expectation: Expectation) -> Self {
        Self { expectation }
    }

    /// The nodes that must come together.
    #[must_use]
    pub fn live(&self) -> &BTreeSet<NodeId> {
        &self.expectation.live
    }

    /// The first thing that is not yet as it must be; `None` once all is well.
    #[must_use]
    pub fn lacks(&self, states: impl IntoIterator<Item = NodeState>) -> Option<String> {
        let live: Vec<NodeId> = self.expectation.live.iter().copied().collect();
        let mut before: Option<NodeState> = None;
        for state in states {
            let (node, first) = (state.node, before.as_ref().unwrap_or(&state));
            if state.ring.is_none() || state.ring != first.ring {
                return Some(format!("node {node} is in ring {:?}, not in {:?}", state.ring, first.ring));
            }
            if state.members != live {
                return Some(format!("the ring of node {node} has the members {:?}", state.members));
            }
            if !state.in_sync {
                return Some(format!("node {node} has not finished its synchronisation"));
            }
            if state.quorate != self.expectation.quorate {
                return Some(format!("node {node}: quorate is {}", state.quorate));
            }
            if state.writable != self.expectation.quorate {
                return Some(format!("the store of node {node}: writable is {}", state.writable));
            }
            if self.expectation.quorate && state.position != first.position {
                let (own, other) = (state.position, first.position);
                return Some(format!("the store of node {node} holds {own:?}, another {other:?}"));
            }
            before.get_or_insert(state);
        }
        None
    }

    /// The verdict at the end of the bound.
    ///
    /// # Errors
    /// The first thing that is still not as it must be.
    pub fn judge(&self, states: impl IntoIterator<Item = NodeState>) -> Result<(), Violation> {
        let Some(what) = self.lacks(states) else { return Ok(()) };
        let what = format!("{what}, {:?} after healing", self.expectation.bound);
        Err(Violation {
            checker: "liveness",
            property: "P9 one ring, quorate and in sync within the bound",
            what,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::{node, nodes, ring};

    fn checker() -> LivenessChecker {
        let live = nodes(&[1, 2]).into_iter().collect();
        LivenessChecker::new(Expectation { live, quorate: true, bound: Duration::from_secs(30) })
    }

    fn state(id: u32) -> NodeState {
        NodeState {
            node: node(id),
            ring: Some(ring(1, 5)),
            members: nodes(&[1, 2]),
            in_sync: true,
            quorate: true,
            writable: true,
            backlog_bytes: 0,
            position: Some(Position { epoch: (5, 1, 0), version: 9, checksum: 1 }),
        }
    }

    #[test]
    fn a_healed_cluster_passes() {
        assert_eq!(checker().judge([state(1), state(2)]), Ok(()));
    }

    #[test]
    fn each_thing_that_is_not_well_is_caught() {
        let broken: [fn(&mut NodeState); 6] = [
            |state| state.ring = Some(ring(2, 9)),
            |state| state.members.truncate(1),
            |state| state.in_sync = false,
            |state| state.quorate = false,
            |state| state.writable = false,
            |state| state.position = Some(Position { epoch: (5, 1, 0), version: 9, checksum: 2 }),
        ];
        for damage in broken {
            let mut two = state(2);
            damage(&mut two);
            assert!(checker().judge([state(1), two.clone()]).is_err(), "{two:?}");
        }
    }
}
