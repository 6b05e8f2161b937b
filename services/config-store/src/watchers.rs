//! Who watches the tree: each gets what it missed, then every burst of changes below its prefix.

use config_store_core::{Change, ConfigPath, Replica, Tree};
use prost::Message as _;
use quorate_proto::config::v1 as proto;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    convert,
    error::Error,
    handle::{BURSTS_MAX, Burst, Watch},
};

/// Bytes of changes after which a new burst begins: a message of 4 MiB is the most that a gRPC client takes unless it is
/// told to take more.
const BURST_BYTES: usize = 1 << 20;

#[derive(Debug)]
struct Watcher {
    prefix: ConfigPath,
    /// It knows everything up to this version: it said so when it resumed, or was told.
    knows: u64,
    bursts: mpsc::Sender<Result<Burst, Error>>,
}

/// All watchers.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<Watcher>);

impl Watchers {
    /// Adds a watcher and collects what happened since `after`. That may be ahead of what is certain here: after a start
    /// a replica learns only from the others how far its own tree is certain, and the watcher may come from another
    /// node. It is then told what follows `after`, and nothing twice.
    pub(crate) fn add(
        &mut self,
        replica: &Replica,
        tree: &Tree,
        prefix: ConfigPath,
        after: Option<u64>,
    ) -> Result<Watch, Error> {
        let version = replica.committed();
        let missed = match after {
            Some(after) => replica
                .changes_since(after)
                .map_err(|compacted| Error::Compacted { oldest: compacted.oldest })?,
            None => Vec::new(),
        };
        let knows = version.max(after.unwrap_or_default());
        let backlog = bursts(&missed, &prefix, tree, knows);
        // One place is kept for the error that ends the stream of a slow reader.
        let (sender, bursts) = mpsc::channel(BURSTS_MAX + 1);
        self.0.push(Watcher { prefix, knows, bursts: sender });
        Ok(Watch { backlog, bursts })
    }

    /// Tells everybody what changed.
    pub(crate) fn tell(&mut self, changes: &[Change], tree: &Tree) {
        let Some(version) = changes.last().map(|change| change.version) else { return };
        self.0.retain_mut(|watcher| {
            let known = changes.partition_point(|change| change.version <= watcher.knows);
            watcher.knows = version.max(watcher.knows);
            let bursts = bursts(&changes[known..], &watcher.prefix, tree, watcher.knows);
            bursts.into_iter().all(|burst| watcher.send(burst))
        });
    }

    /// Tells everybody to read again.
    pub(crate) fn reset(&mut self, version: u64) {
        self.0.retain_mut(|watcher| {
            watcher.knows = version;
            watcher.send(Burst { changes: vec![convert::reloaded(version)], version })
        });
    }
}

impl Watcher {
    /// False if the watcher is gone or too slow.
    fn send(&self, burst: Burst) -> bool {
        if burst.changes.is_empty() {
            return !self.bursts.is_closed();
        }
        if self.bursts.capacity() <= 1 {
            let _ = self.bursts.try_send(Err(Error::SlowReader));
            return false;
        }
        !matches!(self.bursts.try_send(Ok(burst)), Err(TrySendError::Closed(_)))
    }
}

/// The changes below a prefix; what is told with the last of them is everything up to `version`.
fn bursts(changes: &[Change], prefix: &ConfigPath, tree: &Tree, version: u64) -> Vec<Burst> {
    let wanted = changes.iter().filter(|change| convert::concerns(change, prefix));
    split(wanted.map(|change| convert::change(change, tree)), version)
}

/// At least one burst, each with so many changes as fit into one message. Changes of one version, and those of one
/// transaction, stay together: whoever goes on after the version of a burst misses nothing and gets nothing twice.
fn split(changes: impl Iterator<Item = proto::Change>, version: u64) -> Vec<Burst> {
    let mut bursts = Vec::new();
    let (mut open, mut bytes) = (Burst { changes: Vec::new(), version }, 0);
    for change in changes {
        let last = open.changes.last().filter(|last| !last.more).map(|last| last.version);
        if bytes >= BURST_BYTES && last.is_some_and(|last| last < change.version) {
            open.version = last.unwrap_or(version);
            bursts.push(std::mem::replace(&mut open, Burst { changes: Vec::new(), version }));
            bytes = 0;
        }
        bytes += change.encoded_len();
        open.changes.push(change);
    }
    bursts.push(open);
    bursts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(version: u64) -> proto::Change {
        let entry = proto::Entry { path: "x".repeat(200), ..proto::Entry::default() };
        proto::Change { version, entry: Some(entry), ..proto::Change::default() }
    }

    fn written(version: u64) -> Change {
        Change {
            version,
            kind: config_store_core::ChangeKind::Written,
            path: "storage.cfg".parse().expect("a path"),
            from: None,
            inode: 2,
            removed: None,
            writer: 1,
            mtime: 0,
            caller: None,
            more: false,
        }
    }

    #[test]
    fn a_watcher_that_resumes_ahead_of_what_is_certain_here_is_told_nothing_twice() {
        let node = quorate_types::NodeId::new(1).expect("not 0");
        let replica =
            Replica::load(config_store_core::Settings::new(node, 1), config_store_core::Image::default());
        let (mut watchers, tree) = (Watchers::default(), Tree::new());
        let Watch { backlog, mut bursts } =
            watchers.add(&replica, &tree, ConfigPath::root(), Some(7)).expect("nothing is missing");
        assert_eq!(
            backlog.iter().map(|burst| (burst.changes.len(), burst.version)).collect::<Vec<_>>(),
            [(0, 7)]
        );

        watchers.tell(&[written(5), written(6)], &tree);
        watchers.tell(&[written(7), written(8)], &tree);

        let told = bursts.try_recv().expect("a burst").expect("no error");
        assert_eq!(told.changes.iter().map(|change| change.version).collect::<Vec<_>>(), [8]);
        assert_eq!(told.version, 8);
        assert!(bursts.try_recv().is_err());
    }

    #[test]
    fn after_a_reset_a_watcher_is_told_versions_that_it_knew_before() {
        let node = quorate_types::NodeId::new(1).expect("not 0");
        let replica =
            Replica::load(config_store_core::Settings::new(node, 1), config_store_core::Image::default());
        let (mut watchers, tree) = (Watchers::default(), Tree::new());
        let mut watch =
            watchers.add(&replica, &tree, ConfigPath::root(), Some(7)).expect("nothing is missing");

        watchers.reset(4);
        watchers.tell(&[written(5)], &tree);

        let mut versions = Vec::new();
        while let Ok(Ok(burst)) = watch.bursts.try_recv() {
            versions.push(burst.version);
        }
        assert_eq!(versions, [4, 5]);
    }

    #[test]
    fn nothing_is_one_empty_burst_with_the_version_of_the_tree() {
        let bursts = split(std::iter::empty(), 9);
        assert_eq!((bursts.len(), bursts[0].changes.len(), bursts[0].version), (1, 0, 9));
    }

    #[test]
    fn a_long_backlog_comes_in_messages_of_a_mebibyte_and_can_be_resumed_after_each() {
        let bursts = split((1..=20_000).map(change), 20_500);

        assert!(bursts.len() > 3, "{}", bursts.len());
        let mut next = 1;
        for (at, burst) in bursts.iter().enumerate() {
            let bytes: usize = burst.changes.iter().map(|change| change.encoded_len()).sum();
            assert!(bytes < BURST_BYTES + 1024, "{bytes}");
            assert_eq!(burst.changes[0].version, next);
            next = burst.changes.last().map_or(0, |last| last.version) + 1;
            let told = if at + 1 == bursts.len() { 20_500 } else { next - 1 };
            assert_eq!(burst.version, told);
        }
        assert_eq!(next, 20_001);
    }

    #[test]
    fn changes_of_one_transaction_stay_together() {
        let changes =
            (1..=20_000).map(|version| proto::Change { more: version != 10_000, ..change(version) });
        let bursts = split(changes, 20_000);
        assert_eq!(bursts.iter().map(|burst| burst.version).collect::<Vec<_>>(), [10_000, 20_000]);
    }

    #[test]
    fn changes_of_one_version_stay_together() {
        let bursts = split((0..10_000).map(|_| change(7)), 7);
        assert_eq!(bursts.len(), 1);
    }
}
