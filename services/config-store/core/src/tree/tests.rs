//! The rules of single operations, each with its answer.

use bytes::Bytes;

use super::*;
use crate::{
    log::ChangeKind,
    operation::{Expect, Operation},
};

fn path(text: &str) -> ConfigPath {
    text.parse().unwrap()
}

fn mkdir(text: &str) -> Operation {
    Operation::Mkdir { path: path(text) }
}

fn create(text: &str) -> Operation {
    Operation::Create { path: path(text) }
}

fn put(text: &str, content: &[u8]) -> Operation {
    Operation::Put { path: path(text), expect: Expect::Any, content: Bytes::copy_from_slice(content) }
}

fn put_if(text: &str, expect: Expect) -> Operation {
    Operation::Put { path: path(text), expect, content: Bytes::from_static(b"new") }
}

fn write(text: &str, offset: u32, truncate: bool, content: &[u8]) -> Operation {
    Operation::Write { path: path(text), offset, truncate, content: Bytes::copy_from_slice(content) }
}

fn rename(from: &str, to: &str) -> Operation {
    Operation::Rename { from: path(from), to: path(to), expect: Expect::Any, no_replace: false }
}

fn delete(text: &str) -> Operation {
    Operation::Delete { path: path(text), expect: Expect::Any }
}

fn tree(operations: &[Operation]) -> Tree {
    let mut tree = Tree::new();
    for operation in operations {
        tree.apply(1, 1000, operation).unwrap();
    }
    tree
}

/// Asserts the refusal, and that it changed nothing.
fn refused(tree: &mut Tree, operation: &Operation) -> OperationError {
    let before = (tree.checksum(), tree.root(), tree.byte_count());
    let error = tree.apply(2, 2000, operation).unwrap_err();
    assert_eq!((tree.checksum(), tree.root(), tree.byte_count()), before);
    error
}

#[test]
fn versions_and_inodes_count_as_the_reference_does() {
    // given: the reference's test vector, a hundred files, each created and then written
    let mut tree = Tree::new();
    assert_eq!(tree.version(), 1);

    // when
    for index in 0..100 {
        tree.apply(0, 1234, &create(&format!("testfile{index}"))).unwrap();
        tree.apply(0, 1234, &write(&format!("testfile{index}"), 0, false, &[0; 32768])).unwrap();
    }

    // then: version 201, last inode 200 (pmxcfs specification, section 8.8)
    assert_eq!(tree.version(), 201);
    assert_eq!(tree.entries().next_back().unwrap().inode(), 200);
    assert_eq!(tree.byte_count(), 100 * 32768);
}

#[test]
fn an_entry_carries_the_originators_clock_and_number() {
    let mut tree = tree(&[mkdir("priv")]);
    let effect = tree.apply(7, 4321, &put("priv/x", b"hello")).unwrap();
    let head = tree.get(&path("priv/x")).unwrap().head();
    assert_eq!((head.inode, head.version, head.writer, head.mtime), (3, 3, 7, 4321));
    assert_eq!(tree.root(), Root { version: 3, writer: 7, mtime: 4321 });
    assert_eq!(effect.kind, ChangeKind::Created(Kind::File));
    assert_eq!(tree.get(&path("priv")).unwrap().head().mtime, 1000, "a directory's mtime stays");
}

#[test]
fn names_that_exist_or_lead_nowhere_are_refused() {
    let mut tree = tree(&[mkdir("d"), create("f")]);
    for (operation, error) in [
        (create("f"), OperationError::AlreadyExists { path: path("f") }),
        (mkdir("d"), OperationError::AlreadyExists { path: path("d") }),
        (create("x/y"), OperationError::NotFound { path: path("x") }),
        (create("f/y"), OperationError::NotADirectory { path: path("f") }),
        (create("f/y/z"), OperationError::NotADirectory { path: path("f") }),
        (put("d", b""), OperationError::IsADirectory { path: path("d") }),
        (write("d", 0, true, b""), OperationError::IsADirectory { path: path("d") }),
        (write("x", 0, true, b""), OperationError::NotFound { path: path("x") }),
        (delete("x"), OperationError::NotFound { path: path("x") }),
        (rename("x", "y"), OperationError::NotFound { path: path("x") }),
        (delete(""), OperationError::IsRoot),
        (mkdir(""), OperationError::IsRoot),
        (rename("d", ""), OperationError::IsRoot),
        (put("", b""), OperationError::IsRoot),
    ] {
        assert_eq!(refused(&mut tree, &operation), error, "{operation:?}");
    }
}

#[test]
fn a_directory_is_removed_and_renamed_only_when_empty() {
    let mut tree = tree(&[mkdir("d"), create("d/f"), mkdir("e"), create("e/f"), mkdir("empty")]);
    assert_eq!(refused(&mut tree, &delete("d")), OperationError::NotEmpty { path: path("d") });
    assert_eq!(refused(&mut tree, &rename("d", "x")), OperationError::NotEmpty { path: path("d") });
    assert_eq!(refused(&mut tree, &rename("empty", "e")), OperationError::NotEmpty { path: path("e") });
    tree.apply(1, 1, &delete("d/f")).unwrap();
    tree.apply(1, 1, &rename("empty", "d")).unwrap();
    assert!(tree.get(&path("empty")).is_none());
    assert_eq!(tree.get(&path("d")).unwrap().inode(), 6);
}

#[test]
fn a_rename_replaces_a_file_in_one_step_and_keeps_the_inode() {
    let mut tree = tree(&[put("x.cfg", b"old"), put("x.cfg.tmp.1", b"new")]);
    let effect = tree.apply(2, 2000, &rename("x.cfg.tmp.1", "x.cfg")).unwrap();
    let entry = tree.get(&path("x.cfg")).unwrap();
    assert_eq!((entry.inode(), &entry.content()[..]), (3, &b"new"[..]));
    assert_eq!((entry.head().version, entry.head().writer), (4, 2));
    assert_eq!((effect.removed, effect.touched), (Some(2), Touched::Head));
    assert_eq!((tree.entry_count(), tree.byte_count()), (1, 3));
}

#[test]
fn a_rename_never_mixes_files_and_directories() {
    let mut tree = tree(&[mkdir("d"), create("f")]);
    assert_eq!(refused(&mut tree, &rename("f", "d")), OperationError::IsADirectory { path: path("d") });
    assert_eq!(refused(&mut tree, &rename("d", "f")), OperationError::NotADirectory { path: path("f") });
    let careful = Operation::Rename { from: path("f"), to: path("f"), expect: Expect::Any, no_replace: true };
    assert_eq!(refused(&mut tree, &careful), OperationError::AlreadyExists { path: path("f") });
}

#[test]
fn a_directory_cannot_move_below_itself() {
    let mut tree = tree(&[mkdir("d")]);
    let error = refused(&mut tree, &rename("d", "d/e"));
    assert_eq!(error, OperationError::IntoItself { path: path("d") });
}

#[test]
fn renaming_an_entry_to_itself_is_one_harmless_version() {
    let mut tree = tree(&[put("f", b"x")]);
    tree.apply(1, 1, &rename("f", "f")).unwrap();
    assert_eq!((tree.version(), tree.entry_count(), tree.byte_count()), (3, 1, 1));
}

#[test]
fn expectations_guard_an_update() {
    let mut tree = tree(&[put("f", b"x")]);
    let digest = *tree.get(&path("f")).unwrap().digest();
    let changed = OperationError::Changed { path: path("f"), version: 2 };
    let missing = OperationError::NotFound { path: path("g") };
    assert_eq!(
        refused(&mut tree, &put_if("f", Expect::Absent)),
        OperationError::AlreadyExists { path: path("f") }
    );
    assert_eq!(refused(&mut tree, &put_if("f", Expect::Version(1))), changed);
    assert_eq!(refused(&mut tree, &put_if("f", Expect::Digest([0; 32]))), changed);
    assert_eq!(refused(&mut tree, &put_if("g", Expect::Present)), missing);
    assert_eq!(refused(&mut tree, &put_if("g", Expect::Version(2))), missing);
    tree.apply(1, 1, &put_if("f", Expect::Digest(digest))).unwrap();
    tree.apply(1, 1, &put_if("f", Expect::Version(3))).unwrap();
    tree.apply(1, 1, &put_if("g", Expect::Absent)).unwrap();
}

#[test]
fn writes_extend_with_zeros_and_truncate() {
    let mut tree = tree(&[put("f", b"abc")]);
    tree.apply(1, 1, &write("f", 5, false, b"xy")).unwrap();
    assert_eq!(&tree.get(&path("f")).unwrap().content()[..], b"abc\0\0xy");
    tree.apply(1, 1, &write("f", 1, false, b"BC")).unwrap();
    assert_eq!(&tree.get(&path("f")).unwrap().content()[..], b"aBC\0\0xy");
    tree.apply(1, 1, &write("f", 2, true, b"")).unwrap();
    assert_eq!(&tree.get(&path("f")).unwrap().content()[..], b"aB");
    tree.apply(1, 1, &write("f", 4, true, b"")).unwrap();
    assert_eq!(&tree.get(&path("f")).unwrap().content()[..], b"aB\0\0");
}

#[test]
fn a_file_of_exactly_one_mebibyte_is_the_largest() {
    let mut tree = tree(&[put("f", &vec![1; FILE_MAX])]);
    let too_large = OperationError::FileTooLarge { path: path("f"), size: FILE_MAX + 1 };
    assert_eq!(refused(&mut tree, &put("f", &vec![1; FILE_MAX + 1])), too_large);
    assert_eq!(refused(&mut tree, &write("f", FILE_MAX as u32, false, b"x")), too_large);
    let far = refused(&mut tree, &write("f", u32::MAX, false, b"x"));
    assert!(matches!(far, OperationError::FileTooLarge { .. }));
}

#[test]
fn the_whole_tree_has_a_limit_that_shrinking_never_meets() {
    let content = vec![0; FILE_MAX];
    let mut tree = Tree::new();
    for index in 0..128 {
        tree.apply(1, 1, &put(&format!("f{index}"), &content)).unwrap();
    }
    let full = OperationError::TreeFull { size: TREE_BYTES_MAX + 1 };
    assert_eq!(refused(&mut tree, &put("g", b"x")), full);
    tree.apply(1, 1, &put("f0", b"x")).unwrap();
    tree.apply(1, 1, &put("g", b"x")).unwrap();
}

#[test]
fn the_number_of_entries_has_a_limit() {
    let mut tree = Tree::new();
    for index in 0..ENTRIES_MAX {
        tree.apply(1, 1, &create(&index.to_string())).unwrap();
    }
    assert_eq!(refused(&mut tree, &create("one-more")), OperationError::TooManyEntries);
    tree.apply(1, 1, &delete("0")).unwrap();
    tree.apply(1, 1, &mkdir("one-more")).unwrap();
}

fn guests() -> Tree {
    tree(&[
        mkdir("nodes"),
        mkdir("nodes/a"),
        mkdir("nodes/b"),
        mkdir("nodes/a/qemu-server"),
        mkdir("nodes/b/qemu-server"),
        mkdir("nodes/b/lxc"),
        put("nodes/a/qemu-server/100.conf", b"name: web"),
    ])
}

#[test]
fn a_vmid_has_one_configuration_in_the_cluster() {
    let mut tree = guests();
    let owner = path("nodes/a/qemu-server/100.conf");
    let taken = OperationError::GuestExists { vmid: 100, path: owner };
    assert_eq!(refused(&mut tree, &create("nodes/b/qemu-server/100.conf")), taken);
    assert_eq!(refused(&mut tree, &put("nodes/b/lxc/100.conf", b"")), taken);
    tree.apply(1, 1, &create("nodes/b/lxc/100.conf.tmp")).unwrap();
    assert_eq!(refused(&mut tree, &rename("nodes/b/lxc/100.conf.tmp", "nodes/b/lxc/100.conf")), taken);
    tree.apply(1, 1, &put("nodes/a/qemu-server/100.conf", b"name: db")).unwrap();
}

#[test]
fn a_guest_moves_between_nodes_and_its_number_follows() {
    let mut tree = guests();
    tree.apply(1, 1, &rename("nodes/a/qemu-server/100.conf", "nodes/b/qemu-server/100.conf")).unwrap();
    let moved = tree.get(&path("nodes/b/qemu-server/100.conf")).unwrap().inode();
    assert_eq!(tree.guests().get(&100), Some(&moved));
    tree.apply(1, 1, &rename("nodes/b/qemu-server/100.conf", "nodes/b/qemu-server/101.conf")).unwrap();
    assert_eq!(tree.guests().keys().collect::<Vec<_>>(), [&101]);
    tree.apply(1, 1, &delete("nodes/b/qemu-server/101.conf")).unwrap();
    assert!(tree.guests().is_empty());
}

#[test]
fn replacing_a_guest_config_by_rename_keeps_its_number() {
    let mut tree = guests();
    tree.apply(1, 1, &put("nodes/a/qemu-server/100.conf.tmp.7", b"name: new")).unwrap();
    tree.apply(1, 1, &rename("nodes/a/qemu-server/100.conf.tmp.7", "nodes/a/qemu-server/100.conf")).unwrap();
    let entry = tree.get(&path("nodes/a/qemu-server/100.conf")).unwrap();
    assert_eq!(tree.guests().get(&100), Some(&entry.inode()));
}

#[test]
fn only_the_holder_refreshes_a_lock() {
    let mut tree = tree(&[mkdir("priv"), mkdir("priv/lock"), mkdir("priv/lock/ha")]);
    let set = |mtime| Operation::SetMtime { path: path("priv/lock/ha"), mtime };
    let held = OperationError::LockHeld { path: path("priv/lock/ha"), holder: 1, mtime: 1000 };
    assert_eq!(refused(&mut tree, &set(2000)), held, "by another node");
    assert_eq!(tree.apply(1, 1000, &set(0)), Err(held.clone()), "a request to break it");
    assert_eq!(refused(&mut tree, &rename("priv/lock/ha", "priv/lock/x")), held);
    tree.apply(1, 1000, &set(1060)).unwrap();
    assert_eq!(tree.get(&path("priv/lock/ha")).unwrap().head().mtime, 1060);
    let stale = Operation::Delete { path: path("priv/lock/ha"), expect: Expect::Version(4) };
    assert!(matches!(refused(&mut tree, &stale), OperationError::Changed { version: 5, .. }));
    tree.apply(2, 1, &delete("priv/lock/ha")).unwrap();
}

#[test]
fn entries_that_make_no_tree_are_refused_as_a_whole() {
    let source = guests();
    let replace = |change: fn(&mut Vec<Entry>)| {
        let mut entries: Vec<Entry> = source.entries().cloned().collect();
        change(&mut entries);
        let removed = source.entries().map(Entry::inode).collect();
        source.replaced(Replacement { root: source.root(), entries, removed }).map(|tree| tree.checksum())
    };
    assert_eq!(replace(|_| {}), Ok(source.checksum()));
    assert_eq!(replace(|all| drop(all.remove(0))), Err(ReplaceError::Orphan { inode: 3 }));
    let copy = |all: &mut Vec<Entry>| {
        let head = all[6].head().clone();
        all.push(all[6].with_head(crate::entry::Head { inode: 5000, parent: 7, ..head }));
    };
    assert_eq!(replace(copy), Err(ReplaceError::DuplicateGuest { vmid: 100 }));
    let twin = |all: &mut Vec<Entry>| {
        let head = all[6].head().clone();
        all.push(all[6].with_head(crate::entry::Head { inode: 5000, ..head }));
    };
    assert_eq!(replace(twin), Err(ReplaceError::Duplicate { inode: 5000 }));
    let newer = |all: &mut Vec<Entry>| {
        let head = all[6].head().clone();
        all[6] = all[6].with_head(crate::entry::Head { version: 99, ..head });
    };
    assert_eq!(replace(newer), Err(ReplaceError::Contradiction { inode: 8 }));
    let cycle = |all: &mut Vec<Entry>| {
        let head = all[0].head().clone();
        all[0] = all[0].with_head(crate::entry::Head { parent: 3, ..head });
    };
    assert_eq!(replace(cycle), Err(ReplaceError::Orphan { inode: 2 }));
}
