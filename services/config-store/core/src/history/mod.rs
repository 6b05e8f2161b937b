//! The history of files: what each path held before, who changed it, and when.
//!
//! Every replica keeps its own, as well as it can: it is no part of what replicas compare. It is written in the batch of
//! the change itself, so it never tells of a change that the tree has not, nor the other way round.
//!
//! **How it is stored.** The content of a file lies under (inode, version that wrote it), and stays there when a newer
//! one is written: a content goes to disk once, and keeping the old one costs nothing more. Each version of a path has a
//! small record of its own in the key space `history`. A content is deleted when neither the tree nor a record refers to
//! it.
//!
//! **What is kept.** Records of what is past, and their contents, are bounded by [`HistoryLimits`]: those that were
//! replaced longest ago go first, and a path with many of them loses its own oldest ones first, so that a file that is
//! written every second does not push out the others. What a path holds now is never dropped and counts for nothing.
//! Directories, locks among them, and modification times have no history.
//!
//! **What is missing.** A replica that catches up learns from the log what happened and by whom, but gets only the newest
//! content of each file: the versions between are listed without content. What the winner's log no longer reaches is not
//! listed; the present state then is, as [`VersionKind::Found`].

mod adopt;
mod load;
mod record;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::adopt::Adopted;
pub use self::record::{FileVersion, KeptContent, VersionKind};
use crate::{
    batch::{BatchBuilder, Space, content_key},
    entry::Entry,
    log::{Change, ChangeKind},
    path::ConfigPath,
    tree::Step,
};

/// How much of the past a replica keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Bytes of contents that no file has any more.
    pub bytes: usize,
    /// Versions that are past.
    pub versions: usize,
    /// Versions of one path.
    pub versions_of_path: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { bytes: 64 << 20, versions: 10_000, versions_of_path: 200 }
    }
}

/// A record, and since which version it is past.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    record: FileVersion,
    ended: Option<u64>,
}

/// A content on disk: who refers to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stored {
    records: u32,
    /// Whether a file of the tree has it.
    live: bool,
    size: usize,
}

/// What is known of the past of all files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    limits: HistoryLimits,
    items: BTreeMap<(ConfigPath, u64), Item>,
    /// By the version that ended them: the first goes first.
    past: BTreeSet<(u64, u64, ConfigPath)>,
    /// By inode and the version that wrote it. Empty contents are not stored.
    contents: BTreeMap<(u64, u64), Stored>,
    /// Of contents that are not live.
    bytes: usize,
}

impl History {
    /// How many versions are past, and how many bytes only they refer to.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.past.len(), self.bytes)
    }

    /// What was at `path` at versions below `before`, the newest first. Where a file was renamed to the path and replaced
    /// nothing, its history under the path before follows.
    pub fn versions<'a>(
        &'a self,
        path: &ConfigPath,
        before: u64,
    ) -> impl Iterator<Item = &'a FileVersion> + 'a {
        let mut at = Some((path.clone(), before));
        std::iter::from_fn(move || {
            let (path, before) = at.take()?;
            let record = &self.latest(&path, before)?.record;
            let replaced = self.latest(&path, record.version).is_some_and(|item| !item.record.kind.is_end());
            let came_from =
                record.other.clone().filter(|_| record.kind == VersionKind::MovedHere && !replaced);
            at = Some((came_from.unwrap_or(path), record.version));
            Some(record)
        })
    }

    /// The newest record of a path below a version.
    fn latest(&self, path: &ConfigPath, before: u64) -> Option<&Item> {
        let mut range = self.items.range((path.clone(), 0)..(path.clone(), before));
        range.next_back().map(|(_, item)| item)
    }

    /// Changes the bounds; the next change is the first to keep them.
    pub(crate) fn set_limits(&mut self, limits: HistoryLimits) {
        self.limits = limits;
    }

    /// Notes a change, in its batch.
    pub(crate) fn performed(&mut self, builder: &mut BatchBuilder, step: &Step, change: &Change) {
        let file = |entry: &Option<Entry>| entry.clone().filter(|entry| !entry.is_directory());
        let (before, over, after) = (file(&step.before), file(&step.over), file(&step.after));
        if change.from.as_ref() == Some(&change.path) || (before.is_none() && after.is_none()) {
            return;
        }
        let old_path = change.from.as_ref().unwrap_or(&change.path);
        if change.kind == ChangeKind::Touched {
            return;
        }
        if let Some(before) = &before {
            self.ensure(builder, old_path, before);
        }
        if let Some(over) = &over {
            self.ensure(builder, &change.path, over);
        }
        if let Some(after) = &after {
            self.enter(after);
        }
        self.add_change(builder, change, after.as_ref().map(KeptContent::of));
        let same = before.as_ref().map(place) == after.as_ref().map(place);
        for gone in before.filter(|_| !same).into_iter().chain(over) {
            self.leave(builder, &gone);
        }
        self.prune(builder);
    }

    fn add_change(&mut self, builder: &mut BatchBuilder, change: &Change, content: Option<KeptContent>) {
        let record = FileVersion {
            path: change.path.clone(),
            version: change.version,
            kind: VersionKind::of(change.kind),
            other: change.from.clone(),
            inode: change.inode,
            writer: change.writer,
            mtime: change.mtime,
            caller: change.caller.clone(),
            content,
        };
        if let Some(from) = &change.from {
            let (path, other) = (from.clone(), Some(change.path.clone()));
            self.add(
                builder,
                FileVersion { path, other, kind: VersionKind::MovedAway, content: None, ..record.clone() },
            );
        }
        self.add(builder, record);
    }

    /// What a path holds has a record, also if it came there before there was a history.
    fn ensure(&mut self, builder: &mut BatchBuilder, path: &ConfigPath, entry: &Entry) {
        let content = KeptContent::of(entry);
        let known = self.latest(path, u64::MAX).is_some_and(|item| {
            let record = &item.record;
            !record.kind.is_end() && record.inode == entry.inode() && record.content == Some(content)
        });
        if !known {
            self.add(builder, FileVersion::found(path, entry));
        }
    }

    fn add(&mut self, builder: &mut BatchBuilder, record: FileVersion) {
        let (path, version) = (record.path.clone(), record.version);
        // Nothing that comes later in a history that was left stays above it.
        while let Some(above) =
            self.latest(&path, u64::MAX).map(|item| item.record.version).filter(|v| *v >= version)
        {
            self.remove(builder, &path, above);
        }
        if let Some(before) = self.latest(&path, version).map(|item| item.record.version) {
            self.end(&path, before, version);
        }
        if let Some(content) = &record.content
            && content.size > 0
        {
            let stored = self.contents.entry((record.inode, content.stored)).or_default();
            stored.records += 1;
        }
        builder.put(Space::History, record.key(), record.encode());
        let is_end = record.kind.is_end();
        self.items.insert((path.clone(), version), Item { record, ended: None });
        if is_end {
            self.end(&path, version, version);
        }
        let of_path = self.items.range((path.clone(), 0)..=(path.clone(), u64::MAX));
        if of_path.clone().count() > self.limits.versions_of_path {
            let oldest = of_path.map(|((_, version), _)| *version).next();
            oldest.into_iter().for_each(|version| self.remove(builder, &path, version));
        }
    }

    fn end(&mut self, path: &ConfigPath, version: u64, ended: u64) {
        if let Some(item) = self.items.get_mut(&(path.clone(), version))
            && item.ended.is_none()
        {
            item.ended = Some(ended);
            self.past.insert((ended, version, path.clone()));
        }
    }

    fn remove(&mut self, builder: &mut BatchBuilder, path: &ConfigPath, version: u64) {
        let Some(item) = self.items.remove(&(path.clone(), version)) else { return };
        if let Some(ended) = item.ended {
            self.past.remove(&(ended, version, path.clone()));
        }
        builder.delete(Space::History, item.record.key());
        let Some(content) = item.record.content else { return };
        let place = (item.record.inode, content.stored);
        if let Some(stored) = self.contents.get_mut(&place) {
            stored.records = stored.records.saturating_sub(1);
            self.drop_unused(builder, place);
        }
    }

    /// A file of the tree has this content from now on.
    fn enter(&mut self, entry: &Entry) {
        if entry.content().is_empty() {
            return;
        }
        let stored = self.contents.entry(place(entry)).or_default();
        if !stored.live && stored.records > 0 {
            self.bytes -= stored.size;
        }
        *stored = Stored { live: true, size: entry.content().len(), ..*stored };
    }

    /// No file of the tree has this content any more.
    fn leave(&mut self, builder: &mut BatchBuilder, entry: &Entry) {
        let place = place(entry);
        match self.contents.get_mut(&place) {
            Some(stored) if stored.live => {
                stored.live = false;
                self.bytes += stored.size;
                self.drop_unused(builder, place);
            }
            _ => {}
        }
    }

    fn drop_unused(&mut self, builder: &mut BatchBuilder, place: (u64, u64)) {
        if let Some(stored) = self.contents.get(&place)
            && stored.records == 0
            && !stored.live
        {
            self.bytes -= stored.size;
            self.contents.remove(&place);
            builder.delete(Space::Content, content_key(place.0, place.1));
        }
    }

    fn prune(&mut self, builder: &mut BatchBuilder) {
        while self.past.len() > self.limits.versions || self.bytes > self.limits.bytes {
            let Some((_, version, path)) = self.past.first().cloned() else { return };
            self.remove(builder, &path, version);
        }
    }
}

/// Where the content of an entry is stored.
fn place(entry: &Entry) -> (u64, u64) {
    (entry.inode(), entry.stored_at())
}

/// Whether two entries are one file with one content.
fn same_content(one: &Entry, other: &Entry) -> bool {
    place(one) == place(other) && one.digest() == other.digest()
}

#[cfg(test)]
mod tests;
