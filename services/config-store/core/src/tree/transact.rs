//! Operations one by one or as a transaction: what each did, and how all of it is taken back.

use super::{Effect, OperationError, Root, Touched, Tree, check::Plan};
use crate::{
    entry::{Entry, ROOT},
    log::ChangeKind,
    operation::Operation,
    path::ConfigPath,
};

/// One change that was performed, with what it replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it did.
    pub effect: Effect,
    /// The path of the entry after it; for a deletion the path it had.
    pub path: ConfigPath,
    /// The path before a rename.
    pub from: Option<ConfigPath>,
    /// The entry before it; `None` if it is new.
    pub before: Option<Entry>,
    /// Another entry that a rename replaced.
    pub over: Option<Entry>,
    /// The entry right after it; `None` if it is gone.
    pub after: Option<Entry>,
}

impl Tree {
    /// Performs an operation of `origin` at its time `mtime`; each change as the tree's next version. None for a check;
    /// of a transaction one for each operation that is no check.
    ///
    /// # Errors
    /// [`OperationError`] when the operation, or one of a transaction, is refused; the tree is untouched then.
    pub fn transact(
        &mut self,
        origin: u32,
        mtime: u32,
        operation: &Operation,
    ) -> Result<Vec<Step>, OperationError> {
        let Operation::Transaction(transaction) = operation else {
            return Ok(self.step(origin, mtime, operation)?.into_iter().collect());
        };
        let root = self.root;
        let mut steps = Vec::with_capacity(transaction.operations().len());
        for (index, operation) in transaction.operations().iter().enumerate() {
            match self.step(origin, mtime, operation) {
                Ok(step) => steps.extend(step),
                Err(source) => {
                    self.take_back(steps, root);
                    let (path, source) = (operation.path().clone(), Box::new(source));
                    return Err(OperationError::InTransaction { index, path, source });
                }
            }
        }
        Ok(steps)
    }

    /// Performs an operation; the effect is that of its last change. A check has none but on the root, with the present
    /// version.
    ///
    /// # Errors
    /// As [`Tree::transact`].
    pub fn apply(
        &mut self,
        origin: u32,
        mtime: u32,
        operation: &Operation,
    ) -> Result<Effect, OperationError> {
        let last = self.transact(origin, mtime, operation)?.pop();
        let (version, kind) = (self.root.version, ChangeKind::Touched);
        let nothing = Effect { version, inode: ROOT, kind, touched: Touched::Head, removed: None };
        Ok(last.map_or(nothing, |step| step.effect))
    }

    fn step(
        &mut self,
        origin: u32,
        mtime: u32,
        operation: &Operation,
    ) -> Result<Option<Step>, OperationError> {
        let plan = self.check(origin, operation)?;
        let (inode, over) = match &plan {
            Plan::Nothing | Plan::Insert { .. } => (None, None),
            Plan::Replace { inode, .. } | Plan::Touch { inode, .. } | Plan::Remove { inode } => {
                (Some(*inode), None)
            }
            Plan::Move { inode, over, .. } => (Some(*inode), *over),
        };
        let entry = |inode: Option<u64>| self.entry(inode?).cloned();
        let (before, over) = (entry(inode), entry(over));
        let Some(effect) = self.perform(plan, origin, mtime) else { return Ok(None) };
        let (path, from) = match operation {
            Operation::Rename { from, to, .. } => (to.clone(), Some(from.clone())),
            other => (other.path().clone(), None),
        };
        let after = self.entry(effect.inode).cloned();
        Ok(Some(Step { effect, path, from, before, over, after }))
    }

    /// Undoes steps, the last first, so that every directory is there again before what was in it.
    fn take_back(&mut self, steps: Vec<Step>, root: Root) {
        for step in steps.into_iter().rev() {
            if let Some(after) = step.after {
                self.take(after.inode());
                if step.before.is_none() {
                    self.children.remove(&after.inode());
                }
            }
            step.before.into_iter().chain(step.over).for_each(|entry| self.insert_entry(entry));
        }
        self.root = root;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{Expect, Transaction};

    fn path(text: &str) -> ConfigPath {
        text.parse().unwrap()
    }

    fn put(text: &str, expect: Expect, content: &'static str) -> Operation {
        Operation::Put { path: path(text), expect, content: Bytes::from_static(content.as_bytes()) }
    }

    fn mkdir(text: &str) -> Operation {
        Operation::Mkdir { path: path(text) }
    }

    fn rename(from: &str, to: &str) -> Operation {
        Operation::Rename { from: path(from), to: path(to), expect: Expect::Any, no_replace: false }
    }

    fn check(text: &str, expect: Expect) -> Operation {
        Operation::Check { path: path(text), expect }
    }

    fn together(operations: Vec<Operation>) -> Operation {
        Operation::Transaction(Transaction::new(operations).unwrap())
    }

    fn guests() -> Tree {
        let mut tree = Tree::new();
        let directories = ["nodes", "nodes/a", "nodes/a/qemu-server", "nodes/b", "nodes/b/qemu-server"];
        for name in directories {
            tree.apply(1, 1, &mkdir(name)).unwrap();
        }
        tree.apply(1, 1, &put("nodes/a/qemu-server/100.conf", Expect::Any, "x")).unwrap();
        tree
    }

    /// Everything that can be told apart.
    fn same(one: &Tree, other: &Tree) {
        assert_eq!(one.checksum(), other.checksum());
        assert_eq!(one.root(), other.root());
        assert_eq!(one.guests(), other.guests());
        assert_eq!((one.byte_count(), one.entry_count()), (other.byte_count(), other.entry_count()));
        assert_eq!(one.children, other.children);
    }

    #[test]
    fn each_change_has_a_version_of_its_own_and_a_check_has_none() {
        let mut tree = Tree::new();
        let operations = vec![
            check("d", Expect::Absent),
            mkdir("d"),
            put("d/f", Expect::Absent, "1"),
            check("d/f", Expect::Version(3)),
            put("d/f", Expect::Version(3), "2"),
        ];
        let steps = tree.transact(7, 70, &together(operations)).unwrap();
        let seen: Vec<_> = steps.iter().map(|step| (step.effect.version, step.effect.inode)).collect();
        assert_eq!(seen, [(2, 2), (3, 3), (4, 3)]);
        assert_eq!(
            tree.get(&path("d/f")).map(|entry| entry.content().clone()),
            Some(Bytes::from_static(b"2"))
        );
        assert_eq!(
            steps[2].before.as_ref().map(|entry| entry.content().clone()),
            Some(Bytes::from_static(b"1"))
        );
    }

    #[test]
    fn a_refusal_names_the_operation_and_takes_everything_back() {
        let mut tree = guests();
        let before = tree.clone();
        let operations = vec![
            put("storage.cfg", Expect::Any, "new"),
            rename("nodes/a/qemu-server/100.conf", "nodes/b/qemu-server/100.conf"),
            check("datacenter.cfg", Expect::Present),
        ];
        let refused = tree.transact(2, 2, &together(operations)).unwrap_err();
        let source = Box::new(OperationError::NotFound { path: path("datacenter.cfg") });
        assert_eq!(refused, OperationError::InTransaction { index: 2, path: path("datacenter.cfg"), source });
        same(&tree, &before);
    }

    #[test]
    fn a_guest_moves_and_another_file_changes_with_it() {
        let mut tree = guests();
        let (a, b) = ("nodes/a/qemu-server/100.conf", "nodes/b/qemu-server/100.conf");
        let operations = vec![check(a, Expect::Digest(*tree.get(&path(a)).unwrap().digest())), rename(a, b)];
        let state = put("ha", Expect::Any, "started on b");
        tree.transact(1, 1, &together([operations, vec![state]].concat())).unwrap();
        assert_eq!(tree.guests().get(&100).and_then(|inode| tree.path_of(*inode)), Some(path(b)));
    }

    #[test]
    fn a_vmid_is_unique_within_a_transaction_too() {
        let mut tree = guests();
        let twice = vec![
            put("nodes/a/qemu-server/101.conf", Expect::Any, "x"),
            put("nodes/b/qemu-server/101.conf", Expect::Any, "x"),
        ];
        let refused = tree.transact(1, 1, &together(twice)).unwrap_err();
        assert!(matches!(refused.cause(), OperationError::GuestExists { vmid: 101, .. }), "{refused}");
        let replaced = vec![
            Operation::Delete { path: path("nodes/a/qemu-server/100.conf"), expect: Expect::Any },
            put("nodes/b/qemu-server/100.conf", Expect::Absent, "x"),
        ];
        tree.transact(1, 1, &together(replaced)).unwrap();
    }

    #[test]
    fn a_lock_of_another_node_holds_against_a_transaction() {
        let mut tree = Tree::new();
        ["priv", "priv/lock", "priv/lock/x"].iter().for_each(|name| drop(tree.apply(1, 9, &mkdir(name))));
        let before = tree.clone();
        let touch = Operation::SetMtime { path: path("priv/lock/x"), mtime: 99 };
        let refused = tree.transact(2, 9, &together(vec![mkdir("d"), touch])).unwrap_err();
        assert!(matches!(refused.cause(), OperationError::LockHeld { holder: 1, .. }), "{refused}");
        same(&tree, &before);
    }

    fn choices() -> impl Strategy<Value = Vec<Operation>> {
        let names = ["a", "b", "d", "d/x", "d/e", "nodes", "nodes/a", "nodes/a/lxc", "nodes/a/lxc/100.conf"];
        let any = (0..6, 0..names.len(), 0..names.len());
        let operation = any.prop_map(move |(kind, one, two)| match kind {
            0 => put(names[one], Expect::Any, "content"),
            1 => mkdir(names[one]),
            2 => rename(names[one], names[two]),
            3 => Operation::Delete { path: path(names[one]), expect: Expect::Any },
            4 => Operation::SetMtime { path: path(names[one]), mtime: 7 },
            _ => check(names[one], Expect::Present),
        });
        proptest::collection::vec(operation, 1..8)
    }

    proptest! {
        #[test]
        fn a_transaction_does_what_its_operations_do_or_nothing(all in proptest::collection::vec(choices(), 1..20)) {
            let mut tree = Tree::new();
            for operations in all {
                let (before, mut single) = (tree.clone(), tree.clone());
                let expected = operations.iter().try_for_each(|one| single.apply(3, 4, one).map(drop));
                let result = tree.transact(3, 4, &together(operations));
                prop_assert_eq!(result.is_ok(), expected.is_ok());
                same(&tree, if result.is_ok() { &single } else { &before });
            }
        }
    }
}
