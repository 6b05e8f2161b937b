//! From storage: records, and which contents they and the tree refer to.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{FileVersion, History, Item, Stored, place};
use crate::{path::ConfigPath, tree::Tree};

impl History {
    /// The history that storage has, given the tree and all stored contents; and the places of contents that nobody
    /// refers to.
    pub(crate) fn load(
        records: Vec<FileVersion>,
        tree: &Tree,
        contents: &BTreeMap<(u64, u64), Bytes>,
    ) -> (Self, Vec<(u64, u64)>) {
        let mut history = Self::default();
        let sized = contents.iter().map(|(place, content)| (*place, content.len()));
        history.contents = sized.map(|(place, size)| (place, Stored { size, ..Stored::default() })).collect();
        for entry in tree.entries() {
            if let Some(stored) = history.contents.get_mut(&place(entry)) {
                stored.live = true;
            }
        }
        records.into_iter().for_each(|record| history.take(record));
        history.end_all();
        let unused = |(_, stored): &(&(u64, u64), &Stored)| stored.records == 0 && !stored.live;
        let garbage: Vec<(u64, u64)> =
            history.contents.iter().filter(unused).map(|(place, _)| *place).collect();
        history.contents.retain(|_, stored| stored.records > 0 || stored.live);
        history.bytes =
            history.contents.values().filter(|stored| !stored.live).map(|stored| stored.size).sum();
        (history, garbage)
    }

    fn take(&mut self, mut record: FileVersion) {
        if let Some(content) = record.content.filter(|content| content.size > 0) {
            match self.contents.get_mut(&(record.inode, content.stored)) {
                Some(stored) => stored.records += 1,
                None => record.content = None,
            }
        }
        self.items.insert((record.path.clone(), record.version), Item { record, ended: None });
    }

    /// Each record is past since the next one of its path; one that says that there is no file is so at once.
    fn end_all(&mut self) {
        let mut ends: Vec<(ConfigPath, u64, u64)> = Vec::new();
        let mut next: Option<(&ConfigPath, u64)> = None;
        for ((path, version), item) in self.items.iter().rev() {
            let followed = next.filter(|(of, _)| *of == path).map(|(_, version)| version);
            let ended = if item.record.kind.is_end() { Some(*version) } else { followed };
            ends.extend(ended.map(|ended| (path.clone(), *version, ended)));
            next = Some((path, *version));
        }
        ends.into_iter().for_each(|(path, version, ended)| self.end(&path, version, ended));
    }

    /// Reads a stored record; `None` if it cannot be read: the history does without it.
    pub(crate) fn read(key: &[u8], value: Bytes) -> Option<FileVersion> {
        FileVersion::decode(Bytes::copy_from_slice(key), value).ok()
    }
}
