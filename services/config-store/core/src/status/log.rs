//! The cluster log of one node: the newest entries of all nodes that fit into its buffer.
//!
//! The log is the set of the newest entries it was ever shown, so two logs that were shown the same entries are equal,
//! in whatever order they came: that is what makes merging after a partition simple. pmxcfs's buffer has 131,072 bytes,
//! of which 8 are its header; entries are accounted as it packs them.

use std::collections::BTreeMap;

use super::{
    StatusError,
    entry::{LogDraft, LogEntry, LogKey},
    fnv,
};

/// Bytes of the buffer. Source: pmxcfs specification, section 10.1.
pub const LOG_BYTES_MAX: usize = 131_072;
/// Bytes of its header.
const HEADER: usize = 8;
/// Most nodes whose newest entry is remembered although it may have left the buffer.
const NODES_MAX: usize = 1024;

/// The newest entries that fit.
#[derive(Debug, Default)]
pub struct ClusterLog {
    entries: BTreeMap<LogKey, LogEntry>,
    bytes: usize,
    /// The newest entry that had to go: nothing up to it is taken again.
    dropped: Option<LogKey>,
    /// Time and uid of the newest entry of each node, by the digest of its name.
    newest: BTreeMap<u64, (u32, u32)>,
    uid: u32,
}

impl ClusterLog {
    /// The entries, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &LogEntry> {
        self.entries.values().rev()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes an entry of this node. A clock that was set back does not make the entry older than the node's entries
    /// before it: all members would take it for a repetition.
    pub(super) fn append(&mut self, node: &str, time: u32, draft: LogDraft) -> Result<LogEntry, StatusError> {
        let (newest, uid) = self.newest.get(&fnv::of_text(node)).copied().unwrap_or_default();
        let time = time.max(newest);
        let after = if time == newest { self.uid.max(uid) } else { self.uid };
        let entry = LogEntry::new(node, after.wrapping_add(1), time, draft)?;
        self.uid = entry.uid;
        self.insert(entry.clone());
        Ok(entry)
    }

    /// Takes an entry that a node has just made, unless it is no newer than what is known of that node.
    pub(super) fn receive(&mut self, entry: LogEntry) -> bool {
        let known = self.newest.get(&entry.node_digest());
        known.is_none_or(|known| *known < (entry.time, entry.uid)) && self.insert(entry)
    }

    /// Takes an entry of another member's log.
    pub(super) fn merge(&mut self, entry: LogEntry) -> bool {
        self.insert(entry)
    }

    fn insert(&mut self, entry: LogEntry) -> bool {
        let key = entry.key();
        if self.dropped.is_some_and(|dropped| key <= dropped) || self.entries.contains_key(&key) {
            return false;
        }
        let newest = self.newest.entry(key.1).or_default();
        *newest = (*newest).max((key.0, key.2));
        self.bytes += entry.accounted();
        self.entries.insert(key, entry);
        while self.bytes > LOG_BYTES_MAX - HEADER
            && let Some((oldest, entry)) = self.entries.pop_first()
        {
            self.bytes -= entry.accounted();
            self.dropped = Some(oldest);
        }
        self.forget_nodes();
        true
    }

    /// Bounds what is remembered of nodes that have no entry any more.
    fn forget_nodes(&mut self) {
        if self.newest.len() > NODES_MAX {
            let mut newest = BTreeMap::new();
            for (time, digest, uid, _) in self.entries.keys() {
                newest.insert(*digest, (*time, *uid));
            }
            self.newest = newest;
        }
    }

    /// The entries after `key`, oldest first.
    pub(super) fn after(&self, key: Option<LogKey>) -> impl Iterator<Item = &LogEntry> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = key.map_or(Unbounded, Excluded);
        self.entries.range((start, Unbounded)).map(|(_, entry)| entry)
    }

    /// Equal for logs with the same entries.
    pub(super) fn sum(&self) -> u64 {
        self.entries.keys().fold(self.entries.len() as u64, |sum, (time, digest, uid, rest)| {
            let mut bytes = [0; 24];
            bytes[..4].copy_from_slice(&time.to_le_bytes());
            bytes[4..12].copy_from_slice(&digest.to_le_bytes());
            bytes[12..16].copy_from_slice(&uid.to_le_bytes());
            bytes[16..].copy_from_slice(&rest.to_le_bytes());
            sum.wrapping_add(fnv::of(&bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(message: &str) -> LogDraft {
        LogDraft { ident: "root".into(), tag: "test".into(), pid: 1, priority: 6, message: message.into() }
    }

    fn entry(node: &str, time: u32, uid: u32) -> LogEntry {
        LogEntry::new(node, uid, time, draft("x")).unwrap()
    }

    fn times(log: &ClusterLog) -> Vec<(u32, u32)> {
        log.newest_first().map(|entry| (entry.time, entry.uid)).collect()
    }

    #[test]
    fn only_what_is_newer_than_the_nodes_last_entry_is_received() {
        let mut log = ClusterLog::default();
        assert!(log.receive(entry("a", 10, 5)));
        assert!(!log.receive(entry("a", 10, 5)), "a repetition");
        assert!(!log.receive(entry("a", 10, 4)), "older by uid");
        assert!(!log.receive(entry("a", 9, 9)), "older by time");
        assert!(log.receive(entry("a", 10, 6)));
        assert!(log.receive(entry("b", 1, 1)), "another node's clock is another matter");
        assert_eq!(times(&log), [(10, 6), (10, 5), (1, 1)]);
    }

    #[test]
    fn a_clock_that_was_set_back_loses_no_entry() {
        let mut log = ClusterLog::default();
        for time in [100, 50, 50, 101] {
            log.append("a", time, draft("x")).unwrap();
        }
        assert_eq!(times(&log), [(101, 4), (100, 3), (100, 2), (100, 1)]);
    }

    #[test]
    fn a_process_that_restarted_within_a_second_goes_on_counting() {
        let mut log = ClusterLog::default();
        log.merge(entry("a", 100, 9));
        assert_eq!(log.append("a", 100, draft("x")).unwrap().uid, 10);
    }

    #[test]
    fn the_buffer_keeps_the_newest_that_fit() {
        let mut log = ClusterLog::default();
        let size = entry("a", 1, 1).accounted();
        let fit = (LOG_BYTES_MAX - HEADER) / size;
        for number in 1..=fit + 10 {
            log.append("a", number as u32, draft("x")).unwrap();
        }
        assert_eq!(log.len(), fit);
        assert_eq!(log.newest_first().last().map(|entry| entry.time), Some(11));
        assert!(!log.merge(entry("a", 10, 10)), "what had to go does not come back");
        assert!(!log.merge(entry("b", 2, 1)), "nor does what is older");
    }

    #[test]
    fn merging_in_any_order_gives_the_same_log() {
        let entries: Vec<LogEntry> = (0..3000_u32)
            .map(|n| {
                LogEntry::new(["a", "b"][n as usize % 2], n, n / 3, draft(&"m".repeat(n as usize % 97)))
                    .unwrap()
            })
            .collect();
        let (mut forward, mut backward) = (ClusterLog::default(), ClusterLog::default());
        entries.iter().for_each(|entry| _ = forward.merge(entry.clone()));
        entries.iter().rev().for_each(|entry| _ = backward.merge(entry.clone()));
        assert!(forward.len() < entries.len(), "the buffer is full");
        assert_eq!(forward.sum(), backward.sum());
        assert!(forward.newest_first().eq(backward.newest_first()));
    }
}
