//! A copy of the tree as a tar archive that everybody can open: a manifest, then the files.
//!
//! | name | content |
//! |---|---|
//! | `MANIFEST.json` | what the copy is of, and every entry with its SHA-256 |
//! | `tree/PATH` | files (mode 0600) and directories (0700), with the times of their last changes |

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use bytes::Bytes;
use quorate_proto::config::v1::backup_response::Header;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::{
    copy::{BYTES_MAX, Copied, Copy, ENTRIES_MAX, FILE_MAX, Node, path_problem},
    version::hex,
};

const MANIFEST: &str = "MANIFEST.json";
const TREE: &str = "tree/";
const FORMAT: u32 = 1;
/// Longest manifest: 256 bytes and a path for each entry there may be.
const MANIFEST_MAX: u64 = 256 << 20;

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read or written.
    #[error("it cannot be read or written as a tar archive")]
    Io(#[from] io::Error),
    /// It is of another kind, or a later version.
    #[error("it is no backup of a tree: {0}")]
    NoBackup(String),
    /// It is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// Empty outside a cluster.
    pub(super) cluster: String,
    /// Name of the node that made it.
    pub(super) node: String,
    /// Version of the tree.
    pub(super) version: u64,
    /// Of the tree, in hex.
    pub(super) checksum: String,
    entries: BTreeMap<String, Line>,
}

/// What the manifest says of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    version: u64,
    /// Whole UTC seconds.
    modified: u64,
    /// Of a file, in hex; absent for a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// Writes a copy.
pub(super) fn write(out: impl Write, header: &Header, copy: &Copy) -> Result<Manifest, ArchiveError> {
    let line = |copied: &Copied| Line {
        version: copied.version,
        modified: copied.modified,
        sha256: match &copied.node {
            Node::File(content) => Some(hex(&Sha256::digest(content))),
            Node::Directory => None,
        },
    };
    let manifest = Manifest {
        format: FORMAT,
        cluster: header.cluster.clone(),
        node: header.node.clone(),
        version: header.version,
        checksum: header.checksum.clone(),
        entries: copy.iter().map(|(path, copied)| (path.clone(), line(copied))).collect(),
    };
    let mut archive = tar::Builder::new(out);
    let json = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other)?;
    let newest = copy.values().map(|copied| copied.modified).max().unwrap_or_default();
    append(&mut archive, MANIFEST, EntryType::Regular, newest, &json)?;
    for (path, copied) in copy {
        let (kind, content) = match &copied.node {
            Node::File(content) => (EntryType::Regular, &content[..]),
            Node::Directory => (EntryType::Directory, &[][..]),
        };
        append(&mut archive, &format!("{TREE}{path}"), kind, copied.modified, content)?;
    }
    archive.into_inner()?.flush()?;
    Ok(manifest)
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    kind: EntryType,
    modified: u64,
    content: &[u8],
) -> Result<(), ArchiveError> {
    let mut head = tar::Header::new_gnu();
    head.set_entry_type(kind);
    head.set_mode(if kind == EntryType::Directory { 0o700 } else { 0o600 });
    head.set_mtime(modified);
    head.set_size(content.len() as u64);
    Ok(archive.append_data(&mut head, name, content)?)
}

/// Reads a copy, and checks every file.
pub(super) fn read(input: impl Read) -> Result<(Manifest, Copy), ArchiveError> {
    let mut archive = tar::Archive::new(input);
    let mut manifest: Option<Manifest> = None;
    let mut copy = Copy::new();
    let mut bytes = 0;
    for entry in archive.entries()? {
        let entry = entry?;
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| ArchiveError::Damaged("a name is no text".to_owned()))?;
        let kind = entry.header().entry_type();
        if name == MANIFEST && manifest.is_none() {
            manifest = Some(read_manifest(entry)?);
            continue;
        }
        let Some(manifest) = &manifest else {
            return Err(ArchiveError::NoBackup(format!("it does not begin with {MANIFEST}")));
        };
        let path = name.strip_prefix(TREE).map(|path| path.trim_end_matches('/'));
        let path = path.ok_or_else(|| ArchiveError::NoBackup(format!("'{name}' is not below {TREE}")))?;
        let line = manifest.entries.get(path);
        let line = line.ok_or_else(|| ArchiveError::Damaged(format!("'{path}' is not in the manifest")))?;
        let node = node(entry, kind, path, line)?;
        if let Node::File(content) = &node {
            bytes += content.len();
        }
        copy.insert(path.to_owned(), Copied { node, version: line.version, modified: line.modified });
        if bytes > BYTES_MAX || copy.len() > ENTRIES_MAX {
            return Err(ArchiveError::NoBackup("it has more than any tree may have".to_owned()));
        }
    }
    let manifest = manifest.ok_or_else(|| ArchiveError::NoBackup(format!("it has no {MANIFEST}")))?;
    match manifest.entries.keys().find(|path| !copy.contains_key(*path)) {
        Some(missing) => Err(ArchiveError::Damaged(format!("'{missing}' is missing"))),
        None => Ok((manifest, copy)),
    }
}

fn read_manifest(entry: impl Read) -> Result<Manifest, ArchiveError> {
    let mut json = Vec::new();
    entry.take(MANIFEST_MAX).read_to_end(&mut json)?;
    let manifest: Manifest = serde_json::from_slice(&json)
        .map_err(|error| ArchiveError::NoBackup(format!("{MANIFEST} cannot be read: {error}")))?;
    if manifest.format != FORMAT {
        let why = format!("it has format {}, this program knows {FORMAT}", manifest.format);
        return Err(ArchiveError::NoBackup(why));
    }
    Ok(manifest)
}

fn node(entry: impl Read, kind: EntryType, path: &str, line: &Line) -> Result<Node, ArchiveError> {
    let damaged = |why: &str| ArchiveError::Damaged(format!("'{path}': {why}"));
    if let Some(problem) = path_problem(path) {
        return Err(damaged(problem));
    }
    match (kind, &line.sha256) {
        (EntryType::Directory, None) => Ok(Node::Directory),
        (EntryType::Regular, Some(digest)) => {
            let mut content = Vec::new();
            entry.take(FILE_MAX as u64 + 1).read_to_end(&mut content)?;
            if content.len() > FILE_MAX {
                return Err(damaged("it has more than 1 MiB"));
            }
            if hex(&Sha256::digest(&content)) != *digest {
                return Err(damaged("its content is not what the manifest says"));
            }
            Ok(Node::File(Bytes::from(content)))
        }
        _ => Err(damaged("it is not of the kind that the manifest says")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header { cluster: "lab".to_owned(), node: "hp1".to_owned(), version: 17, ..Header::default() }
    }

    fn copies() -> impl Strategy<Value = Copy> {
        let content = proptest::collection::vec(any::<u8>(), 0..600);
        let file =
            (content, any::<u64>(), 0..u64::from(u32::MAX)).prop_map(|(content, version, modified)| Copied {
                node: Node::File(content.into()),
                version,
                modified,
            });
        let name = prop_oneof!["[a-z0-9._-]{3,9}", "[a-zäöü]{100}"];
        let path = proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
        proptest::collection::btree_map(path, file, 0..6).prop_map(|files| {
            let parents =
                files.keys().flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
            let directory = Copied { node: Node::Directory, version: 3, modified: 4 };
            let directories: Vec<String> = parents.collect();
            directories.into_iter().map(|path| (path, directory.clone())).chain(files).collect()
        })
    }

    fn written(copy: &Copy) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, &header(), copy).unwrap();
        out
    }

    proptest! {
        #[test]
        fn every_copy_is_read_back_as_written(copy in copies()) {
            let (manifest, read) = read(&written(&copy)[..]).unwrap();
            prop_assert_eq!((manifest.cluster.as_str(), manifest.version), ("lab", 17));
            prop_assert_eq!(read, copy);
        }

        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = read(&bytes[..]);
        }

        /// Damage is found, or is in what nobody reads: padding, owner, mode.
        #[test]
        fn a_damaged_archive_never_gives_other_contents(copy in copies(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = written(&copy);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            if let Ok((manifest, read)) = read(&bytes[..]) {
                for (path, copied) in read {
                    let Node::File(content) = copied.node else { continue };
                    prop_assert_eq!(manifest.entries[&path].sha256.clone(), Some(hex(&Sha256::digest(&content))));
                }
            }
        }

        #[test]
        fn an_archive_that_was_cut_is_refused(copy in copies(), at in any::<prop::sample::Index>()) {
            let bytes = written(&copy);
            // Two empty blocks end an archive; without them it is as good.
            let end = at.index(bytes.len().saturating_sub(1024).max(1));
            prop_assert!(read(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn another_archive_is_told_from_a_damaged_one() {
        let mut out = Vec::new();
        let mut archive = tar::Builder::new(&mut out);
        append(&mut archive, "etc/passwd", EntryType::Regular, 0, b"root").unwrap();
        drop(archive);
        let error = read(&out[..]).unwrap_err().to_string();
        assert!(error.contains("does not begin with MANIFEST.json"), "{error}");
    }
}
