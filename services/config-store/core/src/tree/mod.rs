//! The memdb: the whole tree in memory, with the rules of inode, version, writer and mtime.
//!
//! - One version for the tree, one more with every successful operation; an empty tree has version 1.
//! - A new entry's inode is the version that made it.
//! - A refused operation changes nothing.
//!
//! An operation is checked first (`check.rs`: all rules, no change) and then performed (`perform.rs`:
//! no rule, cannot fail), so every replica refuses or performs the same. Of a transaction each operation is checked
//! on what the ones before it made; a refusal takes those back (`transact.rs`). Source: pmxcfs specification,
//! sections 3 and 6.

mod check;
mod error;
mod follow;
mod perform;
mod replace;
mod transact;

use std::{collections::BTreeMap, sync::Arc};

pub use error::OperationError;
pub use follow::{Place, Touch};
pub use perform::{Effect, Touched};
pub use replace::{ReplaceError, Replacement};
pub use transact::Step;

use crate::{
    checksum::Checksum,
    entry::{Entry, Kind, ROOT},
    guest::GuestConfig,
    path::ConfigPath,
};

/// Version of an empty tree. Source: pmxcfs specification, section 3.3.
pub const EMPTY_VERSION: u64 = 1;
/// Largest file in bytes. Source: pmxcfs specification, section 3.
pub const FILE_MAX: usize = 1024 * 1024;
/// Most bytes in all files together. Source: pmxcfs specification, section 3.
pub const TREE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most entries, the root not counted. Source: pmxcfs specification, section 3.
pub const ENTRIES_MAX: usize = 262_144;
/// The directory whose subdirectories are locks.
pub const LOCK_DIRECTORY: &str = "priv/lock";

/// Version, writer and mtime of the last operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// The tree's version.
    pub version: u64,
    /// Node id of who changed the tree last; 0 stand-alone.
    pub writer: u32,
    /// The writer's clock at that time, whole UTC seconds.
    pub mtime: u32,
}

/// The replicated tree.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Root,
    entries: BTreeMap<u64, Entry>,
    children: BTreeMap<u64, BTreeMap<Arc<str>, u64>>,
    guests: BTreeMap<u32, u64>,
    bytes: usize,
    sum: Checksum,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// An empty tree of version 1.
    #[must_use]
    pub fn new() -> Self {
        Self {
            root: Root { version: EMPTY_VERSION, writer: 0, mtime: 0 },
            entries: BTreeMap::new(),
            children: BTreeMap::from([(ROOT, BTreeMap::new())]),
            guests: BTreeMap::new(),
            bytes: 0,
            sum: Checksum::default(),
        }
    }

    /// Version, writer and mtime of the last operation.
    #[must_use]
    pub fn root(&self) -> Root {
        self.root
    }

    /// The tree's version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.root.version
    }

    /// How many entries there are, the root not counted.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes all files hold together.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.bytes
    }

    /// The sum of all entries' hashes and the root's: equal on replicas of the same history.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        let mut sum = self.sum;
        let mut root = [0; 32];
        root[..8].copy_from_slice(&self.root.version.to_le_bytes());
        root[8..12].copy_from_slice(&self.root.writer.to_le_bytes());
        root[12..16].copy_from_slice(&self.root.mtime.to_le_bytes());
        sum.add(&root);
        sum
    }

    /// The entry with this inode; `None` for the root too.
    #[must_use]
    pub fn entry(&self, inode: u64) -> Option<&Entry> {
        self.entries.get(&inode)
    }

    /// The entry at this path; `None` for the root too.
    #[must_use]
    pub fn get(&self, path: &ConfigPath) -> Option<&Entry> {
        self.entry(self.resolve(path).ok()?)
    }

    /// The entry called `name` in a directory.
    #[must_use]
    pub fn child(&self, directory: u64, name: &str) -> Option<&Entry> {
        self.entry(*self.children.get(&directory)?.get(name)?)
    }

    /// The inode at this path; [`ROOT`] for the root.
    ///
    /// # Errors
    /// [`OperationError::NotFound`] or [`OperationError::NotADirectory`], with the part that is missing
    /// or no directory.
    pub fn resolve(&self, path: &ConfigPath) -> Result<u64, OperationError> {
        let mut inode = ROOT;
        let mut walked = ConfigPath::root();
        for name in path.names() {
            let Some(children) = self.children.get(&inode) else {
                return Err(OperationError::NotADirectory { path: walked });
            };
            walked = walked.join(name).expect("a name of a valid path");
            inode = *children.get(name).ok_or_else(|| OperationError::NotFound { path: walked.clone() })?;
        }
        Ok(inode)
    }

    /// The path of an entry; `None` if there is no such entry.
    #[must_use]
    pub fn path_of(&self, inode: u64) -> Option<ConfigPath> {
        let mut names = Vec::new();
        let mut at = inode;
        while at != ROOT {
            let head = self.entry(at)?.head();
            names.push(head.name.as_ref());
            at = head.parent;
        }
        names.reverse();
        names.join("/").parse().ok()
    }

    /// The entries of a directory, by name; none if it is no directory.
    pub fn children(&self, directory: u64) -> impl Iterator<Item = &Entry> {
        let inodes = self.children.get(&directory).into_iter().flat_map(BTreeMap::values);
        inodes.filter_map(|inode| self.entry(*inode))
    }

    /// All entries, by inode.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.values()
    }

    /// All guests by VMID, each with the inode of its configuration.
    #[must_use]
    pub fn guests(&self) -> &BTreeMap<u32, u64> {
        &self.guests
    }

    fn is_empty_directory(&self, inode: u64) -> bool {
        self.children.get(&inode).is_some_and(BTreeMap::is_empty)
    }

    fn guest_at(&self, inode: u64) -> Option<GuestConfig> {
        let entry = self.entry(inode)?;
        if entry.head().kind != Kind::File {
            return None;
        }
        GuestConfig::of(&self.path_of(inode)?)
    }
}

#[cfg(test)]
mod tests;
