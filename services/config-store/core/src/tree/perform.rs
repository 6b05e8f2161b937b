//! Performing a checked operation: nothing here can fail.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{Root, Tree, check::Plan};
use crate::{
    entry::{Entry, Head, Kind},
    log::ChangeKind,
};

/// Which part of an entry must be stored again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// Its fields only.
    Head,
    /// Fields and content.
    Content,
    /// Nothing: it is gone.
    Gone,
}

/// What a performed operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The tree's new version.
    pub version: u64,
    /// The entry that changed.
    pub inode: u64,
    /// What happened to it.
    pub kind: ChangeKind,
    /// What of it must be stored.
    pub touched: Touched,
    /// The entry that is no more: the deleted one, or the one a rename replaced.
    pub removed: Option<u64>,
}

impl Tree {
    /// `None` if the plan changes nothing.
    pub(super) fn perform(&mut self, plan: Plan, writer: u32, mtime: u32) -> Option<Effect> {
        let version = self.root.version + 1;
        if matches!(plan, Plan::Nothing) {
            return None; // no version is used up
        }
        self.root = Root { version, writer, mtime };
        let stamp = |head: Head| Head { version, writer, mtime, ..head };
        let effect = |inode, kind, touched| Effect { version, inode, kind, touched, removed: None };
        Some(match plan {
            Plan::Nothing => unreachable!("returned above"),
            Plan::Insert { parent, name, kind, content } => {
                let head = stamp(Head { inode: version, parent, name, kind, version, writer, mtime });
                self.insert_entry(Entry::new(head, content));
                effect(version, ChangeKind::Created(kind), Touched::Content)
            }
            Plan::Replace { inode, content } => {
                let old = self.take(inode);
                self.insert_entry(Entry::new(stamp(old.head().clone()), content));
                effect(inode, ChangeKind::Written, Touched::Content)
            }
            Plan::Touch { inode, mtime } => {
                let old = self.take(inode);
                let head = Head { version, writer, mtime, ..old.head().clone() };
                self.insert_entry(old.with_head(head));
                effect(inode, ChangeKind::Touched, Touched::Head)
            }
            Plan::Move { inode, parent, name, over } => {
                self.relocate(inode, parent, name, over, stamp);
                Effect { removed: over, ..effect(inode, ChangeKind::Renamed, Touched::Head) }
            }
            Plan::Remove { inode } => {
                self.take(inode);
                self.children.remove(&inode);
                Effect { removed: Some(inode), ..effect(inode, ChangeKind::Deleted, Touched::Gone) }
            }
        })
    }

    fn relocate(
        &mut self,
        inode: u64,
        parent: u64,
        name: Arc<str>,
        over: Option<u64>,
        stamp: impl Fn(Head) -> Head,
    ) {
        if let Some(over) = over {
            self.take(over);
            self.children.remove(&over);
        }
        let old = self.take(inode);
        let head = stamp(Head { parent, name, ..old.head().clone() });
        self.insert_entry(old.with_head(head));
    }

    /// Adds an entry to all indexes.
    pub(super) fn insert_entry(&mut self, entry: Entry) {
        let head = entry.head();
        let (inode, parent, name) = (head.inode, head.parent, head.name.clone());
        if head.kind == Kind::Directory {
            self.children.entry(inode).or_default();
        }
        self.children.entry(parent).or_default().insert(name, inode);
        self.bytes += entry.content().len();
        self.sum.add(entry.hash());
        self.entries.insert(inode, entry);
        if let Some(guest) = self.guest_at(inode) {
            self.guests.insert(guest.vmid, inode);
        }
    }

    /// Takes an entry out of all indexes; a directory's own list of children stays.
    pub(super) fn take(&mut self, inode: u64) -> Entry {
        if let Some(guest) = self.guest_at(inode)
            && self.guests.get(&guest.vmid) == Some(&inode)
        {
            self.guests.remove(&guest.vmid);
        }
        let entry = self.entries.remove(&inode).expect("the plan names existing entries");
        let head = entry.head();
        if let Some(siblings) = self.children.get_mut(&head.parent)
            && siblings.get(&head.name) == Some(&inode)
        {
            siblings.remove(&head.name);
        }
        self.bytes -= entry.content().len();
        self.sum.subtract(entry.hash());
        entry
    }

    /// A tree made of entries alone, for loading and for adopting another's state.
    pub(super) fn of_entries(root: Root, entries: BTreeMap<u64, Entry>) -> Self {
        let mut tree = Self { root, ..Self::new() };
        for entry in entries.values() {
            let head = entry.head();
            if head.kind == Kind::Directory {
                tree.children.entry(head.inode).or_default();
            }
            tree.children.entry(head.parent).or_default().insert(head.name.clone(), head.inode);
            tree.bytes += entry.content().len();
            tree.sum.add(entry.hash());
        }
        tree.entries = entries;
        tree
    }
}

impl Effect {
    /// What must be stored as the entry's content; `None` when the content need not be stored again.
    #[must_use]
    pub fn content(&self, tree: &Tree) -> Option<Bytes> {
        let entry = tree.entry(self.inode)?;
        (self.touched == Touched::Content && !entry.is_directory()).then(|| entry.content().clone())
    }
}
