//! One entry of the tree: its fields, its hash, and its stored and transferred form.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::{
    path::NAME_MAX,
    tree::FILE_MAX,
    wire::{Put, Reader, WireError},
};

/// Inode of the root directory, which is not stored as an entry.
pub const ROOT: u64 = 0;

/// File or directory: there is nothing else in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
}

/// The fields that an entry has apart from its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Number of the entry: the tree's version when it was made, never used twice in one history.
    pub inode: u64,
    /// Inode of the directory that holds it; [`ROOT`] at the top.
    pub parent: u64,
    /// Its name in that directory.
    pub name: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// The tree's version at its last change.
    pub version: u64,
    /// Node id of who changed it last; 0 stand-alone.
    pub writer: u32,
    /// The writer's clock at that time, whole UTC seconds.
    pub mtime: u32,
}

/// An entry with its content and the hashes over both, which are always up to date.
#[derive(Debug, Clone)]
pub struct Entry {
    head: Head,
    content: Bytes,
    digest: [u8; 32],
    hash: [u8; 32],
    stored_at: u64,
}

/// Equal entries have all fields and the content in common; where each replica stores the content is its own affair.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Entry {}

impl Entry {
    /// An entry with this content; directories have none.
    #[must_use]
    pub fn new(head: Head, content: Bytes) -> Self {
        let digest = Sha256::digest(&content).into();
        let stored_at = head.version;
        Self::sealed(head, content, digest, stored_at)
    }

    fn sealed(head: Head, content: Bytes, digest: [u8; 32], stored_at: u64) -> Self {
        let hash = Sha256::digest(encode_head(&head, content.len(), &digest)).into();
        Self { head, content, digest, hash, stored_at }
    }

    /// The same content under other fields: nothing of the content is hashed again.
    #[must_use]
    pub(crate) fn with_head(&self, head: Head) -> Self {
        Self::sealed(head, self.content.clone(), self.digest, self.stored_at)
    }

    /// The same entry whose content is stored where another one's is that has the same.
    #[must_use]
    pub(crate) fn stored_as(self, other: &Self) -> Self {
        let same = self.inode() == other.inode() && self.digest == other.digest;
        Self { stored_at: if same { other.stored_at } else { self.stored_at }, ..self }
    }

    /// The version under which this replica stores the content: the one that wrote it, or brought it here. 0 for one of
    /// a store from before there was a history.
    #[must_use]
    pub(crate) fn stored_at(&self) -> u64 {
        self.stored_at
    }

    /// Everything but the content.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The content of a file; empty for a directory.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// SHA-256 of the content.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// SHA-256 over all fields and the content's digest: two entries are the same if this is.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Number of the entry.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.head.inode
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.head.kind == Kind::Directory
    }

    /// The stored form of everything but the content.
    pub(crate) fn stored_head(&self) -> Bytes {
        let mut out = encode_head(&self.head, self.content.len(), &self.digest);
        if self.stored_at != 0 && !self.content.is_empty() {
            out.put_u64_le(self.stored_at);
        }
        out.freeze()
    }

    /// Joins the stored head with the stored content, which `find` looks up by inode and version and which is missing
    /// if it is empty, and checks the digest.
    pub(crate) fn from_stored(
        head: Bytes,
        find: impl FnOnce((u64, u64)) -> Option<Bytes>,
    ) -> Result<Self, WireError> {
        let mut reader = Reader::new(head);
        let (head, length, digest) = decode_head(&mut reader)?;
        let rest = reader.rest();
        let stored_at = match (length, rest.is_empty()) {
            (0, true) => head.version,
            (_, true) => 0,
            (_, false) => stored_place(rest)?,
        };
        let content = if length == 0 { None } else { find((head.inode, stored_at)) };
        let entry = Self { stored_at, ..Self::new(head, content.unwrap_or_default()) };
        if entry.content.len() != length || entry.digest != digest {
            return Err(WireError::Unknown { what: "digest of an entry's content", value: entry.inode() });
        }
        Ok(entry)
    }

    /// Appends the transferred form: head and content.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&encode_head(&self.head, self.content.len(), &self.digest));
        out.put_slice(&self.content);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, WireError> {
        let (head, length, _) = decode_head(reader)?;
        Ok(Self::new(head, reader.bytes(length)?))
    }
}

/// | inode 8 | parent 8 | version 8 | writer 4 | mtime 4 | kind 1 | length 4 | digest 32 | name 2 + n |
fn encode_head(head: &Head, length: usize, digest: &[u8; 32]) -> BytesMut {
    let mut out = BytesMut::with_capacity(71 + head.name.len());
    out.put_u64_le(head.inode);
    out.put_u64_le(head.parent);
    out.put_u64_le(head.version);
    out.put_u32_le(head.writer);
    out.put_u32_le(head.mtime);
    out.put_u8(match head.kind {
        Kind::File => 1,
        Kind::Directory => 2,
    });
    out.put_count(length);
    out.put_slice(digest);
    out.put_short(head.name.as_bytes());
    out
}

fn stored_place(rest: Bytes) -> Result<u64, WireError> {
    let mut reader = Reader::new(rest);
    let place = reader.u64()?;
    reader.finish()?;
    Ok(place)
}

fn decode_head(reader: &mut Reader) -> Result<(Head, usize, [u8; 32]), WireError> {
    let inode = reader.u64()?;
    let parent = reader.u64()?;
    let version = reader.u64()?;
    let writer = reader.u32()?;
    let mtime = reader.u32()?;
    let kind = match reader.u8()? {
        1 => Kind::File,
        2 => Kind::Directory,
        value => return Err(WireError::Unknown { what: "entry kind", value: value.into() }),
    };
    let length = reader.u32()? as usize;
    if length > FILE_MAX {
        return Err(WireError::TooLong { what: "file", length, max: FILE_MAX });
    }
    let digest = reader.array()?;
    let name = reader.text("entry name")?;
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(WireError::TooLong { what: "entry name", length: name.len(), max: NAME_MAX });
    }
    let head = Head { inode, parent, name: Arc::from(name), kind, version, writer, mtime };
    Ok((head, length, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            inode: 17,
            parent: 3,
            name: Arc::from("100.conf"),
            kind: Kind::File,
            version: 18,
            writer: 2,
            mtime: 1234,
        }
    }

    #[test]
    fn an_entry_survives_storing_and_transfer() {
        let entry = Entry::new(head(), Bytes::from_static(b"name: web\n"));
        let mut out = BytesMut::new();
        entry.encode(&mut out);

        let stored = Entry::from_stored(entry.stored_head(), |place| {
            assert_eq!(place, (17, 18));
            Some(entry.content().clone())
        });
        let transferred = Entry::decode(&mut Reader::new(out.freeze()));

        assert_eq!(stored, Ok(entry.clone()));
        assert_eq!(transferred, Ok(entry));
    }

    #[test]
    fn damaged_content_is_found_when_loading() {
        let entry = Entry::new(head(), Bytes::from_static(b"name: web\n"));
        let other = Bytes::from_static(b"name: wep\n");
        assert!(Entry::from_stored(entry.stored_head(), |_| Some(other)).is_err());
        assert!(Entry::from_stored(entry.stored_head(), |_| None).is_err());
    }

    #[test]
    fn a_rename_leaves_the_content_where_it_is_stored() {
        let entry = Entry::new(head(), Bytes::from_static(b"name: web\n"));
        let renamed = entry.with_head(Head { version: 99, ..head() });
        assert_eq!((entry.stored_at(), renamed.stored_at()), (18, 18));
        let brought = Entry::new(Head { version: 99, ..head() }, Bytes::from_static(b"name: web\n"));
        assert_eq!(brought.stored_at(), 99);
        assert_eq!(brought.stored_as(&entry).stored_at(), 18);
    }

    #[test]
    fn a_head_from_before_there_was_a_history_is_read_and_written_as_it_is() {
        let entry = Entry::new(head(), Bytes::from_static(b"x"));
        let old = entry.stored_head().slice(..entry.stored_head().len() - 8);
        let read = Entry::from_stored(old.clone(), |place| {
            assert_eq!(place, (17, 0));
            Some(Bytes::from_static(b"x"))
        });
        assert_eq!(read.unwrap().stored_head(), old);
    }

    #[test]
    fn every_field_is_in_the_hash() {
        let entry = Entry::new(head(), Bytes::from_static(b"x"));
        let others = [
            Head { inode: 1, ..head() },
            Head { parent: 1, ..head() },
            Head { name: Arc::from("y"), ..head() },
            Head { kind: Kind::Directory, ..head() },
            Head { version: 1, ..head() },
            Head { writer: 1, ..head() },
            Head { mtime: 1, ..head() },
        ];
        for other in others {
            assert_ne!(entry.with_head(other.clone()).hash(), entry.hash(), "{other:?}");
        }
        assert_ne!(Entry::new(head(), Bytes::from_static(b"y")).hash(), entry.hash());
    }
}
