//! A copy of a tree, wherever it comes from: the cluster, an archive, a database.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_daemon::client::deadline;
use quorate_proto::config::v1::{
    BackupRequest, EntryKind,
    backup_response::{Header, Item, Part},
};

use crate::{client::Client, error::Error};

/// Largest file of a tree. Source: pmxcfs specification, section 3.
pub(super) const FILE_MAX: usize = 1 << 20;
/// Most bytes of all files. Source: pmxcfs specification, section 3.
pub(super) const BYTES_MAX: usize = 128 << 20;
/// Most files and directories. Source: pmxcfs specification, section 3.
pub(super) const ENTRIES_MAX: usize = 262_144;
/// Time to receive a whole tree.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(120);

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(Bytes),
}

/// An entry of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) node: Node,
    /// Version of its last change in its own tree.
    pub(super) version: u64,
    /// Whole UTC seconds.
    pub(super) modified: u64,
}

/// Entries by path.
pub(super) type Copy = BTreeMap<String, Copied>;

/// The cluster's tree at one version.
pub(super) async fn of_cluster(client: &Client) -> Result<(Header, Copy), Error> {
    let request = deadline(BackupRequest {}, client.timeout_or(WITHIN));
    let mut parts = client.history().backup(request).await.map_err(client.failure())?.into_inner();
    let mut header = None;
    let mut copy = Copy::new();
    while let Some(part) = parts.message().await.map_err(client.failure())? {
        match part.part {
            Some(Part::Header(of)) => header = Some(of),
            Some(Part::Item(item)) => drop(entry(item).map(|(path, entry)| copy.insert(path, entry))),
            None => {}
        }
    }
    match header {
        Some(header) if header.entries == copy.len() as u64 => Ok((header, copy)),
        _ => Err(Error::Incomplete("the copy of the tree")),
    }
}

fn entry(item: Item) -> Option<(String, Copied)> {
    let entry = item.entry?;
    let node = match entry.kind() {
        EntryKind::File => Node::File(item.content),
        EntryKind::Directory => Node::Directory,
        EntryKind::Unspecified => return None,
    };
    let modified = entry.modified.and_then(|time| u64::try_from(time.seconds).ok()).unwrap_or_default();
    Some((entry.path, Copied { node, version: entry.version, modified }))
}

/// The VMID of a guest's configuration: `nodes/NODE/{qemu-server,lxc,openvz}/VMID.conf`.
pub(super) fn vmid(path: &str) -> Option<u32> {
    let names: Vec<&str> = path.split('/').collect();
    let ["nodes", _, "qemu-server" | "lxc" | "openvz", file] = names[..] else { return None };
    let digits = file.strip_suffix(".conf")?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if plain { digits.parse().ok() } else { None }
}

/// Why a path is none of a tree.
pub(super) fn path_problem(path: &str) -> Option<&'static str> {
    let bad = |name: &str| name.is_empty() || name == "." || name == ".." || name.contains('\0');
    if path.len() > 4095 || path.split('/').any(|name| name.len() > 255) {
        return Some("a name is too long");
    }
    path.split('/').any(bad).then_some("a name is empty, '.' or '..'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_guests_are_told_from_other_files() {
        assert_eq!(vmid("nodes/hp1/qemu-server/100.conf"), Some(100));
        assert_eq!(vmid("nodes/hp1/lxc/101.conf"), Some(101));
        for other in
            ["nodes/hp1/qemu-server/0100.conf", "nodes/hp1/qemu-server/100.conf.tmp", "nodes/hp1/100.conf"]
        {
            assert_eq!(vmid(other), None, "{other}");
        }
    }

    #[test]
    fn a_path_cannot_lead_out_of_the_tree() {
        for bad in ["", "/a", "a/", "a//b", "../a", "a/./b", "a\0"] {
            assert!(path_problem(bad).is_some(), "{bad:?}");
        }
        assert_eq!(path_problem("nodes/hp1/config"), None);
    }
}
