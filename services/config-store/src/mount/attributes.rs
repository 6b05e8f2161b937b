//! Owner and modes: computed from an entry's path and from quorum, never stored.
//!
//! Source: pmxcfs specification, section 2.2. Differs: `st_blocks` counts 512 bytes, as everywhere else.

use std::time::{Duration, SystemTime};

use config_store_core::ConfigPath;
use fuser::{FileAttr, FileType, INodeNo};

/// Bits of a mode that chmod can change.
const MODE_BITS: u32 = 0o7777;
/// What `st_blksize` says.
pub(super) const BLOCK: u32 = 4096;

/// Whether only root may read this path: `priv` and `nodes/*/priv`, and all below.
pub(super) fn is_private(path: &ConfigPath) -> bool {
    let mut names = path.names();
    match names.next() {
        Some("priv") => true,
        Some("nodes") => names.nth(1) == Some("priv"),
        _ => false,
    }
}

/// The permissions of an entry. Without quorum nothing can be written, and the modes say so.
pub(super) fn permissions(kind: FileType, private: bool, writable: bool) -> u16 {
    let full = match (kind, private) {
        (FileType::Directory, true) => 0o700,
        (FileType::Directory | FileType::Symlink, _) => 0o755,
        (_, true) => 0o600,
        (_, false) => 0o640,
    };
    if writable { full } else { full & !0o222 }
}

/// Whether chmod to `mode` changes nothing: the mode that the path implies with quorum. As in pmxcfs, that of a file
/// is accepted for a directory, too.
pub(super) fn is_own_mode(kind: FileType, private: bool, mode: u32) -> bool {
    let implied = |kind| u32::from(permissions(kind, private, true));
    let mode = mode & MODE_BITS;
    mode == implied(FileType::RegularFile) || mode == implied(kind)
}

/// What the attributes of one entry are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// The number that the kernel knows it by.
    pub(super) ino: u64,
    pub(super) kind: FileType,
    pub(super) perm: u16,
    /// Bytes of content; for a symbolic link of its target.
    pub(super) size: usize,
    /// Whole UTC seconds.
    pub(super) mtime: u32,
    /// Whether it still has a name.
    pub(super) linked: bool,
}

impl Facts {
    /// As the kernel wants it, of the group `gid`.
    pub(super) fn attr(self, gid: u32) -> FileAttr {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.mtime.into());
        let size = self.size as u64;
        let links = if self.kind == FileType::Directory { 2 } else { 1 };
        FileAttr {
            ino: INodeNo(self.ino),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: self.kind,
            perm: self.perm,
            nlink: if self.linked { links } else { 0 },
            uid: 0,
            gid,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private(path: &str) -> bool {
        is_private(&path.parse().expect("a path"))
    }

    #[test]
    fn private_is_what_lies_in_the_two_kinds_of_priv() {
        for path in ["priv", "priv/authkey.key", "priv/lock/x", "nodes/hp1/priv", "nodes/hp1/priv/a/b"] {
            assert!(private(path), "{path}");
        }
        for path in
            ["", "private", "nodes", "nodes/priv", "nodes/hp1/qemu-server/priv", "ha/priv", "nodes/priv/x"]
        {
            assert!(!private(path), "{path}");
        }
    }

    #[test]
    fn the_modes_are_those_of_the_table() {
        use FileType::{Directory, RegularFile, Symlink};
        for (kind, private, quorate, not_quorate) in [
            (Directory, false, 0o755, 0o555),
            (RegularFile, false, 0o640, 0o440),
            (Symlink, false, 0o755, 0o555),
            (Directory, true, 0o700, 0o500),
            (RegularFile, true, 0o600, 0o400),
        ] {
            assert_eq!(permissions(kind, private, true), quorate, "{kind:?}");
            assert_eq!(permissions(kind, private, false), not_quorate, "{kind:?}");
        }
    }

    #[test]
    fn chmod_is_accepted_for_the_implied_mode_alone() {
        let own = |private, mode| is_own_mode(FileType::RegularFile, private, mode);
        assert!(own(false, 0o100_640) && own(true, 0o600));
        for mode in [0o644, 0o600, 0o750, 0o4640, 0] {
            assert!(!own(false, mode), "{mode:o}");
        }
        assert!(!own(true, 0o640));
        assert!(
            is_own_mode(FileType::Directory, false, 0o755) && is_own_mode(FileType::Directory, false, 0o640)
        );
        assert!(!is_own_mode(FileType::Directory, false, 0o777));
    }

    #[test]
    fn a_file_without_a_name_has_no_links() {
        let facts =
            Facts { ino: 9, kind: FileType::RegularFile, perm: 0o640, size: 513, mtime: 7, linked: false };
        let attr = facts.attr(33);
        assert_eq!((attr.nlink, attr.blocks, attr.uid, attr.gid), (0, 2, 0, 33));
        assert_eq!(Facts { linked: true, kind: FileType::Directory, ..facts }.attr(33).nlink, 2);
    }
}
