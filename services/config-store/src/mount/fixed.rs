//! What exists in the mount's root and nowhere in the tree: links to this node's directories, and generated files.
//!
//! They shadow entries of the tree of the same name, and cannot be written over, renamed or removed. Source: pmxcfs
//! specification, section 2.1.

use fuser::FileType;
use quorate_types::NodeName;

use crate::generated::GeneratedFile;

/// The number of the first one; the root has 1.
const FIRST: u64 = 2;

/// An entry of the root that is not in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fixed {
    /// A link to this node's directory, or to one in it. `local` is the probe for quorum and for the mount itself.
    Link {
        name: &'static str,
        below: &'static str,
    },
    Generated(GeneratedFile),
}

const LINKS: [Fixed; 4] = [
    Fixed::Link { name: "local", below: "" },
    Fixed::Link { name: "qemu-server", below: "/qemu-server" },
    Fixed::Link { name: "lxc", below: "/lxc" },
    Fixed::Link { name: "openvz", below: "/openvz" },
];

impl Fixed {
    /// All of them with their numbers.
    pub(super) fn all() -> impl Iterator<Item = (u64, Self)> {
        (FIRST..).zip(LINKS.into_iter().chain(GeneratedFile::ALL.map(Self::Generated)))
    }

    /// The one with this number.
    pub(super) fn of(ino: u64) -> Option<Self> {
        Self::all().find(|(own, _)| *own == ino).map(|(_, fixed)| fixed)
    }

    /// The one with this name, and its number.
    pub(super) fn named(name: &str) -> Option<(u64, Self)> {
        Self::all().find(|(_, fixed)| fixed.name() == name)
    }

    /// Its name in the root directory.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Link { name, .. } => name,
            Self::Generated(file) => file.name(),
        }
    }

    pub(super) fn kind(self) -> FileType {
        match self {
            Self::Link { .. } => FileType::Symlink,
            Self::Generated(_) => FileType::RegularFile,
        }
    }

    /// Where a link points on the node of this name; empty for a file.
    pub(super) fn target(self, node: &NodeName) -> String {
        match self {
            Self::Link { below, .. } => format!("nodes/{node}{below}"),
            Self::Generated(_) => String::new(),
        }
    }
}

/// The modes of a generated file, which do not depend on quorum.
pub(super) fn permissions(file: GeneratedFile) -> u16 {
    if file == GeneratedFile::Debug { 0o640 } else { 0o440 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_to_the_same_entries() {
        for (ino, fixed) in Fixed::all() {
            assert_eq!(Fixed::of(ino), Some(fixed));
            assert_eq!(Fixed::named(fixed.name()), Some((ino, fixed)));
        }
        assert_eq!(Fixed::all().count(), 10);
        assert_eq!((Fixed::of(1), Fixed::of(12), Fixed::named("nodes")), (None, None, None));
    }

    #[test]
    fn links_lead_to_this_node() {
        let node = "hp1".parse().expect("a name");
        let target = |name| Fixed::named(name).expect("known").1.target(&node);
        assert_eq!(target("local"), "nodes/hp1");
        assert_eq!(target("lxc"), "nodes/hp1/lxc");
    }
}
