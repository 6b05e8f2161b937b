//! Quorum: no two sides may act.
//!
//! The property needs care. When a cluster of three splits into {1,2} and {3}, the majority forms its
//! new ring while 3 still waits for its token and believes in the old ring: for a moment
//! two sides think that they are quorate. corosync has this window and documents it
//! (issue 182); it lasts until the minority's token timeout and is why fencing waits. It is therefore no
//! violation that two *nodes* that cannot hear each other are quorate at one time. What
//! must never happen is that two *rings* with disjoint members are quorate: both sides have noticed
//! who is there, and both act. A node's claim counts with the members of the ring it was made in.
//!
//! With a plain majority of fixed votes this holds over all time, not only at one moment: any two
//! majorities intersect. [`QuorumRule`] says what is checked for the other options.

use std::collections::BTreeMap;

use quorate_types::{NodeId, RingId};

use super::{Checker, Violation};
use crate::history::{Event, Observation};

/// What the options of votequorum promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuorumRule {
    /// Fixed votes, plain majority: any two quorate rings of the whole run share a member, and each
    /// holds more than half of all votes.
    Majority,
    /// Expected votes change at run time: any two quorate rings with the same expected votes share a
    /// member.
    SameExpectedVotes,
    /// auto_tie_breaker or last_man_standing: two rings that are quorate at the same moment share a
    /// member.
    Concurrent,
    /// two_node: both nodes stay quorate when they lose each other, fencing decides. What holds is
    /// wait_for_all: a daemon that starts alone does not become quorate before it has seen the other.
    TwoNode,
}

/// A node's claim that its ring may act.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    ring: Option<RingId>,
    members: Vec<NodeId>,
    expected_votes: u32,
}

/// Checks P10.
#[derive(Debug)]
pub struct QuorumChecker {
    rule: QuorumRule,
    votes: BTreeMap<NodeId, u32>,
    /// Claims that stand now.
    standing: BTreeMap<NodeId, Claim>,
    /// Every claim there ever was.
    all: Vec<(NodeId, Claim)>,
    /// Daemons that have seen more than themselves since they started.
    has_seen_others: BTreeMap<NodeId, bool>,
}

fn violation(property: &'static str, observation: &Observation, why: String) -> Violation {
    Violation { checker: "quorum", property, what: format!("{observation}: {why}") }
}

impl QuorumChecker {
    /// A checker for nodes with these votes.
    #[must_use]
    pub fn new(rule: QuorumRule, votes: BTreeMap<NodeId, u32>) -> Self {
        Self { rule, votes, standing: BTreeMap::new(), all: Vec::new(), has_seen_others: BTreeMap::new() }
    }

    fn claim(&mut self, observation: &Observation, claim: Claim) -> Result<(), Violation> {
        match self.rule {
            QuorumRule::Majority => {
                self.check_majority(observation, &claim)?;
                disjoint_from(observation, &claim, self.all.iter().map(|(node, other)| (*node, other)))?;
            }
            QuorumRule::SameExpectedVotes => {
                let same = self.all.iter().filter(|(_, other)| other.expected_votes == claim.expected_votes);
                disjoint_from(observation, &claim, same.map(|(node, other)| (*node, other)))?;
            }
            QuorumRule::Concurrent => {
                disjoint_from(observation, &claim, self.standing.iter().map(|(node, other)| (*node, other)))?;
            }
            QuorumRule::TwoNode => self.check_wait_for_all(observation, &claim)?,
        }
        if !self.all.iter().any(|(_, other)| *other == claim) {
            self.all.push((observation.node, claim.clone()));
        }
        self.standing.insert(observation.node, claim);
        Ok(())
    }

    fn check_majority(&self, observation: &Observation, claim: &Claim) -> Result<(), Violation> {
        let of = |node: &NodeId| self.votes.get(node).copied().unwrap_or(0);
        let all: u32 = self.votes.values().sum();
        let present: u32 = claim.members.iter().map(of).sum();
        if present * 2 <= all {
            let why = format!("its ring has {present} of {all} votes");
            return Err(violation("P10 quorate means more than half", observation, why));
        }
        Ok(())
    }

    fn check_wait_for_all(&self, observation: &Observation, claim: &Claim) -> Result<(), Violation> {
        let alone = claim.members.len() < 2;
        if alone && !self.has_seen_others.get(&observation.node).copied().unwrap_or(false) {
            let why = "it has not seen the other node since it started".to_owned();
            return Err(violation("P10 wait_for_all", observation, why));
        }
        Ok(())
    }
}

fn disjoint_from<'a>(
    observation: &Observation,
    claim: &Claim,
    mut others: impl Iterator<Item = (NodeId, &'a Claim)>,
) -> Result<(), Violation> {
    let disjoint = others.find(|(_, other)| !other.members.iter().any(|node| claim.members.contains(node)));
    let Some((node, other)) = disjoint else { return Ok(()) };
    let why = format!("node {node} was quorate in {:?} with {:?}", other.ring, other.members);
    Err(violation("P10 two quorate rings share a member", observation, why))
}

impl Checker for QuorumChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        let node = observation.node;
        match &observation.event {
            Event::QuorumStarted | Event::QuorumStopped => {
                self.standing.remove(&node);
                self.has_seen_others.remove(&node);
                Ok(())
            }
            Event::Quorum { quorate, ring, members, expected_votes } => {
                *self.has_seen_others.entry(node).or_default() |= members.len() > 1;
                if !quorate {
                    self.standing.remove(&node);
                    return Ok(());
                }
                let claim = Claim { ring: *ring, members: members.clone(), expected_votes: *expected_votes };
                self.claim(observation, claim)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::{judge, node, nodes, ring};

    fn quorum(id: u32, quorate: bool, seq: u64, members: &[u32], expected_votes: u32) -> (u32, Event) {
        let ring = Some(ring(members[0], seq));
        (id, Event::Quorum { quorate, ring, members: nodes(members), expected_votes })
    }

    fn verdict(rule: QuorumRule, count: u32, history: &[(u32, Event)]) -> Result<(), &'static str> {
        let votes = (1..=count).map(|id| (node(id), 1)).collect();
        judge(&mut QuorumChecker::new(rule, votes), history).map_err(|violation| violation.property)
    }

    #[test]
    fn the_window_before_a_minority_notices_is_no_violation() {
        let history = [quorum(3, true, 5, &[1, 2, 3], 3), quorum(1, true, 9, &[1, 2], 3)];
        assert_eq!(verdict(QuorumRule::Majority, 3, &history), Ok(()));
    }

    #[test]
    fn two_quorate_rings_without_a_common_member_are_caught() {
        let history = [quorum(1, true, 9, &[1, 2], 2), quorum(3, true, 9, &[3, 4], 2)];
        let caught = Err("P10 two quorate rings share a member");
        assert_eq!(verdict(QuorumRule::SameExpectedVotes, 4, &history), caught);
        assert_eq!(verdict(QuorumRule::Concurrent, 4, &history), caught);
    }

    #[test]
    fn a_claim_that_was_given_up_does_not_count_for_the_concurrent_rule() {
        let history = [
            quorum(1, true, 9, &[1, 2], 4),
            quorum(1, false, 9, &[1, 2], 4),
            quorum(3, true, 13, &[3, 4], 4),
        ];
        assert_eq!(verdict(QuorumRule::Concurrent, 4, &history), Ok(()));
    }

    #[test]
    fn a_quorate_minority_is_caught() {
        let history = [quorum(3, true, 9, &[3], 3)];
        assert_eq!(verdict(QuorumRule::Majority, 3, &history), Err("P10 quorate means more than half"));
    }

    #[test]
    fn a_node_of_two_that_starts_alone_and_acts_is_caught() {
        let alone = [(1, Event::QuorumStarted), quorum(1, true, 5, &[1], 2)];
        assert_eq!(verdict(QuorumRule::TwoNode, 2, &alone), Err("P10 wait_for_all"));
        let after = [(1, Event::QuorumStarted), quorum(1, true, 5, &[1, 2], 2), quorum(1, true, 9, &[1], 2)];
        assert_eq!(verdict(QuorumRule::TwoNode, 2, &after), Ok(()));
    }
}
