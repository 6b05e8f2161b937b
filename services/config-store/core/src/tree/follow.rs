//! Following another tree step by step: what a reader's copy of the tree does.

use std::{collections::BTreeSet, sync::Arc};

use super::{Replacement, Tree};
use crate::entry::{Entry, ROOT};

/// Where an entry hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Inode of the directory.
    pub parent: u64,
    /// Its name there.
    pub name: Arc<str>,
}

/// What a step did to one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The entry.
    pub inode: u64,
    /// Where it was; `None` if it is new.
    pub before: Option<Place>,
    /// Where it is; `None` if it is gone.
    pub after: Option<Place>,
    /// Whether the bytes of the file are others than before.
    pub content: bool,
}

impl Tree {
    /// Takes a step that another tree took: its entries replace those of this tree. Nothing is checked; whoever took
    /// the step has done that.
    pub fn follow(&mut self, step: Replacement) -> Vec<Touch> {
        let new: BTreeSet<u64> = step.entries.iter().map(Entry::inode).collect();
        let gone = step.removed.into_iter().filter(|inode| !new.contains(inode));
        let gone: Vec<Entry> = gone.filter_map(|inode| self.remove_entry(inode)).collect();
        // All old places are left before any new one is taken: two entries may have swapped names.
        let old: Vec<Option<Entry>> = new.iter().map(|inode| self.remove_leaf(*inode)).collect();
        let mut entries = step.entries;
        entries.sort_unstable_by_key(Entry::inode);
        entries.dedup_by_key(|entry| entry.inode());
        let changed = old.into_iter().zip(&entries).map(|(old, entry)| Touch {
            inode: entry.inode(),
            before: old.as_ref().map(place),
            after: Some(place(entry)),
            content: old.is_none_or(|old| old.digest() != entry.digest()),
        });
        let removed = gone.iter().map(|entry| Touch {
            inode: entry.inode(),
            before: Some(place(entry)),
            after: None,
            content: true,
        });
        let touches = removed.chain(changed).collect();
        // A directory that came with its entries may have a higher number than they: guests are known by their path,
        // so they are registered when all of it is there.
        let inodes: Vec<u64> = entries.iter().map(Entry::inode).collect();
        entries.into_iter().for_each(|entry| self.insert_entry(entry));
        for inode in inodes {
            if let Some(guest) = self.guest_at(inode) {
                self.guests.insert(guest.vmid, inode);
            }
        }
        self.root = step.root;
        touches
    }

    fn remove_entry(&mut self, inode: u64) -> Option<Entry> {
        let entry = self.remove_leaf(inode)?;
        self.children.remove(&inode);
        Some(entry)
    }

    /// Takes an entry out and leaves its list of children alone.
    fn remove_leaf(&mut self, inode: u64) -> Option<Entry> {
        (inode != ROOT && self.entries.contains_key(&inode)).then(|| self.take(inode))
    }
}

fn place(entry: &Entry) -> Place {
    Place { parent: entry.head().parent, name: entry.head().name.clone() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{Effect, Expect, Operation};

    fn path(text: &str) -> crate::ConfigPath {
        text.parse().unwrap()
    }

    fn put(text: &str, content: &'static str) -> Operation {
        Operation::Put {
            path: path(text),
            expect: Expect::Any,
            content: Bytes::from_static(content.as_bytes()),
        }
    }

    fn rename(from: &str, to: &str) -> Operation {
        Operation::Rename { from: path(from), to: path(to), expect: Expect::Any, no_replace: false }
    }

    fn step(tree: &Tree, effect: &Effect) -> Replacement {
        Replacement {
            root: tree.root(),
            entries: tree.entry(effect.inode).cloned().into_iter().collect(),
            removed: effect.removed.into_iter().collect(),
        }
    }

    fn same(follower: &Tree, leader: &Tree) {
        assert_eq!(follower.checksum(), leader.checksum());
        assert_eq!(follower.guests(), leader.guests());
        assert_eq!(
            (follower.byte_count(), follower.entry_count()),
            (leader.byte_count(), leader.entry_count())
        );
        for entry in leader.entries() {
            assert_eq!(follower.path_of(entry.inode()), leader.path_of(entry.inode()));
            assert_eq!(
                follower.get(&leader.path_of(entry.inode()).unwrap()).map(Entry::inode),
                Some(entry.inode())
            );
        }
    }

    #[test]
    fn a_rename_over_a_file_touches_both() {
        let (mut leader, mut follower) = (Tree::new(), Tree::new());
        for operation in [put("a", "1"), put("b", "2")] {
            let effect = leader.apply(1, 1, &operation).unwrap();
            follower.follow(step(&leader, &effect));
        }
        let effect = leader.apply(1, 2, &rename("a", "b")).unwrap();

        let touches = follower.follow(step(&leader, &effect));

        let seen: Vec<_> = touches.iter().map(|t| (t.inode, t.after.is_some(), t.content)).collect();
        assert_eq!(seen, [(3, false, true), (2, true, false)]);
        same(&follower, &leader);
    }

    #[test]
    fn entries_may_come_before_the_directories_that_hold_them() {
        let mut leader = Tree::new();
        for name in ["nodes", "nodes/hp1", "nodes/hp1/qemu-server"] {
            leader.apply(1, 1, &Operation::Mkdir { path: path(name) }).unwrap();
        }
        leader.apply(1, 1, &put("nodes/hp1/qemu-server/100.conf", "x")).unwrap();
        leader.apply(1, 1, &Operation::Mkdir { path: path("nodes/hp2") }).unwrap();
        leader.apply(1, 1, &Operation::Mkdir { path: path("nodes/hp2/lxc") }).unwrap();
        leader.apply(1, 1, &rename("nodes/hp1/qemu-server/100.conf", "nodes/hp2/lxc/100.conf")).unwrap();
        let whole = Replacement {
            root: leader.root(),
            entries: leader.entries().cloned().collect(),
            removed: vec![],
        };
        let mut follower = Tree::new();

        follower.follow(whole);

        same(&follower, &leader);
    }

    proptest! {
        #[test]
        fn whoever_follows_in_steps_of_any_size_has_the_same_tree(
            choices in proptest::collection::vec((0u8..5, 0usize..6, 0usize..6, any::<bool>()), 1..60)
        ) {
            let names = ["a", "b", "d", "d/x", "d/e", "nodes/hp1/lxc/100.conf"];
            let (mut leader, mut follower) = (Tree::new(), Tree::new());
            let mut inodes = BTreeSet::new();
            for (kind, one, two, hand_over) in choices {
                let operation = match kind {
                    0 => put(names[one], "content"),
                    1 => Operation::Mkdir { path: path(["d", "d/e", "nodes", "nodes/hp1", "nodes/hp1/lxc", "d"][one]) },
                    2 => rename(names[one], names[two]),
                    3 => Operation::Delete { path: path(names[one]), expect: Expect::Any },
                    _ => Operation::SetMtime { path: path(names[one]), mtime: 7 },
                };
                if let Ok(effect) = leader.apply(1, 1, &operation) {
                    inodes.insert(effect.inode);
                    inodes.extend(effect.removed);
                }
                if hand_over {
                    let inodes = std::mem::take(&mut inodes);
                    let entries = inodes.iter().filter_map(|inode| leader.entry(*inode).cloned()).collect();
                    let removed = inodes.into_iter().filter(|inode| leader.entry(*inode).is_none()).collect();
                    follower.follow(Replacement { root: leader.root(), entries, removed });
                    same(&follower, &leader);
                }
            }
        }
    }
}
