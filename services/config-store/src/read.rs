//! Reading the tree: one file, or the entries of a directory in pages.

use bytes::Bytes;
use config_store_core::{ConfigPath, Entry, OperationError, Tree};
use quorate_proto::config::v1 as proto;

use crate::{convert, error::Error};

/// A file and its content.
pub(crate) fn get(tree: &Tree, path: &ConfigPath) -> Result<(proto::Entry, Bytes), Error> {
    let inode = tree.resolve(path).map_err(Error::Entry)?;
    match tree.entry(inode) {
        Some(entry) if !entry.is_directory() => Ok((convert::entry(path, entry), entry.content().clone())),
        _ => Err(Error::Entry(OperationError::IsADirectory { path: path.clone() })),
    }
}

/// Up to `limit` entries of a directory (or all below it), by path, after the path `after`.
pub(crate) fn list(
    tree: &Tree,
    path: &ConfigPath,
    recursive: bool,
    after: &str,
    limit: usize,
) -> Result<Vec<proto::Entry>, Error> {
    let inode = tree.resolve(path).map_err(Error::Entry)?;
    if tree.entry(inode).is_some_and(|entry| !entry.is_directory()) {
        return Err(Error::Entry(OperationError::NotADirectory { path: path.clone() }));
    }
    let mut page = Page { tree, recursive, after, limit, entries: Vec::new() };
    page.collect(inode, path);
    Ok(page.entries)
}

struct Page<'a> {
    tree: &'a Tree,
    recursive: bool,
    after: &'a str,
    limit: usize,
    entries: Vec<proto::Entry>,
}

impl Page<'_> {
    /// Children by name, each directory before what is in it: the order that page tokens refer to.
    fn collect(&mut self, directory: u64, path: &ConfigPath) {
        let children: Vec<&Entry> = self.tree.children(directory).collect();
        for child in children {
            if self.entries.len() == self.limit {
                return;
            }
            let Ok(child_path) = path.join(&child.head().name) else { continue };
            if self.after.is_empty() || order(child_path.as_str()) > order(self.after) {
                self.entries.push(convert::entry(&child_path, child));
            }
            if self.recursive && child.is_directory() {
                self.collect(child.inode(), &child_path);
            }
        }
    }
}

/// Compares paths name by name, so that `a/b` comes before `a-b`, as the walk does.
fn order(path: &str) -> Vec<&str> {
    path.split('/').collect()
}

#[cfg(test)]
mod tests {
    use config_store_core::{Expect, Operation};

    use super::*;

    fn path(text: &str) -> ConfigPath {
        text.parse().expect("a path")
    }

    fn tree() -> Tree {
        let mut tree = Tree::new();
        for directory in ["a", "a-b", "a/sub"] {
            tree.apply(0, 1, &Operation::Mkdir { path: path(directory) }).expect("made");
        }
        for file in ["a/x", "a/sub/y", "z"] {
            let put =
                Operation::Put { path: path(file), expect: Expect::Any, content: Bytes::from_static(b"1") };
            tree.apply(0, 1, &put).expect("written");
        }
        tree
    }

    fn names(entries: &[proto::Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.path.as_str()).collect()
    }

    #[test]
    fn a_directory_lists_its_direct_entries() {
        let entries = list(&tree(), &ConfigPath::root(), false, "", 100).expect("the root");
        assert_eq!(names(&entries), ["a", "a-b", "z"]);
    }

    #[test]
    fn pages_together_list_every_entry_once() {
        let tree = tree();
        let whole = list(&tree, &ConfigPath::root(), true, "", 100).expect("the root");
        let mut paged = Vec::new();
        let mut after = String::new();
        loop {
            let page = list(&tree, &ConfigPath::root(), true, &after, 2).expect("the root");
            let Some(last) = page.last() else { break };
            after.clone_from(&last.path);
            paged.extend(page);
        }
        assert_eq!(names(&paged), names(&whole));
        assert_eq!(names(&whole), ["a", "a/sub", "a/sub/y", "a/x", "a-b", "z"]);
    }

    #[test]
    fn reading_a_directory_and_listing_a_file_say_so() {
        assert!(matches!(get(&tree(), &path("a")), Err(Error::Entry(OperationError::IsADirectory { .. }))));
        assert!(matches!(get(&tree(), &path("no")), Err(Error::Entry(OperationError::NotFound { .. }))));
        let listed = list(&tree(), &path("z"), false, "", 9);
        assert!(matches!(listed, Err(Error::Entry(OperationError::NotADirectory { .. }))));
    }
}
