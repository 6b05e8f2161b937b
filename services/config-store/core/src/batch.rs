//! What must be written to storage together: one atomic, synced batch.
//!
//! Key spaces (a column family each in a real store):
//!
//! | space | key | value |
//! |---|---|---|
//! | meta | `replica`, `epochs` | [`Meta`]; the table of epochs |
//! | entry | inode, big-endian | fields of an entry, and the version under which its content lies |
//! | content | inode, version, big-endian | bytes of a file, now or before; absent when empty |
//! | history | version, big-endian, then the path | a version of a path (`history/`) |
//! | log | version, big-endian | a record |
//! | conflict | number, index, big-endian | a conflict copy (`conflict.rs`) |
//!
//! Contents are apart from fields, so that a rename or a new mtime rewrites no content; each version of a content has a
//! key of its own, so that keeping the old one costs nothing.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    checksum::Checksum,
    entry::Entry,
    epoch::{Epoch, Epochs},
    log::{ChainHash, Record},
    message::put_epochs,
    tree::{Root, Step, Touched},
    wire::{Put, Reader, WireError},
};

/// Number of a batch; batches are numbered from 1 in the order in which they must be written.
pub type BatchId = u64;

pub(crate) const META_KEY: &[u8] = b"replica";
pub(crate) const EPOCHS_KEY: &[u8] = b"epochs";
const META_FORMAT: u8 = 1;

/// A space of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// What is true of the whole replica.
    Meta,
    /// Fields of entries.
    Entry,
    /// Contents of files.
    Content,
    /// The operation log.
    Log,
    /// Conflict copies.
    Conflict,
    /// What was at which path, and who changed it.
    History,
}

impl Space {
    /// All spaces.
    pub const ALL: [Self; 6] =
        [Self::Meta, Self::Entry, Self::Content, Self::Log, Self::Conflict, Self::History];

    /// Its name in a store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Entry => "entry",
            Self::Content => "content",
            Self::Log => "log",
            Self::Conflict => "conflict",
            Self::History => "history",
        }
    }
}

/// One key that is put or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub space: Space,
    /// The key.
    pub key: Bytes,
    /// The value; `None` deletes the key.
    pub value: Option<Bytes>,
}

/// Writes that belong together: after a crash there are all of them or none. They must be on disk
/// (synced) before `Input::Stored` is handed in, and batches must be written in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Number of the batch.
    pub id: BatchId,
    /// Its writes, each key at most once.
    pub writes: Vec<Write>,
}

/// What is true of the whole replica: stored with every batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The highest epoch that the replica promised to take part in.
    pub promised: Epoch,
    /// The epoch that the replica was last in sync in.
    pub epoch: Epoch,
    /// Version, writer and mtime of the tree.
    pub root: Root,
    /// Hash of the history.
    pub chain: ChainHash,
    /// Checksum of the tree.
    pub checksum: Checksum,
    /// How many conflict copies were made: the number of the next one.
    pub conflicts: u64,
    /// The version up to which everything is known to be certain.
    pub committed: u64,
}

impl Meta {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(META_FORMAT);
        out.put_epoch(self.promised);
        out.put_epoch(self.epoch);
        put_root(&mut out, self.root);
        out.put_slice(&self.chain);
        out.put_slice(&self.checksum.to_bytes());
        out.put_u64_le(self.conflicts);
        out.put_u64_le(self.committed);
        out.freeze()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let format = reader.u8()?;
        if format != META_FORMAT {
            return Err(WireError::Unknown {
                what: "format of the replica's meta record",
                value: format.into(),
            });
        }
        let meta = Self {
            promised: reader.epoch()?,
            epoch: reader.epoch()?,
            root: root(&mut reader)?,
            chain: reader.array()?,
            checksum: Checksum::from_bytes(reader.array()?),
            conflicts: reader.u64()?,
            committed: reader.u64()?,
        };
        reader.finish()?;
        Ok(meta)
    }
}

pub(crate) fn put_root(out: &mut BytesMut, root: Root) {
    out.put_u64_le(root.version);
    out.put_u32_le(root.writer);
    out.put_u32_le(root.mtime);
}

pub(crate) fn root(reader: &mut Reader) -> Result<Root, WireError> {
    Ok(Root { version: reader.u64()?, writer: reader.u32()?, mtime: reader.u32()? })
}

/// Collects writes until a batch is cut; a later write of a key replaces an earlier one.
#[derive(Debug, Default)]
pub(crate) struct BatchBuilder {
    writes: BTreeMap<(Space, Bytes), Option<Bytes>>,
    meta: bool,
}

impl BatchBuilder {
    /// Whether there is nothing to write.
    pub(crate) fn is_clean(&self) -> bool {
        self.writes.is_empty() && !self.meta
    }

    /// Only the meta record changed.
    pub(crate) fn touch_meta(&mut self) {
        self.meta = true;
    }

    pub(crate) fn put(&mut self, space: Space, key: Bytes, value: Bytes) {
        self.writes.insert((space, key), Some(value));
    }

    pub(crate) fn delete(&mut self, space: Space, key: Bytes) {
        self.writes.insert((space, key), None);
    }

    /// Fields, and the content if it is touched. What is stored under other versions is the history's affair.
    pub(crate) fn put_entry(&mut self, entry: &Entry, touched: Touched) {
        self.put(Space::Entry, number_key(entry.inode()), entry.stored_head());
        if touched == Touched::Content && !entry.content().is_empty() {
            let key = content_key(entry.inode(), entry.stored_at());
            self.put(Space::Content, key, entry.content().clone());
        }
    }

    pub(crate) fn delete_entry(&mut self, inode: u64) {
        self.delete(Space::Entry, number_key(inode));
    }

    pub(crate) fn put_step(&mut self, step: &Step) {
        if let Some(after) = &step.after {
            self.put_entry(after, step.effect.touched);
        }
        if let Some(removed) = step.effect.removed {
            self.delete_entry(removed);
        }
        self.touch_meta();
    }

    pub(crate) fn put_record(&mut self, record: &Record) {
        self.put(Space::Log, number_key(record.version()), record.encode());
    }

    pub(crate) fn delete_record(&mut self, version: u64) {
        self.delete(Space::Log, number_key(version));
    }

    pub(crate) fn put_epochs(&mut self, epochs: &Epochs) {
        let mut out = BytesMut::new();
        put_epochs(&mut out, epochs);
        self.put(Space::Meta, Bytes::from_static(EPOCHS_KEY), out.freeze());
    }

    /// Everything collected, with the meta record, as one batch.
    pub(crate) fn cut(&mut self, id: BatchId, meta: &Meta) -> Batch {
        self.put(Space::Meta, Bytes::from_static(META_KEY), meta.encode());
        self.meta = false;
        let writes = std::mem::take(&mut self.writes).into_iter();
        Batch { id, writes: writes.map(|((space, key), value)| Write { space, key, value }).collect() }
    }
}

pub(crate) fn number_key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Where a content lies; those from before there was a history lie under the inode alone.
#[must_use]
pub fn content_key(inode: u64, stored_at: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(16);
    key.put_u64(inode);
    if stored_at != 0 {
        key.put_u64(stored_at);
    }
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            promised: Epoch { seq: 8, rep: 1, round: 2 },
            epoch: Epoch { seq: 8, rep: 1, round: 1 },
            root: Root { version: 99, writer: 2, mtime: 1234 },
            chain: [3; 32],
            checksum: Checksum::from_bytes([4; 32]),
            conflicts: 5,
            committed: 98,
        }
    }

    #[test]
    fn meta_is_read_back_as_written() {
        assert_eq!(Meta::decode(meta().encode()), Ok(meta()));
        assert!(Meta::decode(meta().encode().slice(..40)).is_err());
    }

    #[test]
    fn a_later_write_of_a_key_replaces_an_earlier_one() {
        let mut builder = BatchBuilder::default();
        assert!(builder.is_clean());
        builder.put(Space::Log, number_key(7), Bytes::from_static(b"a"));
        builder.delete(Space::Log, number_key(7));

        let batch = builder.cut(1, &meta());

        assert_eq!(batch.writes.len(), 2);
        assert!(batch.writes.contains(&Write { space: Space::Log, key: number_key(7), value: None }));
        assert!(builder.is_clean());
    }
}
