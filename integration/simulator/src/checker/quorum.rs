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
//!
//! With `last_man_standing` two rings without a common member may be quorate for want of fencing, see
//! `last_man_standing.rs`. That, and nothing else, is no violation; from then on there may be two histories.

use std::collections::BTreeMap;

use quorate_types::{NodeId, RingId};

use super::{
    Checker, Violation,
    last_man_standing::{Electorate, Electorates, Saying, needs_fencing},
};
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
    /// auto_tie_breaker: two rings that are quorate at the same moment share a member.
    Concurrent,
    /// last_man_standing, every node with one vote: the same, unless a node that was lost when expected votes
    /// fell counts in one of the two. A quorate ring has more than half of the votes it expects, and expected
    /// votes fall only to the nodes of a quorate ring, or because a member says so.
    LastManStanding,
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
    /// With last_man_standing: the nodes that are left, if not all.
    electorate: Option<Electorate>,
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
    electorates: Electorates,
    /// Two rings were quorate for want of fencing.
    has_split: bool,
}

fn violation(property: &'static str, observation: &Observation, why: String) -> Violation {
    Violation { checker: "quorum", property, what: format!("{observation}: {why}") }
}

impl QuorumChecker {
    /// A checker for nodes with these votes.
    #[must_use]
    pub fn new(rule: QuorumRule, votes: BTreeMap<NodeId, u32>) -> Self {
        Self {
            rule,
            electorates: Electorates::new(votes.values().sum()),
            votes,
            standing: BTreeMap::new(),
            all: Vec::new(),
            has_seen_others: BTreeMap::new(),
            has_split: false,
        }
    }

    /// Whether two rings without a common member were quorate at the same moment and both may have been.
    #[must_use]
    pub const fn has_split(&self) -> bool {
        self.has_split
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
            QuorumRule::LastManStanding => {
                self.check_expected(observation, &claim)?;
                let (unfenced, others): (Vec<_>, Vec<_>) = self
                    .standing
                    .iter()
                    .map(|(node, other)| (*node, other))
                    .filter(|(_, other)| are_disjoint(&claim, other))
                    .partition(|(_, other)| is_for_want_of_fencing(&claim, other));
                disjoint_from(observation, &claim, others.into_iter())?;
                self.has_split |= !unfenced.is_empty();
            }
            QuorumRule::TwoNode => self.check_wait_for_all(observation, &claim)?,
        }
        if !self.all.iter().any(|(_, other)| *other == claim) {
            self.all.push((observation.node, claim.clone()));
        }
        self.standing.insert(observation.node, claim);
        Ok(())
    }

    fn present(&self, claim: &Claim) -> u32 {
        claim.members.iter().map(|node| self.votes.get(node).copied().unwrap_or(0)).sum()
    }

    fn check_expected(&self, observation: &Observation, claim: &Claim) -> Result<(), Violation> {
        let present = self.present(claim);
        if present * 2 <= claim.expected_votes {
            let why = format!("its ring has {present} votes");
            return Err(violation(
                "P10 quorate means more than half of the expected votes",
                observation,
                why,
            ));
        }
        Ok(())
    }

    /// What a node says of itself, quorate or not: its electorate.
    fn follow(
        &mut self,
        observation: &Observation,
        saying: Saying<'_>,
    ) -> Result<Option<Electorate>, Violation> {
        if self.rule != QuorumRule::LastManStanding {
            return Ok(None);
        }
        let unfounded =
            |why: &str| violation("P10 expected votes fall to a quorate ring", observation, why.into());
        self.electorates.observe(observation.node, saying).map_err(unfounded)
    }

    fn check_majority(&self, observation: &Observation, claim: &Claim) -> Result<(), Violation> {
        let all: u32 = self.votes.values().sum();
        let present = self.present(claim);
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

fn are_disjoint(one: &Claim, other: &Claim) -> bool {
    !other.members.iter().any(|node| one.members.contains(node))
}

fn is_for_want_of_fencing(one: &Claim, other: &Claim) -> bool {
    let electorates = [&one.electorate, &other.electorate];
    electorates.into_iter().flatten().any(|left| needs_fencing(left, &one.members, &other.members))
}

fn disjoint_from<'a>(
    observation: &Observation,
    claim: &Claim,
    mut others: impl Iterator<Item = (NodeId, &'a Claim)>,
) -> Result<(), Violation> {
    let disjoint = others.find(|(_, other)| are_disjoint(claim, other));
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
                self.electorates.forget(node);
                Ok(())
            }
            Event::Quorum { quorate, ring, members, expected_votes } => {
                *self.has_seen_others.entry(node).or_default() |= members.len() > 1;
                let (quorate, ring, expected_votes) = (*quorate, *ring, *expected_votes);
                let electorate =
                    self.follow(observation, Saying { quorate, ring, members, expected_votes })?;
                if !quorate {
                    self.standing.remove(&node);
                    return Ok(());
                }
                let claim = Claim { ring, members: members.clone(), expected_votes, electorate };
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

    /// {1,2,3,4} becomes {1,2,3}, and after a window these three are all that is expected.
    fn four_become_three() -> Vec<(u32, Event)> {
        let ring_of = |seq, members: &'static [u32], expected| {
            members.iter().map(move |id| quorum(*id, true, seq, members, expected))
        };
        let mut history: Vec<_> = ring_of(5, &[1, 2, 3, 4], 4).collect();
        history.extend(ring_of(9, &[1, 2, 3], 4));
        history.push(quorum(4, false, 9, &[4], 4));
        history.extend(ring_of(9, &[1, 2, 3], 3));
        history
    }

    fn after_four_became_three(more: &[(u32, Event)]) -> (Result<(), &'static str>, bool) {
        let votes = (1..=4).map(|id| (node(id), 1)).collect();
        let mut checker = QuorumChecker::new(QuorumRule::LastManStanding, votes);
        let history = [four_become_three(), more.to_vec()].concat();
        let verdict = judge(&mut checker, &history).map_err(|violation| violation.property);
        (verdict, checker.has_split())
    }

    /// Seeds 2484, 4851, 5618, 6998.
    #[test]
    fn a_lost_node_that_meets_a_survivor_lacks_fencing_and_is_no_violation() {
        let split = [
            quorum(2, true, 13, &[2, 3], 3),
            quorum(3, true, 13, &[2, 3], 3),
            quorum(1, true, 17, &[1, 4], 3),
        ];
        assert_eq!(after_four_became_three(&split), (Ok(()), true));
        let the_lost_node_says_it = [quorum(2, true, 13, &[2, 3], 3), quorum(4, true, 17, &[1, 4], 3)];
        assert_eq!(after_four_became_three(&the_lost_node_says_it), (Ok(()), true));
        assert_eq!(after_four_became_three(&split[..2]), (Ok(()), false));
    }

    /// Seed 2591.
    #[test]
    fn lost_nodes_that_are_a_majority_of_all_lack_fencing_too() {
        let history = [
            quorum(1, true, 9, &[1, 2, 3], 5),
            quorum(1, true, 9, &[1, 2, 3], 3),
            quorum(1, true, 13, &[1, 2], 3),
            quorum(1, true, 13, &[1, 2], 2),
            (3, Event::QuorumStarted),
            quorum(3, true, 17, &[3, 4, 5], 5),
        ];
        let votes = (1..=5).map(|id| (node(id), 1)).collect();
        let mut checker = QuorumChecker::new(QuorumRule::LastManStanding, votes);
        assert_eq!(judge(&mut checker, &history).map_err(|violation| violation.property), Ok(()));
        assert!(checker.has_split());
    }

    const FALLS: Result<(), &str> = Err("P10 expected votes fall to a quorate ring");
    const TOO_FEW: Result<(), &str> = Err("P10 quorate means more than half of the expected votes");

    #[test]
    fn two_halves_are_caught_with_last_man_standing() {
        let rule = QuorumRule::LastManStanding;
        assert_eq!(verdict(rule, 4, &[quorum(1, true, 9, &[1, 2], 4)]), TOO_FEW);
        // Half of the cluster lowers what it expects, or a node says so that nobody told.
        assert_eq!(verdict(rule, 4, &[quorum(1, true, 9, &[1, 2], 2)]), FALLS);
        assert_eq!(verdict(rule, 4, &[quorum(1, true, 9, &[1, 2], 3)]), FALLS);
    }

    #[test]
    fn a_minority_of_the_survivors_is_caught() {
        let majority = quorum(1, true, 13, &[1, 2], 3);
        let alone = [majority.clone(), quorum(3, true, 17, &[3], 3)];
        assert_eq!(after_four_became_three(&alone), (TOO_FEW, false));
        let takes_itself_for_all = [majority, quorum(3, true, 17, &[3], 1)];
        assert_eq!(after_four_became_three(&takes_itself_for_all), (FALLS, false));
    }

    #[test]
    fn a_lost_node_alone_and_lost_nodes_among_themselves_are_caught() {
        assert_eq!(after_four_became_three(&[quorum(4, true, 13, &[4], 3)]), (TOO_FEW, false));
        assert_eq!(after_four_became_three(&[quorum(4, true, 13, &[4], 1)]), (FALLS, false));
    }

    #[test]
    fn once_all_are_back_all_count_again() {
        let all: Vec<_> = (1..=4).map(|id| quorum(id, true, 13, &[1, 2, 3, 4], 4)).collect();
        for half in [[2, 3], [1, 4]] {
            let split = [all.clone(), vec![quorum(half[0], true, 17, &half, 4)]].concat();
            assert_eq!(after_four_became_three(&split), (TOO_FEW, false));
            let lowered = [all.clone(), vec![quorum(half[0], true, 17, &half, 2)]].concat();
            assert_eq!(after_four_became_three(&lowered), (FALLS, false));
        }
    }

    #[test]
    fn only_a_lost_node_explains_two_rings() {
        let left: Electorate = nodes(&[1, 2, 3]).into_iter().collect();
        let is_explained = |one: &[u32], other: &[u32]| needs_fencing(&left, &nodes(one), &nodes(other));
        assert!(is_explained(&[1, 4], &[2, 3]) && is_explained(&[1, 4], &[2, 5]));
        assert!(!is_explained(&[1], &[2, 3]) && !is_explained(&[1], &[2, 4]));
    }
}
