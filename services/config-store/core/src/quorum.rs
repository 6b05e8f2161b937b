//! What quorumd tells, and what a write needs: enough votes, held by members that run a replica.

use std::collections::BTreeMap;

use quorate_types::{NodeId, RingId};

/// The votes in one ring, as quorumd counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumView {
    /// The ring this is about. A view of another ring than the group's says nothing.
    pub ring: RingId,
    /// Whether the ring may act.
    pub quorate: bool,
    /// Votes of the whole cluster.
    pub expected_votes: u32,
    /// Votes that make a ring quorate.
    pub quorum: u32,
    /// Votes of the ring's members. (A quorum device's vote is not listed: it holds no copy.)
    pub votes: BTreeMap<NodeId, u32>,
    /// Configured nodes that are not in the ring, for the operator.
    pub absent: Vec<NodeId>,
}

impl QuorumView {
    /// Votes that must hold a write on disk before it is acknowledged: a majority of the expected ones,
    /// or all that are present where fewer suffice (`two_node`, an override by the operator).
    #[must_use]
    pub fn votes_needed(&self) -> u32 {
        let present: u32 = self.votes.values().sum();
        present.min(self.expected_votes / 2 + 1).max(1)
    }

    /// Votes of these members.
    #[must_use]
    pub fn votes_of<'a>(&self, members: impl IntoIterator<Item = &'a NodeId>) -> u32 {
        members.into_iter().filter_map(|member| self.votes.get(member)).sum()
    }

    /// Whether these members, which run a replica, may write together.
    ///
    /// # Errors
    /// [`Shortfall`] when the ring is not quorate, or too few of its members run a replica.
    pub fn check(&self, replicas: &[NodeId]) -> Result<(), Shortfall> {
        let votes_present = self.votes_of(replicas);
        let votes_needed = self.votes_needed().max(if self.quorate { 1 } else { self.quorum });
        if self.quorate && votes_present >= votes_needed {
            return Ok(());
        }
        let without_replica = self.votes.keys().filter(|node| !replicas.contains(node));
        Err(Shortfall {
            votes_present,
            votes_needed,
            expected_votes: self.expected_votes,
            absent: self.absent.clone(),
            without_replica: without_replica.copied().collect(),
            forgot: Vec::new(),
        })
    }
}

/// Why nothing can be written: the arithmetic, and who is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
#[error("not quorate: replicas with {votes_present} of {expected_votes} votes, {votes_needed} needed")]
pub struct Shortfall {
    /// Votes of the members that run a replica.
    pub votes_present: u32,
    /// Votes that are needed; 0 when nothing is known of the votes.
    pub votes_needed: u32,
    /// Votes of the whole cluster; 0 when unknown.
    pub expected_votes: u32,
    /// Configured nodes that are not in the ring.
    pub absent: Vec<NodeId>,
    /// Nodes of the ring that run no replica.
    pub without_replica: Vec<NodeId>,
    /// Nodes whose disk is new: what they once acknowledged, only those that are away may have.
    pub forgot: Vec<NodeId>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    pub(crate) fn view(expected: u32, quorum: u32, present: &[u32]) -> QuorumView {
        let votes: BTreeMap<NodeId, u32> = present.iter().map(|id| (node(*id), 1)).collect();
        QuorumView {
            ring: RingId { rep: present[0], seq: 4 },
            quorate: votes.len() as u32 >= quorum,
            expected_votes: expected,
            quorum,
            votes,
            absent: (1..=expected).filter(|id| !present.contains(id)).map(node).collect(),
        }
    }

    #[test]
    fn a_write_needs_a_majority_of_the_expected_votes() {
        for (expected, quorum, present, needed) in [
            (1, 1, &[1][..], 1),
            (2, 1, &[1, 2], 2),
            (2, 1, &[1], 1),
            (3, 2, &[1, 2, 3], 2),
            (3, 2, &[1, 2], 2),
            (4, 3, &[1, 2, 3, 4], 3),
            (5, 3, &[1, 2, 3, 4, 5], 3),
            (5, 1, &[1, 2], 2),
        ] {
            assert_eq!(view(expected, quorum, present).votes_needed(), needed, "{expected} {present:?}");
        }
    }

    #[test]
    fn a_quorate_ring_with_too_few_replicas_cannot_write() {
        let view = view(3, 2, &[1, 2, 3]);
        assert_eq!(view.check(&[node(1), node(3)]), Ok(()));
        let shortfall = view.check(&[node(1)]).unwrap_err();
        assert_eq!((shortfall.votes_present, shortfall.votes_needed), (1, 2));
        assert_eq!(shortfall.without_replica, [node(2), node(3)]);
    }

    #[test]
    fn a_minority_is_told_what_is_missing() {
        let shortfall = view(4, 3, &[1, 2]).check(&[node(1), node(2)]).unwrap_err();
        assert_eq!((shortfall.votes_present, shortfall.votes_needed), (2, 3));
        assert_eq!(shortfall.absent, [node(3), node(4)]);
        let text = shortfall.to_string();
        assert_eq!(text, "not quorate: replicas with 2 of 4 votes, 3 needed");
    }
}
