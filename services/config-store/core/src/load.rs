//! From storage back to a replica: every stored value is read, checked, and made sense of together.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    batch::{EPOCHS_KEY, META_KEY, Meta, Space, content_key},
    checksum::Checksum,
    entry::Entry,
    epoch::{Epoch, Epochs},
    history::{FileVersion, History},
    log::{Log, Record},
    message::epochs,
    tree::{EMPTY_VERSION, ReplaceError, Replacement, Root, Tree},
    wire::{Reader, WireError},
};

/// Why stored data do not make a replica: it is damaged, and the operator must act (restore a backup, or
/// remove it and let the cluster send everything).
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A stored value cannot be read.
    #[error("a value of the key space '{space}' cannot be read", space = space.name())]
    BadValue {
        /// Where it is.
        space: Space,
        /// Why.
        #[source]
        source: WireError,
    },
    /// There are entries, but no record of what they belong to.
    #[error("the replica's meta record is missing")]
    NoMeta,
    /// The entries make no tree.
    #[error("the entries make no tree")]
    Tree(#[source] ReplaceError),
    /// The tree is not what was stored: data got lost or changed.
    #[error("the tree has checksum {found}, {stored} was stored")]
    Checksum {
        /// Of the loaded entries.
        found: Checksum,
        /// In the meta record.
        stored: Checksum,
    },
    /// The log has a gap or does not end at the tree's version.
    #[error("the log breaks off at version {version}")]
    Log {
        /// The version that is missing.
        version: u64,
    },
}

/// A replica's state as storage has it.
#[derive(Debug)]
pub struct Image {
    pub(crate) tree: Tree,
    pub(crate) log: Log,
    pub(crate) epochs: Epochs,
    pub(crate) epoch: Epoch,
    pub(crate) promised: Epoch,
    pub(crate) conflicts: u64,
    pub(crate) committed: u64,
    pub(crate) history: History,
    /// Keys of contents that nothing refers to.
    pub(crate) garbage: Vec<Bytes>,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            tree: Tree::new(),
            log: Log::default(),
            epochs: Epochs::default(),
            epoch: Epoch::LOCAL,
            promised: Epoch::LOCAL,
            conflicts: 0,
            committed: EMPTY_VERSION,
            history: History::default(),
            garbage: Vec::new(),
        }
    }
}

/// Collects what storage has, key by key, in any order.
#[derive(Debug, Default)]
pub struct Loader {
    meta: Option<Meta>,
    epochs: Epochs,
    heads: BTreeMap<u64, Bytes>,
    /// By inode and version.
    contents: BTreeMap<(u64, u64), Bytes>,
    records: BTreeMap<u64, Record>,
    history: Vec<FileVersion>,
}

impl Loader {
    /// A loader that has seen nothing: finished at once it gives an empty replica.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one stored value. Conflict copies need not be added; they are ignored.
    ///
    /// # Errors
    /// [`LoadError::BadValue`] when it cannot be read.
    pub fn add(&mut self, space: Space, key: &[u8], value: Bytes) -> Result<(), LoadError> {
        self.read(space, key, value).map_err(|source| LoadError::BadValue { space, source })
    }

    fn read(&mut self, space: Space, key: &[u8], value: Bytes) -> Result<(), WireError> {
        match space {
            Space::Meta if key == META_KEY => self.meta = Some(Meta::decode(value)?),
            Space::Meta if key == EPOCHS_KEY => {
                let mut reader = Reader::new(value);
                self.epochs = epochs(&mut reader)?;
                reader.finish()?;
            }
            Space::Meta | Space::Conflict => {}
            Space::Entry => drop(self.heads.insert(number(key)?, value)),
            Space::Content => drop(self.contents.insert(place(key)?, value)),
            // The history is no part of the replica's state: what of it is damaged is missing.
            Space::History => self.history.extend(History::read(key, value)),
            Space::Log => {
                let mut reader = Reader::new(value);
                let record = Record::decode(&mut reader)?;
                reader.finish()?;
                self.records.insert(number(key)?, record);
            }
        }
        Ok(())
    }

    /// Makes a replica's state of what was added.
    ///
    /// # Errors
    /// [`LoadError`] when the values contradict each other.
    pub fn finish(mut self) -> Result<Image, LoadError> {
        let Some(meta) = self.meta.take() else {
            let empty = self.heads.is_empty() && self.contents.is_empty() && self.records.is_empty();
            return if empty { Ok(Image::default()) } else { Err(LoadError::NoMeta) };
        };
        let tree = self.tree(meta.root)?;
        if tree.checksum() != meta.checksum {
            return Err(LoadError::Checksum { found: tree.checksum(), stored: meta.checksum });
        }
        let log = log(&meta, self.records)?;
        let (history, garbage) = History::load(self.history, &tree, &self.contents);
        Ok(Image {
            tree,
            log,
            epochs: self.epochs,
            epoch: meta.epoch,
            promised: meta.promised,
            conflicts: meta.conflicts,
            committed: meta.committed,
            history,
            garbage: garbage.into_iter().map(|(inode, version)| content_key(inode, version)).collect(),
        })
    }

    fn tree(&mut self, root: Root) -> Result<Tree, LoadError> {
        let mut entries = Vec::with_capacity(self.heads.len());
        for head in std::mem::take(&mut self.heads).into_values() {
            let entry = Entry::from_stored(head, |place| self.contents.get(&place).cloned());
            entries.push(entry.map_err(|source| LoadError::BadValue { space: Space::Entry, source })?);
        }
        let replacement = Replacement { root, entries, removed: Vec::new() };
        Tree::new().replaced(replacement).map_err(LoadError::Tree)
    }
}

fn log(meta: &Meta, records: BTreeMap<u64, Record>) -> Result<Log, LoadError> {
    let version = meta.root.version;
    let Some((&first, _)) = records.first_key_value() else {
        return Ok(Log::new(version, meta.chain));
    };
    let mut log = Log::new(first.saturating_sub(1), meta.chain);
    for record in records.into_values() {
        if record.version() != log.tip() + 1 {
            return Err(LoadError::Log { version: log.tip() + 1 });
        }
        log.push(record);
    }
    if log.tip() != version || *log.chain() != meta.chain {
        return Err(LoadError::Log { version: log.tip() + 1 });
    }
    Ok(log)
}

/// Inode and version in the key of a content.
fn place(key: &[u8]) -> Result<(u64, u64), WireError> {
    match key.split_at_checked(8) {
        Some((inode, version)) if !version.is_empty() => Ok((number(inode)?, number(version)?)),
        _ => Ok((number(key)?, 0)),
    }
}

fn number(key: &[u8]) -> Result<u64, WireError> {
    let number = key.try_into().map(u64::from_be_bytes);
    number.map_err(|_| WireError::TooLong { what: "key", length: key.len(), max: 8 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::{BatchBuilder, Write},
        operation::{Expect, Operation},
        tree::Touched,
    };

    /// What a replica with one directory and one file would have stored.
    fn stored() -> Vec<Write> {
        let mut tree = Tree::new();
        let put = Operation::Put {
            path: "d/f".parse().unwrap(),
            expect: Expect::Any,
            content: Bytes::from_static(b"content"),
        };
        let mut builder = BatchBuilder::default();
        for operation in [Operation::Mkdir { path: "d".parse().unwrap() }, put] {
            for step in tree.transact(1, 1, &operation).unwrap() {
                builder.put_step(&step);
            }
        }
        assert_eq!(tree.entries().map(|entry| entry.is_directory()).collect::<Vec<_>>(), [true, false]);
        let meta = Meta {
            promised: Epoch { seq: 8, rep: 1, round: 0 },
            epoch: Epoch { seq: 4, rep: 1, round: 0 },
            root: tree.root(),
            chain: [9; 32],
            checksum: tree.checksum(),
            conflicts: 2,
            committed: 2,
        };
        builder.cut(1, &meta).writes
    }

    fn load(writes: &[Write]) -> Result<Image, LoadError> {
        let mut loader = Loader::new();
        for write in writes {
            if let Some(value) = &write.value {
                loader.add(write.space, &write.key, value.clone())?;
            }
        }
        loader.finish()
    }

    #[test]
    fn nothing_stored_is_an_empty_replica() {
        let image = Loader::new().finish().unwrap();
        assert_eq!((image.tree.version(), image.epoch), (1, Epoch::LOCAL));
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let image = load(&stored()).unwrap();
        let entry = image.tree.get(&"d/f".parse().unwrap()).unwrap();
        assert_eq!((&entry.content()[..], image.tree.version()), (&b"content"[..], 3));
        assert_eq!((image.log.tip(), *image.log.chain()), (3, [9; 32]));
        assert_eq!((image.promised.seq, image.epoch.seq, image.conflicts), (8, 4, 2));
    }

    #[test]
    fn a_lost_value_is_noticed_whichever_it_is() {
        let all = stored();
        for missing in 0..all.len() {
            let mut some = all.clone();
            let lost = some.remove(missing);
            if lost.value.is_some() {
                assert!(load(&some).is_err(), "{lost:?}");
            }
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        let all = stored();
        for (index, write) in all.iter().enumerate().filter(|(_, write)| write.space != Space::Meta) {
            for at in 0..write.value.as_ref().map_or(0, Bytes::len) {
                let mut damaged = all.clone();
                let mut value = write.value.clone().unwrap().to_vec();
                value[at] ^= 1;
                damaged[index].value = Some(Bytes::from(value));
                assert!(load(&damaged).is_err(), "{:?} byte {at}", write.space);
            }
        }
    }

    #[test]
    fn only_head_changes_leave_the_content_alone() {
        let mut builder = BatchBuilder::default();
        let image = load(&stored()).unwrap();
        let entry = image.tree.get(&"d/f".parse().unwrap()).unwrap();
        builder.put_entry(entry, Touched::Head);
        let meta = Meta {
            promised: Epoch::LOCAL,
            epoch: Epoch::LOCAL,
            root: image.tree.root(),
            chain: [0; 32],
            checksum: image.tree.checksum(),
            conflicts: 0,
            committed: 0,
        };
        let spaces: Vec<Space> = builder.cut(1, &meta).writes.iter().map(|write| write.space).collect();
        assert_eq!(spaces, [Space::Meta, Space::Entry]);
    }
}
