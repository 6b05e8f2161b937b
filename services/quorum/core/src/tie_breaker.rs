//! `auto_tie_breaker`: which half of a split keeps quorum when both have the same votes.
//!
//! Differs: a tie breaker only keeps quorum that a node had before the split, it never brings it back;
//! what is left and what was lost is counted in votes, not in nodes, against the last ring that was fully
//! synchronised; an odd number of expected votes needs `wait_for_all` also when it came up at run time.
//! corosync looks at the ring just before, so the losing half becomes quorate too if the same nodes form a
//! ring once more, and a minority may win against a majority of votes in few nodes.
//!
//! And if the other half of an odd number may have won, this half does not go on with the votes of a node
//! that joined it in that moment.
//!
//! Source: votequorum(5); service specification, 3.5 and 3.6.

use std::collections::BTreeSet;

use quorate_types::NodeId;

use crate::{TieBreaker, nodes::Nodes, recalculate::majority};

/// The last synchronised ring before the present one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Before {
    pub(crate) members: BTreeSet<NodeId>,
    pub(crate) quorate: bool,
}

/// Lowest and highest node when this node was last quorate by votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extremes {
    pub(crate) lowest: NodeId,
    pub(crate) highest: NodeId,
}

impl Extremes {
    pub(crate) fn of(nodes: &Nodes) -> Option<Self> {
        let mut members = nodes.members().map(|(node, _)| node);
        let lowest = members.next()?;
        Some(Self { lowest, highest: members.next_back().unwrap_or(lowest) })
    }
}

/// What a decision needs to know.
pub(crate) struct Split<'a> {
    pub(crate) nodes: &'a Nodes,
    /// Votes present.
    pub(crate) votes: u32,
    pub(crate) quorum: u32,
    pub(crate) expected_votes: u32,
    pub(crate) wait_for_all: bool,
    /// Members of the ring.
    pub(crate) members: &'a BTreeSet<NodeId>,
    pub(crate) before: &'a Before,
    pub(crate) extremes: Option<Extremes>,
}

impl Split<'_> {
    /// Whether this part is the half that stays quorate.
    pub(crate) fn is_won(&self, rule: &TieBreaker) -> bool {
        self.is_half() && self.before.quorate && self.cannot_lose() && self.has_node(rule)
    }

    /// Half of the votes, or of an odd number the half that is one vote short; all of them were there before.
    fn is_half(&self) -> bool {
        self.votes > 0
            && self.votes == self.expected_votes / 2
            && self.votes == self.stayed_votes()
            && (self.expected_votes.is_multiple_of(2) || self.wait_for_all)
    }

    /// Whether those that were lost may have won the tie, seen from the part that has more votes: one vote
    /// more than half, some of them from nodes that were not there before. Possible with an odd number only.
    pub(crate) fn may_be_lost(&self, rule: &TieBreaker) -> bool {
        self.before.quorate
            && !self.expected_votes.is_multiple_of(2)
            && self.wait_for_all
            && self.lost_votes() == self.expected_votes / 2
            && self.stayed_votes() < majority(self.expected_votes)
            && !self.has_node(rule)
    }

    /// Those that were lost have no quorum by themselves. The floor of `quorum` may be too high for them.
    fn cannot_lose(&self) -> bool {
        self.lost_votes() < self.quorum.min(majority(self.expected_votes))
    }

    fn stayed_votes(&self) -> u32 {
        self.nodes.votes_of(self.before.members.intersection(self.members))
    }

    fn lost_votes(&self) -> u32 {
        self.nodes.votes_of(self.before.members.difference(self.members))
    }

    /// Whether the node that decides is here. A node that just joined does not decide: the other half knows
    /// nothing of it.
    fn has_node(&self, rule: &TieBreaker) -> bool {
        let was_here = |node: &NodeId| self.before.members.contains(node);
        let decides = match rule {
            TieBreaker::Lowest => self.extremes.map(|extremes| extremes.lowest).filter(was_here),
            TieBreaker::Highest => self.extremes.map(|extremes| extremes.highest).filter(was_here),
            TieBreaker::List(list) => list.iter().copied().find(was_here),
        };
        decides.is_some_and(|node| self.members.contains(&node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::NodeFlags,
        nodes::{NodeState, Record},
    };

    fn id(node: u32) -> NodeId {
        NodeId::new(node).unwrap()
    }

    fn ids(nodes: &[u32]) -> BTreeSet<NodeId> {
        nodes.iter().map(|node| id(*node)).collect()
    }

    /// Whether `part` of a quorate ring `before` stays quorate, all nodes with these votes.
    fn wins(rule: &TieBreaker, votes: &[u32], before: &[u32], part: &[u32], wait_for_all: bool) -> bool {
        let record = |votes| {
            let flags = NodeFlags::default();
            Record { state: NodeState::Member, votes, expected_votes: 0, flags }
        };
        let mut nodes = Nodes::new(id(1), record(votes[0]));
        for (votes, node) in votes.iter().zip(1..) {
            nodes.put(id(node), record(*votes));
        }
        let expected_votes = votes.iter().sum();
        let (members, before_members) = (ids(part), ids(before));
        let extremes = Extremes { lowest: id(before[0]), highest: id(before[before.len() - 1]) };
        Split {
            nodes: &nodes,
            votes: nodes.votes_of(&members),
            quorum: majority(expected_votes),
            expected_votes,
            wait_for_all,
            members: &members,
            before: &Before { members: before_members, quorate: true },
            extremes: Some(extremes),
        }
        .is_won(rule)
    }

    const FOUR: &[u32] = &[1, 1, 1, 1];
    const ALL: &[u32] = &[1, 2, 3, 4];

    #[test]
    fn the_half_with_the_lowest_or_highest_node_wins() {
        assert!(wins(&TieBreaker::Lowest, FOUR, ALL, &[1, 4], false));
        assert!(!wins(&TieBreaker::Lowest, FOUR, ALL, &[2, 3], false));
        assert!(wins(&TieBreaker::Highest, FOUR, ALL, &[1, 4], false));
        assert!(!wins(&TieBreaker::Highest, FOUR, ALL, &[1, 3], false));
    }

    #[test]
    fn less_than_half_never_wins() {
        assert!(!wins(&TieBreaker::Lowest, FOUR, ALL, &[1], false));
    }

    #[test]
    fn the_first_of_a_list_wins_and_a_later_one_only_without_it() {
        let list = TieBreaker::List(vec![id(3), id(1)]);
        assert!(wins(&list, FOUR, ALL, &[3, 4], false));
        assert!(!wins(&list, FOUR, ALL, &[1, 2], false));
        assert!(wins(&list, FOUR, &[1, 2, 4], &[1, 2], false));
        assert!(!wins(&TieBreaker::List(vec![id(9)]), FOUR, ALL, &[1, 2], false));
    }

    #[test]
    fn an_odd_number_needs_wait_for_all_and_a_minority_opposite() {
        let five = &[1, 1, 1, 1, 1];
        assert!(!wins(&TieBreaker::Lowest, five, &[1, 2, 3, 4, 5], &[1, 2], true));
        assert!(wins(&TieBreaker::Lowest, five, ALL, &[1, 2], true));
        assert!(!wins(&TieBreaker::Lowest, five, ALL, &[1, 2], false));
    }

    #[test]
    fn two_nodes_do_not_win_against_one_with_more_votes() {
        assert!(!wins(&TieBreaker::Lowest, &[1, 1, 3], &[1, 2, 3], &[1, 2], true));
    }
}
