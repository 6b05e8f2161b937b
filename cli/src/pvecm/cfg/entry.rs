//! A file or directory of the shared tree, as it is printed.

use quorate_proto::config::v1 as proto;
use serde::Serialize;

use crate::{
    error::Error,
    output::printable,
    time::{local, timestamp},
};

/// A file or directory, as `-o json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    pub(super) path: String,
    /// `file` or `directory`.
    pub(super) kind: &'static str,
    /// In bytes; 0 for a directory.
    pub(super) size: u64,
    /// Version of the tree at its last change.
    pub(super) version: u64,
    /// Node id of the last writer; 0 if it was written outside a cluster.
    pub(super) writer: u32,
    /// RFC 3339 in UTC, by the writer's clock.
    pub(super) modified: Option<String>,
    #[serde(skip)]
    local_time: String,
}

impl From<proto::Entry> for Entry {
    fn from(entry: proto::Entry) -> Self {
        let is_directory = entry.kind() == proto::EntryKind::Directory;
        let modified = timestamp(entry.modified.as_ref());
        Self {
            path: entry.path,
            kind: if is_directory { "directory" } else { "file" },
            size: entry.size,
            version: entry.version,
            writer: entry.writer,
            modified: modified.map(|time| time.to_string()),
            local_time: modified.map_or_else(|| "-".to_owned(), local),
        }
    }
}

impl Entry {
    /// The entry in an answer that must have one.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if it has none.
    pub(super) fn of(entry: Option<proto::Entry>) -> Result<Self, Error> {
        entry.map(Self::from).ok_or(Error::Incomplete("the answer"))
    }

    /// Its path as a person reads it, with a slash behind a directory.
    pub(super) fn name(&self) -> String {
        let slash = if self.kind == "directory" { "/" } else { "" };
        format!("{}{slash}", printable(&self.path))
    }

    /// Version, writer, size, time and name: a row of the long list.
    pub(super) fn row(&self) -> Vec<String> {
        let numbers = [self.version.to_string(), self.writer.to_string(), self.size.to_string()];
        numbers.into_iter().chain([self.local_time.clone(), self.name()]).collect()
    }
}
