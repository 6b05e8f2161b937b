//! What readers see: every step of the tree, handed out once it can no longer be lost.
//!
//! The replica performs an operation when the group delivers it and stores it; whether it stays is known only when
//! members with enough votes have stored it too. A reader who saw it earlier would see the tree go back if the group
//! went on without it. So each step waits here, in order, until it is certain.

use std::collections::{BTreeSet, VecDeque};

use super::Replica;
use crate::{
    io::Output,
    tree::{Replacement, Step, Tree},
};

/// Steps that were performed and are not yet certain, oldest first.
#[derive(Debug, Default)]
pub(super) struct Uncertain(VecDeque<Replacement>);

impl Uncertain {
    /// An operation was performed, in these steps: `tree` is the result. Readers go from before it to after it.
    pub(super) fn performed(&mut self, tree: &Tree, steps: &[Step]) {
        let inodes: BTreeSet<u64> = steps.iter().map(|step| step.effect.inode).collect();
        let entries = inodes.iter().filter_map(|inode| tree.entry(*inode).cloned()).collect();
        let removed = steps.iter().filter_map(|step| step.effect.removed).collect();
        self.0.push_back(Replacement { root: tree.root(), entries, removed });
    }

    /// Another tree was taken over; `touched` differs between it and the one before. What waited is part of the one
    /// step that leads there, whether it is in the new tree's history or not.
    pub(super) fn replaced(&mut self, tree: &Tree, touched: impl Iterator<Item = u64>) {
        let mut inodes: BTreeSet<u64> = touched.collect();
        for step in self.0.drain(..) {
            inodes.extend(step.entries.iter().map(crate::Entry::inode));
            inodes.extend(step.removed);
        }
        let entries = inodes.iter().filter_map(|inode| tree.entry(*inode).cloned()).collect();
        let removed = inodes.into_iter().filter(|inode| tree.entry(*inode).is_none()).collect();
        self.0.push_back(Replacement { root: tree.root(), entries, removed });
    }

    fn up_to(&mut self, version: u64) -> Vec<Replacement> {
        let count = self.0.iter().take_while(|step| step.root.version <= version).count();
        self.0.drain(..count).collect()
    }
}

impl Replica {
    /// Hands out what has become certain.
    pub(super) fn hand_out_certain(&mut self) {
        let steps = self.uncertain.up_to(self.committed);
        if !steps.is_empty() {
            self.outputs.push_back(Output::Certain(steps));
        }
    }
}
