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
    bursts: mpsc::Sender<Result<Burst, Error>>,
}

/// All watchers.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<Watcher>);

impl Watchers {
    /// Adds a watcher and collects what happened since `after`.
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
        let backlog = bursts(&missed, &prefix, tree, version);
        // One place is kept for the error that ends the stream of a slow reader.
        let (sender, bursts) = mpsc::channel(BURSTS_MAX + 1);
        self.0.push(Watcher { prefix, bursts: sender });
        Ok(Watch { backlog, bursts })
    }

    /// Tells everybody what changed.
    pub(crate) fn tell(&mut self, changes: &[Change], tree: &Tree) {
        let Some(version) = changes.last().map(|change| change.version) else { return };
        self.0.retain(|watcher| {
            let bursts = bursts(changes, &watcher.prefix, tree, version);
            bursts.into_iter().all(|burst| watcher.send(burst))
        });
    }

    /// Tells everybody to read again.
    pub(crate) fn reset(&mut self, version: u64) {
        self.0.retain(|watcher| watcher.send(Burst { changes: vec![convert::reloaded(version)], version }));
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
