//! The tree against a model that is obviously right: a map from paths to contents.

#![allow(clippy::unwrap_used, reason = "a test program: what is not there fails it")]

use std::collections::BTreeMap;

use bytes::Bytes;
use config_store_core::{ConfigPath, Entry, Expect, FILE_MAX, Operation, Replacement, Tree};
use proptest::prelude::*;

/// `None` is a directory.
type Model = BTreeMap<String, Option<Vec<u8>>>;

fn parent_is_directory(model: &Model, path: &str) -> bool {
    path.rsplit_once('/').is_none_or(|(parent, _)| model.get(parent) == Some(&None))
}

fn is_empty(model: &Model, path: &str) -> bool {
    !model.keys().any(|other| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
}

/// What the operation makes of the model; `None` if it must be refused.
fn expected(model: &Model, operation: &Operation) -> Option<Model> {
    let mut next = model.clone();
    let path = operation.path().as_str();
    let old = model.get(path);
    if path.is_empty() || !parent_is_directory(model, path) {
        return None;
    }
    match operation {
        Operation::Create { .. } | Operation::Mkdir { .. } if old.is_some() => return None,
        Operation::Create { .. } => drop(next.insert(path.into(), Some(vec![]))),
        Operation::Mkdir { .. } => drop(next.insert(path.into(), None)),
        Operation::Put { content, expect, .. } => {
            let met = match (old, expect) {
                (Some(None), _) | (Some(_), Expect::Absent) | (None, Expect::Present) => false,
                _ => content.len() <= FILE_MAX,
            };
            next.insert(path.into(), Some(content.to_vec()));
            return met.then_some(next);
        }
        Operation::Write { offset, truncate, content, .. } => {
            let mut file = old?.clone()?;
            let (start, end) = (*offset as usize, *offset as usize + content.len());
            if end > FILE_MAX {
                return None;
            }
            let size = if *truncate { end } else { end.max(file.len()) };
            file.resize(size, 0);
            file[start..end].copy_from_slice(content);
            next.insert(path.into(), Some(file));
        }
        Operation::Delete { .. } => {
            old?;
            next.remove(path);
            return is_empty(model, path).then_some(next);
        }
        Operation::SetMtime { .. } => drop(old?),
        Operation::Rename { to, no_replace, .. } => return renamed(model, path, to.as_str(), *no_replace),
        // Tested against single operations, next to their code.
        Operation::Check { .. } | Operation::Transaction(_) => unreachable!("not among the operations below"),
    }
    Some(next)
}

fn renamed(model: &Model, from: &str, to: &str, no_replace: bool) -> Option<Model> {
    let moved = model.get(from)?.clone();
    let target = model.get(to);
    let directory = moved.is_none();
    let refused = to.is_empty()
        || !parent_is_directory(model, to)
        || (target.is_some() && no_replace)
        || (directory && !is_empty(model, from))
        || to.strip_prefix(from).is_some_and(|rest| rest.starts_with('/'))
        || target.is_some_and(|target| target.is_none() != directory || !is_empty(model, to));
    if refused {
        return None;
    }
    let mut next = model.clone();
    next.remove(from);
    next.insert(to.into(), moved);
    Some(next)
}

fn contents(tree: &Tree) -> Model {
    let line = |entry: &Entry| {
        let path = tree.path_of(entry.inode()).unwrap().to_string();
        (path, (!entry.is_directory()).then(|| entry.content().to_vec()))
    };
    tree.entries().map(line).collect()
}

fn paths() -> impl Strategy<Value = ConfigPath> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    proptest::collection::vec(name, 0..4).prop_map(|names| names.join("/").parse().unwrap())
}

fn operations() -> impl Strategy<Value = Operation> {
    let content = proptest::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from);
    let expect = prop_oneof![Just(Expect::Any), Just(Expect::Absent), Just(Expect::Present)];
    prop_oneof![
        2 => paths().prop_map(|path| Operation::Create { path }),
        4 => paths().prop_map(|path| Operation::Mkdir { path }),
        3 => (paths(), expect, content.clone())
            .prop_map(|(path, expect, content)| Operation::Put { path, expect, content }),
        2 => (paths(), 0u32..20, any::<bool>(), content)
            .prop_map(|(path, offset, truncate, content)| Operation::Write { path, offset, truncate, content }),
        3 => (paths(), paths(), any::<bool>()).prop_map(|(from, to, no_replace)| {
            Operation::Rename { from, to, expect: Expect::Any, no_replace }
        }),
        2 => paths().prop_map(|path| Operation::Delete { path, expect: Expect::Any }),
        1 => paths().prop_map(|path| Operation::SetMtime { path, mtime: 7 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_tree_does_what_the_model_does(operations in proptest::collection::vec(operations(), 1..60)) {
        let (mut tree, mut model) = (Tree::new(), Model::new());
        for operation in &operations {
            let (version, checksum) = (tree.version(), tree.checksum());
            match (tree.apply(1, 1, operation), expected(&model, operation)) {
                (Ok(effect), Some(next)) => {
                    model = next;
                    prop_assert_eq!(effect.version, version + 1);
                }
                (Err(_), None) => prop_assert_eq!(tree.checksum(), checksum),
                (result, next) => prop_assert!(false, "{operation:?}: {result:?}, expected {next:?}"),
            }
            prop_assert_eq!(contents(&tree), model.clone());
        }
        let bytes: usize = model.values().flatten().map(Vec::len).sum();
        prop_assert_eq!((tree.entry_count(), tree.byte_count()), (model.len(), bytes));
        for path in model.keys() {
            let path: ConfigPath = path.parse().unwrap();
            let entry = tree.get(&path).unwrap();
            prop_assert_eq!(tree.path_of(entry.inode()), Some(path));
        }
    }

    #[test]
    fn the_running_checksum_is_that_of_a_tree_made_of_the_same_entries(
        operations in proptest::collection::vec(operations(), 1..60),
    ) {
        let mut tree = Tree::new();
        for operation in &operations {
            let _ = tree.apply(3, 9, operation);
        }
        let entries = tree.entries().rev().cloned().collect();
        let again = Tree::new().replaced(Replacement { root: tree.root(), entries, removed: vec![] });
        prop_assert_eq!(again.map(|again| again.checksum()), Ok(tree.checksum()));
    }

    #[test]
    fn a_prefix_and_what_changed_since_make_the_whole(
        before in proptest::collection::vec(operations(), 1..40),
        after in proptest::collection::vec(operations(), 1..40),
    ) {
        // given: a latecomer that stopped after the first operations
        let mut tree = Tree::new();
        for operation in &before {
            let _ = tree.apply(1, 1, operation);
        }
        let latecomer = tree.clone();
        let mut removed = Vec::new();
        for operation in &after {
            removed.extend(tree.apply(2, 2, operation).ok().and_then(|effect| effect.removed));
        }

        // when: it gets the entries with a later version, and what was removed
        let changed = tree.entries().filter(|entry| entry.head().version > latecomer.version());
        let entries = changed.cloned().collect();
        let caught_up = latecomer.replaced(Replacement { root: tree.root(), entries, removed });

        // then
        prop_assert_eq!(caught_up.map(|caught_up| caught_up.checksum()), Ok(tree.checksum()));
    }
}
