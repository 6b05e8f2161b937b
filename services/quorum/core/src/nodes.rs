//! A record for every node that was ever seen, this one among them.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::NodeId;

use crate::message::NodeFlags;

/// Where a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// A member of the ring; its votes count.
    Member,
    /// Not in the ring.
    Dead,
    /// In the ring, but leaves for good; its votes count no more.
    Leaving,
}

/// What is known about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) state: NodeState,
    pub(crate) votes: u32,
    pub(crate) expected_votes: u32,
    pub(crate) flags: NodeFlags,
}

/// The members taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) votes: u32,
    pub(crate) nodes: u32,
    pub(crate) highest_expected: u32,
}

/// All records. They are never removed: a dead node keeps its votes until it tells others.
#[derive(Debug, Clone)]
pub(crate) struct Nodes {
    me: NodeId,
    records: BTreeMap<NodeId, Record>,
}

impl Nodes {
    pub(crate) fn new(me: NodeId, own: Record) -> Self {
        Self { me, records: BTreeMap::from([(me, own)]) }
    }

    pub(crate) fn own(&self) -> &Record {
        self.records.get(&self.me).expect("the own record is there from the start and never removed")
    }

    pub(crate) fn own_mut(&mut self) -> &mut Record {
        self.records.get_mut(&self.me).expect("the own record is there from the start and never removed")
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Record> {
        self.records.get(&node)
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut Record> {
        self.records.get_mut(&node)
    }

    /// Puts a record in place of the one there was; says whether anything is different now.
    pub(crate) fn put(&mut self, node: NodeId, record: Record) -> bool {
        self.records.insert(node, record) != Some(record)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Record)> {
        self.records.iter().map(|(node, record)| (*node, record))
    }

    pub(crate) fn members(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Record)> {
        self.iter().filter(|(_, record)| record.state == NodeState::Member)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.members().fold(Tally::default(), |tally, (_, record)| Tally {
            votes: tally.votes.saturating_add(record.votes),
            nodes: tally.nodes + 1,
            highest_expected: tally.highest_expected.max(record.expected_votes),
        })
    }

    /// Votes of these nodes, wherever they are.
    pub(crate) fn votes_of<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) -> u32 {
        let votes = nodes.into_iter().filter_map(|node| self.get(*node)).map(|record| record.votes);
        votes.fold(0, u32::saturating_add)
    }

    /// Declares all others dead that are not among these.
    pub(crate) fn bury_all_but(&mut self, members: &BTreeSet<NodeId>) {
        for (node, record) in &mut self.records {
            if *node != self.me && !members.contains(node) {
                record.state = NodeState::Dead;
            }
        }
    }

    pub(crate) fn set_members_expected(&mut self, expected_votes: u32) {
        for record in self.records.values_mut().filter(|record| record.state == NodeState::Member) {
            record.expected_votes = expected_votes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: u32) -> NodeId {
        NodeId::new(node).unwrap()
    }

    fn record(votes: u32, expected_votes: u32) -> Record {
        Record { state: NodeState::Member, votes, expected_votes, flags: NodeFlags::default() }
    }

    #[test]
    fn only_members_count() {
        let mut nodes = Nodes::new(id(1), record(1, 3));
        nodes.put(id(2), record(2, 5));
        nodes.put(id(3), record(4, 9));
        nodes.bury_all_but(&[id(2)].into());

        assert_eq!(nodes.tally(), Tally { votes: 3, nodes: 2, highest_expected: 5 });
        assert_eq!(nodes.votes_of(&[id(3), id(4)]), 4);
    }

    #[test]
    fn absurd_votes_do_not_overflow() {
        let mut nodes = Nodes::new(id(1), record(u32::MAX, 1));
        nodes.put(id(2), record(u32::MAX, u32::MAX));
        assert_eq!(nodes.tally().votes, u32::MAX);
    }
}
