//! Conflict copies: what this replica wrote beyond the history that won.
//!
//! It was never acknowledged, or the operator overrode the quorum, but it is somebody's work: before the
//! winner's state replaces it, it goes to a key space of its own, in the same batch. A copy has a number;
//! under it, index 0 is a header, and the following ones are the entries that the replica had changed
//! (with path and content) and the records of what it had done. Only the operator removes copies.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    batch::{BatchBuilder, Space, Write},
    entry::Entry,
    epoch::Epoch,
    log::{Log, Record},
    path::ConfigPath,
    tree::Tree,
    wire::{Put, Reader, WireError},
};

/// Which history was left, and where it parted from the one that won.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictHeader {
    /// Number of the copy on this node, from 0.
    pub number: u64,
    /// The epoch of the history that was left.
    pub epoch: Epoch,
    /// Its last version.
    pub version: u64,
    /// The last version that it shares with the winner's.
    pub common: u64,
    /// The winner's epoch.
    pub winner_epoch: Epoch,
    /// The winner's version.
    pub winner_version: u64,
}

/// One item of a conflict copy as read back from storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConflictItem {
    /// Index 0.
    Header(ConflictHeader),
    /// An entry that the replica had changed, where it was, with its content.
    Entry {
        /// Where it was.
        path: ConfigPath,
        /// The entry.
        entry: Entry,
    },
    /// Something that the replica had done.
    Record(Record),
}

impl ConflictItem {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Header(header) => {
                out.put_u8(1);
                out.put_u64_le(header.number);
                out.put_epoch(header.epoch);
                out.put_u64_le(header.version);
                out.put_u64_le(header.common);
                out.put_epoch(header.winner_epoch);
                out.put_u64_le(header.winner_version);
            }
            Self::Entry { path, entry } => {
                out.put_u8(2);
                out.put_path(path);
                entry.encode(&mut out);
            }
            Self::Record(record) => {
                out.put_u8(3);
                record.encode_to(&mut out);
            }
        }
        out.freeze()
    }

    /// Reads a stored item.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are no item of a conflict copy.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let item = match reader.u8()? {
            1 => Self::Header(ConflictHeader {
                number: reader.u64()?,
                epoch: reader.epoch()?,
                version: reader.u64()?,
                common: reader.u64()?,
                winner_epoch: reader.epoch()?,
                winner_version: reader.u64()?,
            }),
            2 => Self::Entry { path: reader.path()?, entry: Entry::decode(&mut reader)? },
            3 => Self::Record(Record::decode(&mut reader)?),
            value => return Err(WireError::Unknown { what: "conflict item", value: value.into() }),
        };
        reader.finish()?;
        Ok(item)
    }
}

/// The key of an item: number of the copy and index, both big-endian.
#[must_use]
pub fn conflict_key(number: u64, index: u32) -> Bytes {
    let mut key = BytesMut::with_capacity(12);
    key.put_u64(number);
    key.put_u32(index);
    key.freeze()
}

/// Writes that remove a conflict copy, given its keys: what the driver stores when the operator says so.
pub fn removal(keys: impl IntoIterator<Item = Bytes>) -> Vec<Write> {
    let write = |key| Write { space: Space::Conflict, key, value: None };
    keys.into_iter().map(write).collect()
}

/// Adds a copy to a batch: all entries with a version above `header.common` or listed in `also`, and all
/// records above it. Returns the paths of the entries.
pub(crate) fn keep(
    builder: &mut BatchBuilder,
    header: &ConflictHeader,
    also: &[u64],
    tree: &Tree,
    log: &Log,
) -> Vec<ConfigPath> {
    let changed = |entry: &&Entry| entry.head().version > header.common || also.contains(&entry.inode());
    let located = |entry: &Entry| Some((tree.path_of(entry.inode())?, entry.clone()));
    let entries: Vec<(ConfigPath, Entry)> = tree.entries().filter(changed).filter_map(located).collect();
    let paths = entries.iter().map(|(path, _)| path.clone()).collect();
    let header_item = std::iter::once(ConflictItem::Header(header.clone()));
    let entry_items = entries.into_iter().map(|(path, entry)| ConflictItem::Entry { path, entry });
    let record_items = log.after(header.common).cloned().map(ConflictItem::Record);
    for (index, item) in header_item.chain(entry_items).chain(record_items).enumerate() {
        let index = u32::try_from(index).expect("a tree has far fewer than 2^32 entries");
        builder.put(Space::Conflict, conflict_key(header.number, index), item.encode());
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::Meta,
        checksum::Checksum,
        operation::{Expect, Operation},
    };

    #[test]
    fn a_copy_holds_what_was_changed_after_the_common_version() {
        // given: a tree of two files, the second one written after the histories parted
        let mut tree = Tree::new();
        for name in ["old", "new"] {
            let content = Bytes::copy_from_slice(name.as_bytes());
            let path = name.parse().unwrap();
            tree.apply(1, 1, &Operation::Put { path, expect: Expect::Any, content }).unwrap();
        }
        let header = ConflictHeader {
            number: 4,
            epoch: Epoch { seq: 4, rep: 1, round: 0 },
            version: 3,
            common: 2,
            winner_epoch: Epoch { seq: 8, rep: 2, round: 0 },
            winner_version: 9,
        };

        // when
        let mut builder = BatchBuilder::default();
        let paths = keep(&mut builder, &header, &[], &tree, &Log::new(3, [0; 32]));
        let meta = Meta {
            promised: Epoch::LOCAL,
            epoch: Epoch::LOCAL,
            root: tree.root(),
            chain: [0; 32],
            checksum: Checksum::default(),
            conflicts: 5,
            committed: 0,
        };
        let batch = builder.cut(1, &meta);

        // then
        assert_eq!(paths, ["new".parse().unwrap()]);
        let stored = batch.writes.iter().filter(|write| write.space == Space::Conflict);
        let items: Vec<ConflictItem> =
            stored.map(|write| ConflictItem::decode(write.value.clone().unwrap()).unwrap()).collect();
        assert_eq!(items[0], ConflictItem::Header(header));
        assert!(matches!(&items[1], ConflictItem::Entry { entry, .. } if &entry.content()[..] == b"new"));
        assert_eq!(items.len(), 2);
    }
}
