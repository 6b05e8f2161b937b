//! The files of the tree's root that are made up when they are read: their names, and who makes them up.
//!
//! Source: pmxcfs specification, sections 2.1 and 4.

mod clusterlog;
mod json;
mod members;
mod rrd;
mod version;
mod vmlist;

use bytes::Bytes;

pub(crate) use clusterlog::{LOG_ENTRIES, clusterlog};
pub(crate) use members::{Member, Members, members};
pub(crate) use rrd::rrd;
pub(crate) use version::{TRACKED, Version, version};
pub(crate) use vmlist::{GuestLine, vmlist};

/// A generated file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum GeneratedFile {
    /// `.version`: counters that tell what changed.
    Version,
    /// `.members`: the nodes and who is online.
    Members,
    /// `.vmlist`: all guests and where they are.
    Vmlist,
    /// `.clusterlog`: the newest entries of the cluster's log.
    Clusterlog,
    /// `.rrd`: the newest figures of nodes, guests and storages.
    Rrd,
    /// `.debug`: whether debug messages are logged; the only one that can be written.
    Debug,
}

impl GeneratedFile {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Version, Self::Members, Self::Vmlist, Self::Clusterlog, Self::Rrd, Self::Debug];

    /// The file with this name, if there is one.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name() == name)
    }

    /// Its name in the root directory.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Version => ".version",
            Self::Members => ".members",
            Self::Vmlist => ".vmlist",
            Self::Clusterlog => ".clusterlog",
            Self::Rrd => ".rrd",
            Self::Debug => ".debug",
        }
    }
}

/// Makes up generated files.
pub(crate) trait Generated: Send + Sync {
    /// The content at this moment.
    fn content(&self, file: GeneratedFile) -> Bytes;

    /// Someone wrote to `.debug`.
    fn set_debug(&self, on: bool);
}
