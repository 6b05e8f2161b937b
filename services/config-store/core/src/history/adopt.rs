//! Another replica's state was taken over: what of the past stays, and what is learned.

use std::collections::{BTreeMap, BTreeSet};

use super::{FileVersion, History, KeptContent, VersionKind, same_content};
use crate::{
    batch::BatchBuilder,
    entry::{Entry, Kind},
    log::{Change, ChangeKind, Record},
    path::ConfigPath,
    tree::Tree,
};

/// A tree that replaced another one.
pub(crate) struct Adopted<'a> {
    /// The tree before.
    pub(crate) old: &'a Tree,
    /// The tree now.
    pub(crate) new: &'a Tree,
    /// Inodes that differ.
    pub(crate) touched: Vec<u64>,
    /// The last version that both histories have.
    pub(crate) common: u64,
}

impl Adopted<'_> {
    fn files(&self, tree: &Tree) -> Vec<(ConfigPath, Entry)> {
        let files =
            self.touched.iter().filter_map(|inode| tree.entry(*inode)).filter(|entry| !entry.is_directory());
        files.filter_map(|entry| Some((tree.path_of(entry.inode())?, entry.clone()))).collect()
    }
}

impl History {
    /// Takes note of it: what came after the common version in the history that was left is forgotten (its conflict copy
    /// has it), what is past of the common one stays, and what happened since is learned from the records.
    pub(crate) fn adopted(
        &mut self,
        builder: &mut BatchBuilder,
        adopted: &Adopted<'_>,
        records: impl Iterator<Item = Record>,
    ) {
        let (old, new) = (adopted.files(adopted.old), adopted.files(adopted.new));
        let mut paths: BTreeSet<ConfigPath> = self.forget_after(builder, adopted.common);
        paths.extend(old.iter().chain(&new).map(|(path, _)| path.clone()));
        for (path, entry) in old.iter().filter(|(_, entry)| entry.head().version <= adopted.common) {
            self.ensure(builder, path, entry);
        }
        for (_, entry) in &old {
            let stays = adopted.new.entry(entry.inode()).is_some_and(|now| same_content(now, entry));
            if !stays {
                self.leave(builder, entry);
            }
        }
        new.iter().for_each(|(_, entry)| self.enter(entry));
        self.learn(builder, adopted, records);
        paths.iter().for_each(|path| self.reconcile(builder, adopted.new, path));
        self.prune(builder);
    }

    /// Removes records above a version; returns their paths, whose records before are the present ones again.
    fn forget_after(&mut self, builder: &mut BatchBuilder, version: u64) -> BTreeSet<ConfigPath> {
        let above = self.items.keys().filter(|(_, of)| *of > version).cloned();
        let above: Vec<(ConfigPath, u64)> = above.collect();
        above.iter().for_each(|(path, version)| self.remove(builder, path, *version));
        let paths: BTreeSet<ConfigPath> = above.into_iter().map(|(path, _)| path).collect();
        for path in &paths {
            let Some(last) = self.latest(path, u64::MAX).map(|item| item.record.version) else { continue };
            if let Some(item) = self.items.get_mut(&(path.clone(), last))
                && !item.record.kind.is_end()
                && let Some(ended) = item.ended.take()
            {
                self.past.remove(&(ended, last, path.clone()));
            }
        }
        paths
    }

    /// Only the newest content of a file came along: it belongs to the last change that wrote it, and to renames since.
    fn learn(
        &mut self,
        builder: &mut BatchBuilder,
        adopted: &Adopted<'_>,
        records: impl Iterator<Item = Record>,
    ) {
        let changes: Vec<Change> = records.map(|record| record.change).collect();
        let mut kinds: BTreeMap<u64, Kind> = BTreeMap::new();
        let mut written: BTreeMap<u64, u64> = BTreeMap::new();
        for change in &changes {
            match change.kind {
                ChangeKind::Created(kind) => drop(kinds.insert(change.inode, kind)),
                ChangeKind::Renamed | ChangeKind::Deleted | ChangeKind::Touched | ChangeKind::Written => {}
            }
            if matches!(change.kind, ChangeKind::Created(_) | ChangeKind::Written) {
                written.insert(change.inode, change.version);
            }
        }
        for change in changes {
            let now = adopted.new.entry(change.inode);
            let entry = now.or_else(|| adopted.old.entry(change.inode));
            let kind = entry.map(|entry| entry.head().kind).or_else(|| kinds.get(&change.inode).copied());
            let moved_nowhere = change.from.as_ref() == Some(&change.path);
            if kind != Some(Kind::File) || change.kind == ChangeKind::Touched || moved_nowhere {
                continue;
            }
            let is_newest = written.get(&change.inode).is_none_or(|last| *last <= change.version);
            let content =
                now.filter(|_| is_newest && change.kind != ChangeKind::Deleted).map(KeptContent::of);
            self.add_change(builder, &change, content);
        }
    }

    /// What the newest record of a path says is what the tree has there.
    fn reconcile(&mut self, builder: &mut BatchBuilder, tree: &Tree, path: &ConfigPath) {
        let file = tree.get(path).filter(|entry| !entry.is_directory());
        let known = self.latest(path, u64::MAX).map(|item| &item.record);
        match (file, known) {
            (Some(entry), _) => self.ensure(builder, path, entry),
            (None, Some(known)) if !known.kind.is_end() => {
                let gone = FileVersion {
                    version: tree.version().max(known.version + 1),
                    kind: VersionKind::Deleted,
                    other: None,
                    writer: 0,
                    mtime: tree.root().mtime,
                    caller: None,
                    content: None,
                    ..known.clone()
                };
                self.add(builder, gone);
            }
            _ => {}
        }
    }
}
