//! Among whom expected votes are counted, with `last_man_standing`.
//!
//! A window after nodes were lost those that are left become the *electorate*: more than half of them is a
//! quorum from then on. votequorum takes it for granted that those that were lost are fenced. It counts votes
//! and does not remember whose: a lost node that meets a survivor votes in the place of the one that is missing,
//! and lost nodes that meet again may be a majority of what was expected before. Both can be a second primary;
//! corosync's engine does the same with the same messages (service specification, 3.4, 3.5 and 3.7), and the
//! truth table `last_man_standing.txt` of quorum-core has it as a case.
//!
//! This file follows the electorate of each node from what the nodes say, so that exactly this is told from a
//! node that forgets votes.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{NodeId, RingId};

/// Nodes among which expected votes are counted.
pub(super) type Electorate = BTreeSet<NodeId>;

/// What a node said last.
#[derive(Debug, Clone)]
struct Known {
    quorate: bool,
    ring: Option<RingId>,
    members: Vec<NodeId>,
    expected_votes: u32,
    /// `None`: all nodes.
    electorate: Option<Electorate>,
}

/// What a node says now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saying<'a> {
    pub(super) quorate: bool,
    pub(super) ring: Option<RingId>,
    pub(super) members: &'a [NodeId],
    pub(super) expected_votes: u32,
}

/// The electorates of all nodes. Every node has one vote, as `last_man_standing` demands.
#[derive(Debug, Default)]
pub(super) struct Electorates {
    all_votes: u32,
    known: BTreeMap<NodeId, Known>,
    /// Those that a window left, oldest first.
    left: Vec<Electorate>,
}

impl Electorates {
    pub(super) fn new(all_votes: u32) -> Self {
        Self { all_votes, ..Self::default() }
    }

    /// The quorum engine of this node begins anew, and expects all votes.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.known.remove(&node);
    }

    /// Takes what a node says; `None` for all nodes, otherwise its electorate.
    ///
    /// # Errors
    /// It expects a number of votes that it cannot have from anywhere.
    pub(super) fn observe(
        &mut self,
        node: NodeId,
        saying: Saying<'_>,
    ) -> Result<Option<Electorate>, &'static str> {
        let electorate = self.electorate(node, saying)?;
        let Saying { quorate, ring, members, expected_votes } = saying;
        let members = members.to_vec();
        let known = Known { quorate, ring, members, expected_votes, electorate: electorate.clone() };
        self.known.insert(node, known);
        Ok(electorate)
    }

    fn electorate(&mut self, node: NodeId, now: Saying<'_>) -> Result<Option<Electorate>, &'static str> {
        let expected = now.expected_votes;
        if expected >= self.all_votes {
            return Ok(None);
        }
        let before = self.known.get(&node);
        if let Some(before) = before.filter(|before| before.expected_votes == expected) {
            return Ok(before.electorate.clone());
        }
        let is_in_place = before.is_some_and(|before| {
            before.quorate && now.quorate && before.ring == now.ring && before.members == now.members
        });
        let was_lower = before.is_some_and(|before| before.expected_votes < expected);
        // A window does not end but in a ring that was quorate by what was expected before.
        let expected_before = before.map_or(self.all_votes, |before| before.expected_votes);
        let may_fall = was_lower || now.members.len() * 2 > expected_before as usize;
        let of_all_present = (now.quorate && may_fall && now.members.len() == expected as usize)
            .then(|| now.members.iter().copied().collect::<Electorate>());
        let told = || self.told_by_a_member(node, now);
        // A window ends in a ring that stays as it is; more nodes than were expected expect themselves.
        // Otherwise a node believes those that were quorate when they met.
        let electorate =
            if is_in_place || was_lower { of_all_present.or_else(told) } else { told().or(of_all_present) };
        // A ring that broke before it was synchronised may have told it, too.
        let electorate = electorate
            .or_else(|| self.left.iter().rev().find(|left| left.len() == expected as usize).cloned());
        let electorate = electorate.ok_or("nobody lowered expected votes to that")?;
        if !self.left.contains(&electorate) {
            self.left.push(electorate.clone());
        }
        Ok(Some(electorate))
    }

    fn told_by_a_member(&self, node: NodeId, now: Saying<'_>) -> Option<Electorate> {
        let others = now.members.iter().filter(|member| **member != node);
        let known = others.filter_map(|member| self.known.get(member));
        known.filter(|known| known.expected_votes == now.expected_votes).find_map(|it| it.electorate.clone())
    }
}

/// Whether it is for want of fencing that these disjoint rings are both quorate: in the eyes of an electorate
/// that has fewer nodes than the cluster each of the two has a majority, or counts a lost node.
pub(super) fn needs_fencing(electorate: &Electorate, one: &[NodeId], other: &[NodeId]) -> bool {
    let is_explained = |ring: &[NodeId]| {
        let survivors = ring.iter().filter(|node| electorate.contains(node)).count();
        survivors * 2 > electorate.len() || survivors < ring.len()
    };
    is_explained(one) && is_explained(other)
}
