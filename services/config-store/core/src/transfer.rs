//! State transfers: the winner's side cuts items into pieces, the loser's side puts them together.
//!
//! A transfer is a stream of items, each behind a 32-bit length, cut into pieces without regard to the
//! items. The winner's tree does not change while it serves, so items are encoded only when their piece
//! is due: a transfer of the whole tree needs no copy of it.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_types::NodeId;

use crate::{
    batch::{put_root, root},
    entry::Entry,
    epoch::{Epoch, Epochs},
    log::{ChainHash, Log, Record},
    message::{BUCKETS, PIECE_MAX, StreamKind, epochs, put_epochs},
    tree::{FILE_MAX, Root, Tree},
    wire::{Put, Reader, WireError},
};

/// Largest encoded item: an entry of a full file, with its fields.
const ITEM_MAX: usize = FILE_MAX + 4096;

/// The bucket of an inode.
#[must_use]
pub(crate) fn bucket_of(inode: u64) -> usize {
    usize::try_from(inode % BUCKETS as u64).expect("a remainder below the number of buckets")
}

/// The sum of entry hashes in each bucket: different entries, different sums (but for one in 2^64).
#[must_use]
pub(crate) fn bucket_sums(tree: &Tree) -> Vec<u64> {
    let mut sums = vec![0_u64; BUCKETS];
    for entry in tree.entries() {
        let hash = entry.hash().first_chunk().expect("a hash has more than eight bytes");
        let sum = &mut sums[bucket_of(entry.inode())];
        *sum = sum.wrapping_add(u64::from_le_bytes(*hash));
    }
    sums
}

/// What the winner's history is: the loser's will be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) root: Root,
    pub(crate) epoch: Epoch,
    pub(crate) chain: ChainHash,
    pub(crate) epochs: Epochs,
}

/// One item of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    History(History),
    Record(Record),
    Entry(Entry),
    Buckets(Vec<u16>),
    Index { inode: u64, hash: [u8; 32] },
}

impl Item {
    fn encode(&self) -> BytesMut {
        let mut out = BytesMut::new();
        match self {
            Self::History(history) => {
                out.put_u8(1);
                put_root(&mut out, history.root);
                out.put_epoch(history.epoch);
                out.put_slice(&history.chain);
                put_epochs(&mut out, &history.epochs);
            }
            Self::Record(record) => {
                out.put_u8(2);
                record.encode_to(&mut out);
            }
            Self::Entry(entry) => {
                out.put_u8(3);
                entry.encode(&mut out);
            }
            Self::Buckets(buckets) => {
                out.put_u8(4);
                out.put_count(buckets.len());
                buckets.iter().for_each(|bucket| out.put_u16_le(*bucket));
            }
            Self::Index { inode, hash } => {
                out.put_u8(5);
                out.put_u64_le(*inode);
                out.put_slice(hash);
            }
        }
        out
    }

    fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let item = match reader.u8()? {
            1 => Self::History(History {
                root: root(&mut reader)?,
                epoch: reader.epoch()?,
                chain: reader.array()?,
                epochs: epochs(&mut reader)?,
            }),
            2 => Self::Record(Record::decode(&mut reader)?),
            3 => Self::Entry(Entry::decode(&mut reader)?),
            4 => {
                let count = reader.count("buckets", 2, BUCKETS)?;
                let buckets: Result<Vec<u16>, WireError> = (0..count).map(|_| reader.u16()).collect();
                Self::Buckets(buckets?)
            }
            5 => Self::Index { inode: reader.u64()?, hash: reader.array()? },
            value => return Err(WireError::Unknown { what: "transfer item", value: value.into() }),
        };
        reader.finish()?;
        Ok(item)
    }
}

/// An item that is encoded when its piece is due.
#[derive(Debug, Clone)]
enum Lazy {
    Ready(Box<Item>),
    Record(u64),
    Entry(u64),
    Index(u64),
}

impl Lazy {
    fn item(self, tree: &Tree, log: &Log) -> Option<Item> {
        match self {
            Self::Ready(item) => Some(*item),
            Self::Record(version) => log.get(version).cloned().map(Item::Record),
            Self::Entry(inode) => tree.entry(inode).cloned().map(Item::Entry),
            Self::Index(inode) => tree.entry(inode).map(|entry| Item::Index { inode, hash: *entry.hash() }),
        }
    }
}

/// One transfer on the winner's side.
#[derive(Debug)]
pub(crate) struct Job {
    to: Vec<NodeId>,
    kind: StreamKind,
    items: VecDeque<Lazy>,
    buffer: BytesMut,
    started: bool,
}

/// A piece that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) to: Vec<NodeId>,
    pub(crate) kind: StreamKind,
    pub(crate) first: bool,
    pub(crate) last: bool,
    pub(crate) bytes: Bytes,
}

impl Job {
    fn new(to: Vec<NodeId>, kind: StreamKind, items: VecDeque<Lazy>) -> Self {
        Self { to, kind, items, buffer: BytesMut::new(), started: false }
    }

    /// What changed after `since`: for replicas that are a prefix of this history.
    pub(crate) fn delta(to: Vec<NodeId>, since: u64, history: History, tree: &Tree, log: &Log) -> Self {
        let mut items = VecDeque::from([Lazy::Ready(Box::new(Item::History(history)))]);
        items.extend(log.after(since).map(|record| Lazy::Record(record.version())));
        let changed = tree.entries().filter(|entry| entry.head().version > since);
        items.extend(changed.map(|entry| Lazy::Entry(entry.inode())));
        Self::new(to, StreamKind::Delta, items)
    }

    /// The index of all buckets whose sums differ, with the whole log.
    pub(crate) fn index(to: NodeId, sums: &[u64], history: History, tree: &Tree, log: &Log) -> Self {
        let ours = bucket_sums(tree);
        let differs = |bucket: usize| sums.get(bucket) != Some(&ours[bucket]);
        let buckets: Vec<u16> = (0..BUCKETS).filter(|bucket| differs(*bucket)).map(|b| b as u16).collect();
        let mut items = VecDeque::from([
            Lazy::Ready(Box::new(Item::History(history))),
            Lazy::Ready(Box::new(Item::Buckets(buckets))),
        ]);
        items.extend(log.after(0).map(|record| Lazy::Record(record.version())));
        let indexed = tree.entries().filter(|entry| differs(bucket_of(entry.inode())));
        items.extend(indexed.map(|entry| Lazy::Index(entry.inode())));
        Self::new(vec![to], StreamKind::Index, items)
    }

    /// Entries that were asked for.
    pub(crate) fn entries(to: NodeId, inodes: &[u64]) -> Self {
        let items = inodes.iter().map(|inode| Lazy::Entry(*inode)).collect();
        Self::new(vec![to], StreamKind::Entries, items)
    }

    /// The next piece; the transfer ends with the one marked `last`.
    pub(crate) fn next_piece(&mut self, tree: &Tree, log: &Log) -> Piece {
        while self.buffer.len() < PIECE_MAX
            && let Some(lazy) = self.items.pop_front()
        {
            if let Some(item) = lazy.item(tree, log) {
                self.buffer.put_long(&item.encode());
            }
        }
        let length = self.buffer.len().min(PIECE_MAX);
        let bytes = self.buffer.split_to(length).freeze();
        let first = !std::mem::replace(&mut self.started, true);
        let last = self.buffer.is_empty() && self.items.is_empty();
        Piece { to: self.to.clone(), kind: self.kind, first, last, bytes }
    }
}

/// What a loser has received of the winner's state.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) history: Option<History>,
    pub(crate) records: Vec<Record>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) buckets: BTreeSet<usize>,
    pub(crate) index: Vec<(u64, [u8; 32])>,
    buffer: BytesMut,
}

impl Received {
    /// Adds a piece.
    ///
    /// # Errors
    /// [`WireError`] when the winner sends what cannot be read; the transfer is useless then.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.buffer.extend_from_slice(bytes);
        while let Some(length) = self.buffer.first_chunk().map(|length| u32::from_le_bytes(*length) as usize)
        {
            if length > ITEM_MAX {
                return Err(WireError::TooLong { what: "transfer item", length, max: ITEM_MAX });
            }
            if self.buffer.len() < 4 + length {
                break;
            }
            self.buffer.advance(4);
            let item = Item::decode(self.buffer.split_to(length).freeze())?;
            self.take(item);
        }
        Ok(())
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::History(history) => self.history = Some(history),
            Item::Record(record) => self.records.push(record),
            Item::Entry(entry) => self.entries.push(entry),
            Item::Buckets(buckets) => self.buckets.extend(buckets.into_iter().map(usize::from)),
            Item::Index { inode, hash } => self.index.push((inode, hash)),
        }
    }

    /// After an index: which entries this tree lacks, and which ones it has too much.
    pub(crate) fn compare(&self, tree: &Tree) -> (Vec<u64>, Vec<u64>) {
        let same = |inode: u64, hash: &[u8; 32]| tree.entry(inode).is_some_and(|entry| entry.hash() == hash);
        let wanted = self.index.iter().filter(|(inode, hash)| !same(*inode, hash)).map(|(inode, _)| *inode);
        let theirs: BTreeSet<u64> = self.index.iter().map(|(inode, _)| *inode).collect();
        let compared =
            tree.entries().map(Entry::inode).filter(|inode| self.buckets.contains(&bucket_of(*inode)));
        (wanted.collect(), compared.filter(|inode| !theirs.contains(inode)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        operation::{Expect, Operation},
        quorum::tests::node,
    };

    fn tree(files: u32) -> Tree {
        let mut tree = Tree::new();
        for index in 0..files {
            let content = Bytes::from(vec![index as u8; 1000]);
            let path = format!("f{index}").parse().unwrap();
            tree.apply(1, 1, &Operation::Put { path, expect: Expect::Any, content }).unwrap();
        }
        tree
    }

    fn history(tree: &Tree) -> History {
        History { root: tree.root(), epoch: Epoch::LOCAL, chain: [7; 32], epochs: Epochs::default() }
    }

    fn run(job: &mut Job, tree: &Tree) -> (Received, usize) {
        let (log, mut received, mut bytes) = (Log::default(), Received::default(), 0);
        loop {
            let piece = job.next_piece(tree, &log);
            assert!(piece.bytes.len() <= PIECE_MAX);
            bytes += piece.bytes.len();
            received.add(&piece.bytes).unwrap();
            if piece.last {
                return (received, bytes);
            }
        }
    }

    #[test]
    fn a_delta_holds_what_changed_and_no_more() {
        let tree = tree(600);
        let mut job = Job::delta(vec![node(2)], 598, history(&tree), &tree, &Log::default());
        let (received, bytes) = run(&mut job, &tree);
        assert_eq!(received.entries.iter().map(Entry::inode).collect::<Vec<_>>(), [599, 600, 601]);
        assert_eq!(received.history, Some(history(&tree)));
        assert!(bytes < 4000, "{bytes}");
    }

    #[test]
    fn a_transfer_of_everything_comes_in_pieces() {
        let tree = tree(600);
        let mut job = Job::delta(vec![node(2)], 1, history(&tree), &tree, &Log::default());
        let first = job.next_piece(&tree, &Log::default());
        assert!(first.first && !first.last);
        let second = job.next_piece(&tree, &Log::default());
        assert!(!second.first && !second.last);
        let third = job.next_piece(&tree, &Log::default());
        assert!(third.last);
    }

    #[test]
    fn an_index_lists_only_the_buckets_that_differ() {
        // given: one entry changed, one lost, one too much
        let theirs = tree(3000);
        let mut ours = theirs.clone();
        for operation in [
            Operation::SetMtime { path: "f10".parse().unwrap(), mtime: 9 },
            Operation::Delete { path: "f11".parse().unwrap(), expect: Expect::Any },
            Operation::Mkdir { path: "extra".parse().unwrap() },
        ] {
            ours.apply(2, 2, &operation).unwrap();
        }
        let extra = ours.get(&"extra".parse().unwrap()).unwrap().inode();

        // when
        let mut job = Job::index(node(2), &bucket_sums(&ours), history(&theirs), &theirs, &Log::default());
        let (received, _) = run(&mut job, &theirs);

        // then
        assert_eq!(received.buckets.len(), 3);
        assert!(received.index.len() < 10, "{}", received.index.len());
        assert_eq!(received.compare(&ours), (vec![12, 13], vec![extra]));
    }

    #[test]
    fn without_sums_everything_is_compared() {
        let tree = tree(50);
        let mut job = Job::index(node(2), &[], history(&tree), &tree, &Log::default());
        let (received, _) = run(&mut job, &tree);
        assert_eq!((received.buckets.len(), received.index.len()), (BUCKETS, 50));
        assert_eq!(received.compare(&tree), (vec![], vec![]));
    }

    proptest! {
        #[test]
        fn receiving_never_panics(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let mut received = Received::default();
            for piece in pieces {
                if received.add(&piece).is_err() {
                    break;
                }
            }
        }
    }
}
