//! Counting who has what on disk: when a position of the epoch can no longer be lost.

use std::collections::{BTreeMap, VecDeque};

use quorate_types::NodeId;

use crate::{checksum::Checksum, quorum::QuorumView};

/// How many positions back a replica can compare its checksum with another's report.
const CHECKPOINTS_MAX: usize = 4096;

/// What this replica was at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checkpoint {
    position: u64,
    version: u64,
    checksum: Checksum,
}

/// The positions of one epoch: how far this replica is, and how far the others say they have stored.
///
/// Position 0 is the activation itself, and every operation and barrier of the epoch takes the next one,
/// whether it changed the tree or was refused: an answer, too, may only be given once it is certain.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    position: u64,
    committed: Option<u64>,
    committed_version: u64,
    durable: BTreeMap<NodeId, u64>,
    checkpoints: VecDeque<Checkpoint>,
}

impl Ledger {
    /// A ledger at position 0 of a tree.
    pub(crate) fn new(version: u64, checksum: Checksum) -> Self {
        let checkpoints = VecDeque::from([Checkpoint { position: 0, version, checksum }]);
        Self { checkpoints, ..Self::default() }
    }

    /// The last position that was done.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next position.
    pub(crate) fn advance(&mut self, version: u64, checksum: Checksum) -> u64 {
        self.position += 1;
        if self.checkpoints.len() == CHECKPOINTS_MAX {
            self.checkpoints.pop_front();
        }
        self.checkpoints.push_back(Checkpoint { position: self.position, version, checksum });
        self.position
    }

    /// What this replica was at a position, unless that is too long ago.
    pub(crate) fn at(&self, position: u64) -> Option<(u64, Checksum)> {
        let first = self.checkpoints.front()?.position;
        let index = usize::try_from(position.checked_sub(first)?).ok()?;
        self.checkpoints.get(index).map(|checkpoint| (checkpoint.version, checkpoint.checksum))
    }

    /// A member says that it has stored everything up to a position.
    pub(crate) fn report(&mut self, member: NodeId, position: u64) {
        let known = self.durable.entry(member).or_default();
        *known = position.max(*known);
    }

    /// Up to which position members with enough votes have stored everything. Never goes back.
    pub(crate) fn commit(&mut self, view: &QuorumView) -> Option<u64> {
        if self.durable.values().max().copied() <= self.committed {
            return self.committed;
        }
        let mut reports: Vec<(u64, NodeId)> = self.durable.iter().map(|(node, at)| (*at, *node)).collect();
        reports.sort_unstable_by(|a, b| b.cmp(a));
        let mut votes = 0;
        for (position, node) in reports {
            votes += view.votes_of([&node]);
            if votes >= view.votes_needed() {
                self.commit_to(position.min(self.position));
                break;
            }
        }
        self.committed
    }

    /// Everything up to this position is certain.
    pub(crate) fn commit_to(&mut self, position: u64) {
        if self.committed.is_some_and(|committed| committed >= position) {
            return;
        }
        self.committed = Some(position);
        // A checkpoint that is no longer kept raises nothing: a later position will.
        if let Some((version, _)) = self.at(position) {
            self.committed_version = version;
        }
    }

    /// The last certain position; `None` before the activation itself is.
    pub(crate) fn committed(&self) -> Option<u64> {
        self.committed
    }

    /// Version of the tree at the last certain position.
    pub(crate) fn committed_version(&self) -> Option<u64> {
        self.committed.map(|_| self.committed_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::tests::{node, view};

    fn ledger(positions: u64) -> Ledger {
        let mut ledger = Ledger::new(100, Checksum::default());
        for step in 1..=positions {
            ledger.advance(100 + step, Checksum::default());
        }
        ledger
    }

    #[test]
    fn a_position_is_certain_once_a_majority_has_stored_it() {
        let view = view(3, 2, &[1, 2, 3]);
        let mut ledger = ledger(5);
        ledger.report(node(1), 5);
        assert_eq!(ledger.commit(&view), None);
        ledger.report(node(2), 3);
        assert_eq!((ledger.commit(&view), ledger.committed_version()), (Some(3), Some(103)));
        ledger.report(node(3), 4);
        assert_eq!(ledger.commit(&view), Some(4));
    }

    #[test]
    fn a_late_or_lower_report_takes_nothing_back() {
        let view = view(3, 2, &[1, 2, 3]);
        let mut ledger = ledger(5);
        ledger.report(node(1), 5);
        ledger.report(node(2), 5);
        ledger.commit(&view);
        ledger.report(node(2), 1);
        assert_eq!(ledger.commit(&view), Some(5));
    }

    #[test]
    fn votes_weigh_and_strangers_do_not() {
        let mut view = view(5, 3, &[1, 2, 3]);
        view.votes.insert(node(1), 3);
        let mut ledger = ledger(2);
        ledger.report(node(9), 2);
        ledger.report(node(2), 2);
        assert_eq!(ledger.commit(&view), None);
        ledger.report(node(1), 1);
        assert_eq!(ledger.commit(&view), Some(1));
    }

    #[test]
    fn nothing_beyond_what_was_done_here_becomes_certain() {
        let mut ledger = ledger(1);
        ledger.report(node(1), 40);
        assert_eq!(ledger.commit(&view(1, 1, &[1])), Some(1));
    }

    #[test]
    fn checkpoints_are_bounded() {
        let ledger = ledger(CHECKPOINTS_MAX as u64 + 10);
        assert_eq!(ledger.at(5), None);
        assert_eq!(ledger.at(4000).map(|(version, _)| version), Some(4100));
    }
}
