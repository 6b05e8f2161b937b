//! Taking over entries from elsewhere: from storage, or from the winner of a synchronisation.
//!
//! Unlike an operation this does not step the version; the result is checked as a whole instead, so that
//! nothing impossible (an orphan, a duplicate name, a duplicate VMID) becomes the tree.

use std::collections::{BTreeMap, BTreeSet};

use super::{Root, Tree};
use crate::entry::{Entry, ROOT};

/// Entries that are to be put into a tree and removed from it, and the version that results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// Version, writer and mtime of the result.
    pub root: Root,
    /// New and changed entries.
    pub entries: Vec<Entry>,
    /// Inodes to remove; those that do not exist are ignored.
    pub removed: Vec<u64>,
}

/// Why entries do not make a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// An entry's directory does not exist, is a file, or is below the entry itself.
    #[error("entry {inode} has no directory")]
    Orphan {
        /// The entry.
        inode: u64,
    },
    /// Two entries of one directory have the same name, or an entry claims the root's number.
    #[error("entry {inode} has the name or number of another one")]
    Duplicate {
        /// The entry.
        inode: u64,
    },
    /// An entry is newer than the tree, or a directory has content.
    #[error("entry {inode} contradicts itself or the tree's version")]
    Contradiction {
        /// The entry.
        inode: u64,
    },
    /// Two configurations have the same VMID.
    #[error("VMID {vmid} has two configurations")]
    DuplicateGuest {
        /// The number.
        vmid: u32,
    },
}

impl Tree {
    /// This tree with some entries replaced.
    ///
    /// # Errors
    /// [`ReplaceError`] when the result would be no valid tree.
    pub fn replaced(&self, replacement: Replacement) -> Result<Self, ReplaceError> {
        let mut entries = self.entries.clone();
        for inode in &replacement.removed {
            entries.remove(inode);
        }
        for entry in replacement.entries {
            entries.insert(entry.inode(), entry);
        }
        let mut tree = Self::of_entries(replacement.root, entries);
        tree.check_shape()?;
        tree.register_guests()?;
        Ok(tree)
    }

    fn check_shape(&self) -> Result<(), ReplaceError> {
        let mut names = BTreeSet::new();
        for entry in self.entries.values() {
            let head = entry.head();
            let inode = head.inode;
            if inode == ROOT || !names.insert((head.parent, head.name.clone())) {
                return Err(ReplaceError::Duplicate { inode });
            }
            if head.version > self.root.version || (entry.is_directory() && !entry.content().is_empty()) {
                return Err(ReplaceError::Contradiction { inode });
            }
            if head.name.contains(['/', '\0']) || matches!(head.name.as_ref(), "." | "..") {
                return Err(ReplaceError::Contradiction { inode });
            }
        }
        self.check_reachable()
    }

    /// Every entry hangs below the root: counts what a walk from the root finds.
    fn check_reachable(&self) -> Result<(), ReplaceError> {
        let mut reached = BTreeSet::new();
        let mut directories = vec![ROOT];
        while let Some(directory) = directories.pop() {
            for child in self.children(directory) {
                reached.insert(child.inode());
                if child.is_directory() {
                    directories.push(child.inode());
                }
            }
        }
        match self.entries.keys().find(|inode| !reached.contains(inode)) {
            Some(&inode) => Err(ReplaceError::Orphan { inode }),
            None => Ok(()),
        }
    }

    fn register_guests(&mut self) -> Result<(), ReplaceError> {
        let mut guests = BTreeMap::new();
        for &inode in self.entries.keys() {
            if let Some(guest) = self.guest_at(inode)
                && guests.insert(guest.vmid, inode).is_some()
            {
                return Err(ReplaceError::DuplicateGuest { vmid: guest.vmid });
            }
        }
        self.guests = guests;
        Ok(())
    }
}
