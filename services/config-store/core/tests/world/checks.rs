//! What must hold at any time, checked after every input.
//!
//! - The same epoch and version mean the same history and the same tree, on every replica, for ever.
//! - What a watcher sees is contiguous, and the same on every node: it never goes back.
//! - What readers see follows one history: the same tree at the same version on every node, and it never goes back.
//! - A transaction is in a tree as a whole or not at all, whatever happens to disks and the group, and so watchers see it.
//! - A request gets one reply. An acknowledged write is in every later history, at its version.
//! - A barrier is never older than a write that was acknowledged before it was asked for.
//! - What a replica had done and the winner had not is in the conflict copy, in the very next batch.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use config_store_core::{
    Applied, Batch, ChainHash, Change, Checksum, ConflictItem, Epoch, Handle, Output, Replacement, Replica,
    Reply, RequestError, RequestId, Space, Tree,
};
use quorate_types::NodeId;

#[derive(Debug, Default)]
pub struct Checks {
    trees: BTreeMap<(Epoch, u64), (ChainHash, Checksum)>,
    shown: BTreeMap<u64, Change>,
    watched: BTreeMap<NodeId, u64>,
    readers: BTreeMap<NodeId, Tree>,
    /// Up to where a node's tree was certain when it was loaded, and its version.
    loaded: BTreeMap<NodeId, (u64, u64)>,
    read: BTreeMap<u64, Checksum>,
    asked: BTreeMap<Handle, (Option<RequestId>, u64)>,
    replies: BTreeMap<Handle, Reply>,
    acknowledged: BTreeMap<RequestId, Applied>,
    highest_acknowledged: u64,
    histories: BTreeMap<NodeId, BTreeMap<u64, RequestId>>,
    must_be_kept: BTreeMap<NodeId, BTreeSet<RequestId>>,
    /// A test breaks messages at random: nothing is promised but that nobody ends.
    pub lawless: bool,
    /// A test breaks a replica on purpose: histories are not compared.
    pub broken_on_purpose: bool,
    pub conflicts: usize,
    pub resets: usize,
    pub divergences: usize,
}

impl Checks {
    pub fn asked(&mut self, handle: Handle, request: Option<RequestId>) {
        self.asked.insert(handle, (request, self.highest_acknowledged));
    }

    pub fn restarted(&mut self, id: NodeId) {
        self.watched.remove(&id);
        self.readers.remove(&id);
        self.histories.remove(&id);
        self.must_be_kept.remove(&id);
    }

    pub fn output(&mut self, id: NodeId, output: &Output) {
        match output {
            Output::Changed(_) | Output::Reply { .. } if self.lawless => {}
            Output::Reply { handle, reply } => self.reply(*handle, reply),
            Output::Changed(changes) => {
                assert!(!changes.last().unwrap().more, "node {id}: watchers see half of a transaction");
                changes.iter().for_each(|change| self.change(id, change));
            }
            Output::WatchReset { version } => {
                self.resets += 1;
                self.watched.insert(id, *version);
            }
            Output::Certain(steps) => self.certain(id, steps),
            Output::ConflictKept { .. } => self.conflicts += 1,
            Output::DivergenceDetected { .. } => self.divergences += 1,
            Output::Store(batch) => self.kept(id, batch),
            _ => {}
        }
    }

    /// Looks at a replica after an input.
    pub fn observe(&mut self, id: NodeId, replica: &Replica) {
        let version = replica.tree().version();
        let now = (*replica.log().chain(), replica.tree().checksum());
        if let Entry::Vacant(new) = self.readers.entry(id) {
            new.insert(replica.tree().clone());
            self.loaded.insert(id, (replica.committed(), version));
        }
        if self.broken_on_purpose || self.lawless {
            return;
        }
        let known = *self.trees.entry((replica.epoch(), version)).or_insert(now);
        assert_eq!(known, now, "node {id}: another history at {} version {version}", replica.epoch());
        assert_eq!(replica.log().tip(), version);
        let last = replica.log().get(version);
        assert!(!last.is_some_and(|last| last.change.more), "node {id} has half of a transaction");
        self.compare_history(id, replica);
    }

    fn compare_history(&mut self, id: NodeId, replica: &Replica) {
        let history = self.histories.entry(id).or_default();
        let tip = history.last_key_value().map(|(version, request)| (*version, *request));
        let grown = tip.is_none_or(|(version, request)| {
            replica.log().get(version).is_some_and(|record| record.request == request)
        });
        if grown {
            let from = tip.map_or(0, |(version, _)| version);
            history.extend(replica.log().after(from).map(|record| (record.version(), record.request)));
            return;
        }
        let new: BTreeMap<u64, RequestId> =
            replica.log().after(0).map(|record| (record.version(), record.request)).collect();
        let now: BTreeSet<&RequestId> = new.values().collect();
        // What the winner's log no longer reaches cannot be judged.
        let lost = history.range(replica.log().first()..).map(|(_, request)| request);
        let lost = lost.filter(|request| !now.contains(request)).copied();
        self.must_be_kept.entry(id).or_default().extend(lost);
        *history = new;
    }

    /// Outputs are seen before the replica is observed, so this batch may hold what is noticed next.
    fn kept(&mut self, id: NodeId, batch: &Batch) {
        let conflict = batch.writes.iter().filter(|write| write.space == Space::Conflict);
        let items = conflict.map(|write| ConflictItem::decode(write.value.clone().unwrap()).unwrap());
        let records: BTreeSet<RequestId> = items
            .filter_map(|item| match item {
                ConflictItem::Record(record) => Some(record.request),
                _ => None,
            })
            .collect();
        if let Some(lost) = self.must_be_kept.get_mut(&id) {
            lost.retain(|request| !records.contains(request));
            let first = lost.first();
            assert_eq!(first, None, "node {id}: {} requests are lost without a conflict copy", lost.len());
        }
    }

    /// A reader starts from what its node loaded and follows from there.
    fn certain(&mut self, id: NodeId, steps: &[Replacement]) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        for step in steps {
            let before = reader.version();
            reader.follow(step.clone());
            if self.resets > 0 || self.broken_on_purpose || self.lawless {
                continue;
            }
            // What a node loads from its disk may be more than is certain: only that may be taken back.
            let (certain, loaded) = self.loaded[&id];
            let taken_back = before == loaded && reader.version() >= certain;
            let now = reader.version();
            assert!(
                now >= before || taken_back,
                "node {id}: readers see the tree go back from {before} to {now}"
            );
            let known = *self.read.entry(reader.version()).or_insert(reader.checksum());
            assert_eq!(
                known,
                reader.checksum(),
                "node {id}: readers see another tree at {}",
                reader.version()
            );
        }
    }

    /// When everything is certain, readers see all of it.
    pub fn readers_see(&self, id: NodeId, replica: &Replica) {
        let reader = &self.readers[&id];
        assert_eq!(
            (reader.version(), reader.checksum()),
            (replica.tree().version(), replica.tree().checksum()),
            "node {id}: readers see an old tree"
        );
    }

    fn change(&mut self, id: NodeId, change: &Change) {
        let known = self.shown.entry(change.version).or_insert_with(|| change.clone());
        assert_eq!(known, change, "node {id}: a watch went back");
        if let Some(last) = self.watched.insert(id, change.version) {
            assert_eq!(last + 1, change.version, "node {id}: a watch has a gap");
        }
    }

    fn reply(&mut self, handle: Handle, reply: &Reply) {
        let before = self.replies.insert(handle, reply.clone());
        assert_eq!(before, None, "request {handle} got a second reply: {reply:?}");
        let (request, highest) = self.asked[&handle];
        let Ok(applied) = reply else { return };
        match request {
            None => assert!(applied.version >= highest, "barrier {handle} is stale"),
            Some(request) => {
                let known = self.acknowledged.entry(request).or_insert_with(|| applied.clone());
                assert_eq!(known, applied, "request {request} was acknowledged twice, differently");
            }
        }
        self.highest_acknowledged = self.highest_acknowledged.max(applied.version);
    }

    pub fn reply_of(&self, handle: Handle) -> Option<&Reply> {
        self.replies.get(&handle)
    }

    pub fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    /// Requests whose outcome their callers do not know.
    pub fn unknown_count(&self) -> usize {
        self.replies.values().filter(|reply| **reply == Err(RequestError::OutcomeUnknown)).count()
    }

    /// Nothing that was acknowledged is lost, and nothing was applied twice.
    pub fn nothing_lost(&self, replica: &Replica) {
        for (request, applied) in &self.acknowledged {
            let record = replica.log().find(request);
            let found = record.map(|record| (record.version(), record.epoch));
            assert_eq!(found, Some((applied.version, applied.epoch)), "{request} was acknowledged");
        }
        let mut requests: Vec<RequestId> = replica.log().after(0).map(|record| record.request).collect();
        // The changes of a transaction, which are many, follow each other.
        requests.dedup();
        let unique: BTreeSet<&RequestId> = requests.iter().collect();
        assert_eq!(unique.len(), requests.len(), "a request was applied twice");
    }
}
