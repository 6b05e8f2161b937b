//! Changes of the tree that happen together or not at all.

use bytes::Bytes;
use quorate_proto::config::v1::{TransactOperation, transact_operation as wire};

/// Most changes of one transaction. Source: `TransactRequest.operations`.
pub const BATCH_MAX: usize = 256;

/// Changes, in the order in which they are made.
#[derive(Debug, Clone, Default)]
pub struct Batch(Vec<wire::Operation>);

impl Batch {
    /// Writes a file whose directory exists. With `expected` only if its version is that; 0 stands for no file.
    pub fn put(&mut self, path: impl Into<String>, content: impl Into<Bytes>, expected: Option<u64>) {
        let (path, content) = (path.into(), content.into());
        self.0.push(wire::Operation::Put(wire::Put { path, content, expected_version: expected }));
    }

    /// Makes a directory that does not exist, in one that does.
    pub fn make_directory(&mut self, path: impl Into<String>) {
        self.0.push(wire::Operation::Mkdir(wire::Mkdir { path: path.into() }));
    }

    /// Gives a file another path, which is free.
    pub fn rename(&mut self, from: impl Into<String>, to: impl Into<String>) {
        let (from, to) = (from.into(), to.into());
        self.0.push(wire::Operation::Rename(wire::Rename {
            from,
            to,
            expected_version: None,
            no_replace: true,
        }));
    }

    /// Deletes a file or an empty directory; with `expected` only in that version.
    pub fn delete(&mut self, path: impl Into<String>, expected: Option<u64>) {
        self.0.push(wire::Operation::Delete(wire::Delete { path: path.into(), expected_version: expected }));
    }

    /// Adds all of another batch after what there is.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the first `count` changes, or all if there are fewer.
    #[must_use]
    pub fn take(&mut self, count: usize) -> Self {
        let rest = self.0.split_off(count.min(self.0.len()));
        Self(std::mem::replace(&mut self.0, rest))
    }

    /// As configd takes them.
    #[must_use]
    pub fn into_operations(self) -> Vec<TransactOperation> {
        let operation = |operation| TransactOperation { operation: Some(operation) };
        self.0.into_iter().map(operation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_cuts_a_batch_in_order() {
        let mut batch = Batch::default();
        for path in ["a", "b", "c"] {
            batch.make_directory(path);
        }
        assert_eq!(batch.take(2).len(), 2);
        let left = batch.take(9).into_operations();
        assert!(
            matches!(&left[..], [TransactOperation { operation: Some(wire::Operation::Mkdir(made)) }] if made.path == "c")
        );
        assert!(batch.is_empty());
    }
}
