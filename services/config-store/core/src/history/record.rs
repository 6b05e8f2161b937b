//! One record of the history, and its stored form.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    entry::Entry,
    log::ChangeKind,
    path::ConfigPath,
    tree::FILE_MAX,
    wire::{Put, Reader, WireError},
};

const FORMAT: u8 = 1;

/// What made a version of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VersionKind {
    /// The file was made.
    Created,
    /// Its content was written.
    Written,
    /// A file was renamed to this path.
    MovedHere,
    /// The file was renamed to another path: there is none here from then on.
    MovedAway,
    /// The file was deleted.
    Deleted,
    /// The file was here when its history began: who changed it last is known, not how.
    Found,
}

impl VersionKind {
    /// Whether there is no file at the path from then on.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::MovedAway | Self::Deleted)
    }

    pub(super) fn of(kind: ChangeKind) -> Self {
        match kind {
            ChangeKind::Created(_) => Self::Created,
            ChangeKind::Renamed => Self::MovedHere,
            ChangeKind::Deleted => Self::Deleted,
            ChangeKind::Written | ChangeKind::Touched => Self::Written,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Created => 1,
            Self::Written => 2,
            Self::MovedHere => 3,
            Self::MovedAway => 4,
            Self::Deleted => 5,
            Self::Found => 6,
        }
    }

    fn decode(code: u8) -> Result<Self, WireError> {
        Ok(match code {
            1 => Self::Created,
            2 => Self::Written,
            3 => Self::MovedHere,
            4 => Self::MovedAway,
            5 => Self::Deleted,
            6 => Self::Found,
            value => return Err(WireError::Unknown { what: "kind of a version", value: value.into() }),
        })
    }
}

/// A content that this replica has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptContent {
    /// The version that wrote it: with the inode its place in storage. 0 for an empty one, which is not stored.
    pub stored: u64,
    /// Its length in bytes.
    pub size: usize,
    /// Its SHA-256.
    pub digest: [u8; 32],
}

impl KeptContent {
    pub(super) fn of(entry: &Entry) -> Self {
        let size = entry.content().len();
        Self { stored: if size == 0 { 0 } else { entry.stored_at() }, size, digest: *entry.digest() }
    }
}

/// One version of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileVersion {
    /// The path.
    pub path: ConfigPath,
    /// Version of the tree that made it.
    pub version: u64,
    /// What happened.
    pub kind: VersionKind,
    /// Where it came from or went to, if it was renamed.
    pub other: Option<ConfigPath>,
    /// Number of the file.
    pub inode: u64,
    /// Node id of who did it; 0 stand-alone.
    pub writer: u32,
    /// The writer's clock, whole UTC seconds.
    pub mtime: u32,
    /// Who asked for it, if that is known.
    pub caller: Option<Arc<str>>,
    /// The file's content; `None` if there is no file any more, or the content is not kept here.
    pub content: Option<KeptContent>,
}

impl FileVersion {
    /// What is known of a file whose history begins now.
    pub(super) fn found(path: &ConfigPath, entry: &Entry) -> Self {
        let head = entry.head();
        Self {
            path: path.clone(),
            version: head.version,
            kind: VersionKind::Found,
            other: None,
            inode: head.inode,
            writer: head.writer,
            mtime: head.mtime,
            caller: None,
            content: Some(KeptContent::of(entry)),
        }
    }

    /// Version, then path: a rename has two records.
    pub(super) fn key(&self) -> Bytes {
        let mut key = BytesMut::with_capacity(8 + self.path.as_str().len());
        key.put_u64(self.version);
        key.put_slice(self.path.as_str().as_bytes());
        key.freeze()
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(FORMAT);
        out.put_u8(self.kind.code());
        out.put_u64_le(self.inode);
        out.put_u32_le(self.writer);
        out.put_u32_le(self.mtime);
        out.put_path(self.other.as_ref().unwrap_or(&ConfigPath::root()));
        out.put_short(self.caller.as_deref().unwrap_or_default().as_bytes());
        out.put_u8(self.content.is_some().into());
        if let Some(content) = &self.content {
            out.put_u64_le(content.stored);
            out.put_count(content.size);
            out.put_slice(&content.digest);
        }
        out.freeze()
    }

    pub(super) fn decode(key: Bytes, value: Bytes) -> Result<Self, WireError> {
        let mut key = Reader::new(key);
        let version = u64::from_be_bytes(key.array()?);
        let path = String::from_utf8(key.rest().to_vec()).map_err(|_| WireError::NotText { what: "path" })?;
        let path = path.parse().map_err(WireError::Path)?;
        let mut reader = Reader::new(value);
        let format = reader.u8()?;
        if format != FORMAT {
            return Err(WireError::Unknown { what: "format of a history record", value: format.into() });
        }
        let kind = VersionKind::decode(reader.u8()?)?;
        let inode = reader.u64()?;
        let (writer, mtime) = (reader.u32()?, reader.u32()?);
        let other = Some(reader.path()?).filter(|other| !other.is_root());
        let caller = Some(reader.text("caller")?).filter(|caller| !caller.is_empty()).map(Arc::from);
        let content = if reader.flag("content")? { Some(content(&mut reader)?) } else { None };
        reader.finish()?;
        Ok(Self { path, version, kind, other, inode, writer, mtime, caller, content })
    }
}

fn content(reader: &mut Reader) -> Result<KeptContent, WireError> {
    let stored = reader.u64()?;
    let size = reader.u32()? as usize;
    if size > FILE_MAX {
        return Err(WireError::TooLong { what: "file", length: size, max: FILE_MAX });
    }
    Ok(KeptContent { stored, size, digest: reader.array()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = FileVersion> {
        let content = (any::<u64>(), 0..=FILE_MAX, any::<[u8; 32]>())
            .prop_map(|(stored, size, digest)| KeptContent { stored, size, digest });
        let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), 1..=6_u8);
        let other = proptest::option::of("[a-z]{1,9}");
        (numbers, other, proptest::option::of("[ -~]{1,40}"), proptest::option::of(content)).prop_map(
            |((version, inode, writer, mtime, kind), other, caller, content)| FileVersion {
                path: "nodes/a".parse().unwrap(),
                version,
                kind: VersionKind::decode(kind).unwrap(),
                other: other.map(|other| other.parse().unwrap()),
                inode,
                writer,
                mtime,
                caller: caller.map(Arc::from),
                content,
            },
        )
    }

    proptest! {
        #[test]
        fn every_record_is_read_back_as_written(record in records()) {
            prop_assert_eq!(FileVersion::decode(record.key(), record.encode()), Ok(record));
        }

        #[test]
        fn decoding_never_panics(
            key in proptest::collection::vec(any::<u8>(), 0..20),
            value in proptest::collection::vec(any::<u8>(), 0..160),
        ) {
            let _ = FileVersion::decode(Bytes::from(key), Bytes::from(value));
        }

        #[test]
        fn a_damaged_record_never_panics(record in records(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = record.encode().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let _ = FileVersion::decode(record.key(), Bytes::from(bytes));
        }
    }
}
