//! What is listed, what is kept, and what it costs.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    Epoch, Expect, Extensions, Loader, Meta, Operation, Transaction, Tree, Write,
    log::Record,
    operation::{Envelope, RequestId},
};

/// A replica's tree, history and disk.
struct Node {
    tree: Tree,
    history: History,
    disk: BTreeMap<(Space, Bytes), Bytes>,
    /// Bytes of keys and values that went to disk.
    written: usize,
}

fn path(text: &str) -> ConfigPath {
    text.parse().unwrap()
}

fn put(text: &str, content: &[u8]) -> Operation {
    Operation::Put { path: path(text), expect: Expect::Any, content: Bytes::copy_from_slice(content) }
}

fn rename(from: &str, to: &str) -> Operation {
    Operation::Rename { from: path(from), to: path(to), expect: Expect::Any, no_replace: false }
}

fn delete(text: &str) -> Operation {
    Operation::Delete { path: path(text), expect: Expect::Any }
}

impl Node {
    fn new() -> Self {
        Self { tree: Tree::new(), history: History::default(), disk: BTreeMap::new(), written: 0 }
    }

    fn perform(&mut self, operation: Operation) {
        let mut extensions = Extensions::default();
        extensions.push_caller("root@unix:1/0").unwrap();
        let request = RequestId([0; 16]);
        let envelope = Envelope { request, origin: 1, mtime: 5, trace: None, extensions, operation };
        let Ok(steps) = self.tree.transact(1, 5, &envelope.operation) else { return };
        let mut builder = BatchBuilder::default();
        for (step, record) in steps.iter().zip(Record::of(Epoch::LOCAL, &[0; 32], &envelope, b"", &steps)) {
            builder.put_step(step);
            builder.put_record(&record);
            self.history.performed(&mut builder, step, &record.change);
        }
        self.store(builder);
    }

    fn store(&mut self, mut builder: BatchBuilder) {
        let meta = Meta {
            promised: Epoch::LOCAL,
            epoch: Epoch::LOCAL,
            root: self.tree.root(),
            chain: [0; 32],
            checksum: self.tree.checksum(),
            conflicts: 0,
            committed: 1,
        };
        for Write { space, key, value } in builder.cut(1, &meta).writes {
            self.written += key.len() + value.as_ref().map_or(0, Bytes::len);
            match value {
                Some(value) => drop(self.disk.insert((space, key), value)),
                None => drop(self.disk.remove(&(space, key))),
            }
        }
    }

    fn listed(&self, text: &str) -> Vec<(u64, VersionKind, Option<String>)> {
        let versions = self.history.versions(&path(text), u64::MAX);
        versions.map(|version| (version.version, version.kind, self.content(version))).collect()
    }

    fn content(&self, version: &FileVersion) -> Option<String> {
        let content = version.content?;
        let key = content_key(version.inode, content.stored);
        let bytes =
            if content.size == 0 { Bytes::new() } else { self.disk.get(&(Space::Content, key))?.clone() };
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// What is on disk is what is known, and no more.
    fn check(&self) {
        let mut loader = Loader::new();
        for ((space, key), value) in &self.disk {
            // The log has chains that this test does not make.
            if *space != Space::Log {
                loader.add(*space, key, value.clone()).unwrap();
            }
        }
        let image = loader.finish().unwrap();
        let mut loaded = image.history;
        loaded.set_limits(self.history.limits);
        assert_eq!(loaded, self.history);
        assert_eq!(image.garbage, Vec::<Bytes>::new());
        for entry in self.tree.entries().filter(|entry| !entry.is_directory()) {
            let path = self.tree.path_of(entry.inode()).unwrap();
            let newest = self.history.versions(&path, u64::MAX).next().unwrap();
            assert_eq!(newest.content, Some(KeptContent::of(entry)), "{path}");
        }
        for item in self.history.items.values() {
            let size = item.record.content.map(|content| content.size);
            assert_eq!(self.content(&item.record).map(|content| content.len()), size, "{:?}", item.record);
        }
    }
}

fn kept(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn every_content_of_a_file_is_listed_with_who_wrote_it() {
    let mut node = Node::new();
    ["1", "2", "3"].iter().for_each(|content| node.perform(put("storage.cfg", content.as_bytes())));
    let expected = [
        (4, VersionKind::Written, kept("3")),
        (3, VersionKind::Written, kept("2")),
        (2, VersionKind::Created, kept("1")),
    ];
    assert_eq!(node.listed("storage.cfg"), expected);
    let newest = node.history.versions(&path("storage.cfg"), u64::MAX).next().unwrap();
    assert_eq!((newest.writer, newest.mtime, newest.caller.as_deref()), (1, 5, Some("root@unix:1/0")));
    assert_eq!(node.history.versions(&path("storage.cfg"), 4).count(), 2);
    node.check();
}

#[test]
fn a_deleted_file_is_found_by_its_path_and_so_is_one_that_moved_away() {
    let mut node = Node::new();
    node.perform(put("a", b"1"));
    node.perform(delete("a"));
    assert_eq!(node.listed("a"), [(3, VersionKind::Deleted, None), (2, VersionKind::Created, kept("1"))]);
    node.perform(put("b", b"2"));
    node.perform(rename("b", "c"));
    assert_eq!(node.listed("b"), [(5, VersionKind::MovedAway, None), (4, VersionKind::Created, kept("2"))]);
    assert_eq!(
        node.listed("c"),
        [(5, VersionKind::MovedHere, kept("2")), (4, VersionKind::Created, kept("2"))]
    );
    node.check();
}

#[test]
fn a_file_that_is_replaced_by_renaming_another_over_it_keeps_its_own_history() {
    let mut node = Node::new();
    node.perform(put("100.conf", b"old"));
    node.perform(put("100.conf.tmp.7", b"new"));
    node.perform(rename("100.conf.tmp.7", "100.conf"));
    let expected = [(4, VersionKind::MovedHere, kept("new")), (2, VersionKind::Created, kept("old"))];
    assert_eq!(node.listed("100.conf"), expected);
    node.check();
}

#[test]
fn what_happens_within_a_transaction_is_kept_too() {
    let mut node = Node::new();
    let operations = vec![put("a", b"1"), put("a", b"2"), delete("a"), put("b", b"3"), rename("b", "a")];
    node.perform(Operation::Transaction(Transaction::new(operations).unwrap()));
    assert_eq!(node.listed("a").len(), 2, "{:?}", node.listed("a"));
    assert_eq!(node.history.versions(&path("a"), 5).count(), 3);
    node.check();
}

#[test]
fn a_noisy_file_loses_its_own_past_and_not_that_of_others() {
    let mut node = Node::new();
    node.history.set_limits(HistoryLimits { versions_of_path: 5, ..HistoryLimits::default() });
    node.perform(put("quiet", b"1"));
    node.perform(put("quiet", b"2"));
    (0..50_u8).for_each(|number| node.perform(put("noisy", &[number % 64; 9])));
    assert_eq!((node.listed("quiet").len(), node.listed("noisy").len()), (2, 5));
    node.check();
}

#[test]
fn the_past_is_bounded_in_versions_and_bytes_and_the_present_is_not() {
    let mut node = Node::new();
    node.history.set_limits(HistoryLimits { bytes: 250, versions: 9, versions_of_path: 99 });
    (0..20_u8).for_each(|number| node.perform(put(&format!("present-{number}"), &[1; 100])));
    (0..10_u8).for_each(|number| node.perform(put("f", &[number; 100])));
    assert_eq!((node.history.size(), node.listed("f").len()), ((2, 200), 3));
    (0..20).for_each(|_| node.perform(put("g", b"x")));
    assert_eq!(node.history.size().0, 9);
    assert_eq!(node.listed("present-0").len(), 1);
    node.check();
}

#[test]
fn a_file_from_before_there_was_a_history_has_one_from_its_next_change() {
    let mut node = Node::new();
    node.perform(put("a", b"old"));
    node.disk.retain(|(space, _), _| *space != Space::History);
    node.history =
        History::load(Vec::new(), &node.tree, &BTreeMap::from([((2, 2), Bytes::from_static(b"old"))])).0;
    node.perform(put("a", b"new"));
    assert_eq!(
        node.listed("a"),
        [(3, VersionKind::Written, kept("new")), (2, VersionKind::Found, kept("old"))]
    );
    node.check();
}

/// The target of the specification, section 13, is 4 bytes on disk for one written. RocksDB writes what is here to its
/// log, again to a table, and some of that again when it merges tables.
#[test]
fn a_kibibyte_written_costs_less_than_two_in_a_batch() {
    let mut node = Node::new();
    node.perform(put("nodes.cfg", &[1; 1024]));
    node.written = 0;
    (0..100_u8).for_each(|number| node.perform(put("nodes.cfg", &[number; 1024])));
    let bytes = node.written / 100;
    assert!(bytes < 1024 + 700, "{bytes} bytes for a write of 1024");
}

fn operations() -> impl Strategy<Value = Operation> {
    let names = ["a", "b", "d", "d/x", "d/y"];
    (0..6, 0..names.len(), 0..names.len(), 0..30_usize).prop_map(move |(kind, one, two, size)| match kind {
        0 | 1 => put(names[one], &vec![b'x'; size]),
        2 => Operation::Mkdir { path: path(names[one]) },
        3 => rename(names[one], names[two]),
        4 => delete(names[one]),
        _ => Operation::SetMtime { path: path(names[one]), mtime: 7 },
    })
}

fn work() -> impl Strategy<Value = Operation> {
    let together = proptest::collection::vec(operations(), 1..5)
        .prop_map(|operations| Operation::Transaction(Transaction::new(operations).unwrap()));
    prop_oneof![4 => operations(), 1 => together]
}

fn limits() -> impl Strategy<Value = HistoryLimits> {
    let small = (0..200_usize, 0..20_usize, 1..8_usize);
    let small =
        small.prop_map(|(bytes, versions, of)| HistoryLimits { bytes, versions, versions_of_path: of });
    prop_oneof![Just(HistoryLimits::default()), small]
}

proptest! {
    #[test]
    fn disk_and_memory_agree_whatever_happens(limits in limits(), all in proptest::collection::vec(work(), 1..40)) {
        let mut node = Node::new();
        node.history.set_limits(limits);
        for operation in all {
            node.perform(operation);
            node.check();
            let (versions, bytes) = node.history.size();
            prop_assert!(versions <= limits.versions && bytes <= limits.bytes);
        }
    }

    #[test]
    fn whoever_takes_over_a_tree_has_a_history_of_it(
        common in proptest::collection::vec(work(), 1..15),
        mine in proptest::collection::vec(work(), 0..10),
        theirs in proptest::collection::vec(work(), 0..10),
        known in 0..12_usize,
    ) {
        let (mut node, mut winner) = (Node::new(), Node::new());
        for operation in common {
            node.perform(operation.clone());
            winner.perform(operation);
        }
        let version = node.tree.version();
        mine.into_iter().for_each(|operation| node.perform(operation));
        theirs.into_iter().for_each(|operation| winner.perform(operation));
        node.take_over(&winner, version, known);
        node.check();
    }
}

impl Node {
    /// What a synchronisation does, with the last `known` records of the winner's log.
    fn take_over(&mut self, winner: &Node, common: u64, known: usize) {
        let old = self.tree.clone();
        let differs = |inode: &u64| old.entry(*inode) != winner.tree.entry(*inode);
        let all = old.entries().chain(winner.tree.entries()).map(Entry::inode);
        let touched: Vec<u64> = all.filter(differs).collect::<BTreeSet<_>>().into_iter().collect();
        let own = |entry: &Entry| match old.entry(entry.inode()) {
            Some(own) => entry.clone().stored_as(own),
            None => Entry::new(entry.head().clone(), entry.content().clone()),
        };
        let entries: Vec<Entry> =
            touched.iter().filter_map(|inode| winner.tree.entry(*inode)).map(own).collect();
        let removed =
            touched.iter().copied().filter(|inode| winner.tree.entry(*inode).is_none()).collect::<Vec<_>>();
        let root = winner.tree.root();
        let replacement = crate::Replacement { root, entries, removed: removed.clone() };
        self.tree = old.replaced(replacement).unwrap();
        let records = winner
            .disk
            .iter()
            .filter(|((space, _), _)| *space == Space::Log)
            .map(|(_, value)| Record::decode(&mut crate::wire::Reader::new(value.clone())).unwrap());
        let records: Vec<Record> = records.filter(|record| record.version() > common).collect();
        let records = records[records.len().saturating_sub(known)..].to_vec();
        let mut builder = BatchBuilder::default();
        removed.iter().for_each(|inode| builder.delete_entry(*inode));
        let adopted = Adopted { old: &old, new: &self.tree, touched: touched.clone(), common };
        self.history.adopted(&mut builder, &adopted, records.into_iter());
        for entry in touched.iter().filter_map(|inode| self.tree.entry(*inode)) {
            builder.put_entry(entry, crate::Touched::Content);
        }
        self.store(builder);
    }
}
