//! What a status store still has to say, and in which order.
//!
//! Keys wait, not values: a key that changes faster than the group takes it is sent once, with its newest value. So what
//! waits is bounded, and a repetition of all values is the same thing as all keys having changed.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Bound::{Excluded, Unbounded},
};

use bytes::Bytes;

use super::{
    NODE_KEYS_MAX,
    entry::{LogEntry, LogKey},
    log::{ClusterLog, LOG_BYTES_MAX},
    message::{PIECE, SignedStatus, StatusMessage, ValueItem},
    rrd::RrdTable,
    values::Values,
};
use crate::outbox::Window;

/// Most bytes on the way before more is held back.
const WINDOW_BYTES: usize = 256 * 1024;

/// A set of keys that is taken from round and round, so that none waits for ever behind others that change all the time.
#[derive(Debug, Default)]
struct Waiting {
    keys: BTreeSet<String>,
    last: String,
}

impl Waiting {
    fn insert(&mut self, key: &str) {
        // More are there only if keys are removed without end while nothing can be sent.
        if self.keys.len() < 2 * NODE_KEYS_MAX && !self.keys.contains(key) {
            self.keys.insert(key.to_owned());
        }
    }

    fn take(&mut self) -> Option<String> {
        let after = (Excluded(self.last.as_str()), Unbounded);
        let next = self.keys.range::<str, _>(after).next().or_else(|| self.keys.first())?.clone();
        self.keys.remove(&next);
        self.last.clone_from(&next);
        Some(next)
    }
}

/// Where a repetition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repetition {
    /// It is to begin.
    Due,
    /// It has begun.
    Begun,
    /// None is under way.
    Done,
}

/// What waits to be sent.
#[derive(Debug)]
pub(super) struct Sender {
    incarnation: u64,
    serial: u64,
    window: Window,
    /// Whether messages may be sent: in the group, and the ring is not changing.
    open: bool,
    inside: bool,
    repetition: Repetition,
    snapshot: u64,
    values: Waiting,
    figures: Waiting,
    entries: VecDeque<LogEntry>,
    entry_bytes: usize,
    /// Where the sending of the whole log is: after which entry it goes on.
    log: Option<Option<LogKey>>,
    log_sent: bool,
}

impl Sender {
    pub(super) fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            serial: 0,
            window: Window::new(WINDOW_BYTES),
            open: false,
            inside: false,
            repetition: Repetition::Done,
            snapshot: 0,
            values: Waiting::default(),
            figures: Waiting::default(),
            entries: VecDeque::new(),
            entry_bytes: 0,
            log: None,
            log_sent: false,
        }
    }

    /// A value of this node changed.
    pub(super) fn value(&mut self, key: &str) {
        self.values.insert(key);
    }

    /// Figures came. Those that come while nobody listens are old when somebody does.
    pub(super) fn figures(&mut self, key: &str) {
        if self.inside {
            self.figures.insert(key);
        }
    }

    /// An entry was made. Whoever joins later gets it with the whole log.
    pub(super) fn entry(&mut self, entry: LogEntry) {
        if !self.inside {
            return;
        }
        self.entry_bytes += entry.accounted();
        self.entries.push_back(entry);
        while self.entry_bytes > LOG_BYTES_MAX {
            self.take_entry();
        }
    }

    fn take_entry(&mut self) -> Option<LogEntry> {
        let entry = self.entries.pop_front()?;
        self.entry_bytes -= entry.accounted();
        Some(entry)
    }

    /// The ring is changing: nothing is sent until the group is known again.
    pub(super) fn stop(&mut self) {
        self.open = false;
    }

    /// This node is no longer in the group.
    pub(super) fn leave(&mut self) {
        (self.open, self.inside) = (false, false);
        self.entries.clear();
        self.entry_bytes = 0;
        self.figures.keys.clear();
        (self.log, self.log_sent) = (None, false);
    }

    /// The group changed: everything is repeated.
    pub(super) fn restart<'a>(&mut self, keys: impl Iterator<Item = &'a String>) {
        (self.open, self.inside) = (true, true);
        self.window.reset();
        self.repetition = Repetition::Due;
        keys.for_each(|key| self.values.insert(key));
        (self.log, self.log_sent) = (None, false);
    }

    /// Sends the whole log, once for each change of the group.
    pub(super) fn send_log(&mut self) {
        if !self.log_sent {
            (self.log, self.log_sent) = (Some(None), true);
        }
    }

    /// One of the own messages came back.
    pub(super) fn returned(&mut self, serial: u64) {
        self.window.returned(serial);
    }

    /// The next message, if there is one and room for it.
    pub(super) fn next(&mut self, own: &Values, figures: &RrdTable, log: &ClusterLog) -> Option<Bytes> {
        if !self.open || !self.window.has_room() {
            return None;
        }
        let message = self.message(own, figures, log)?;
        self.serial += 1;
        let bytes = SignedStatus { incarnation: self.incarnation, serial: self.serial, message }.encode();
        self.window.sent(self.serial, bytes.len());
        Some(bytes)
    }

    fn message(&mut self, own: &Values, figures: &RrdTable, log: &ClusterLog) -> Option<StatusMessage> {
        if self.repetition == Repetition::Due {
            self.repetition = Repetition::Begun;
            self.snapshot += 1;
            return Some(StatusMessage::Begin { snapshot: self.snapshot, log_sum: log.sum() });
        }
        let entries = self.new_entries();
        if !entries.is_empty() {
            return Some(StatusMessage::Log(entries));
        }
        let items = self.changed_values(own);
        if !items.is_empty() {
            return Some(StatusMessage::Values(items));
        }
        if self.repetition == Repetition::Begun {
            self.repetition = Repetition::Done;
            return Some(StatusMessage::End { snapshot: self.snapshot });
        }
        let entries = self.log_piece(log);
        if !entries.is_empty() {
            return Some(StatusMessage::LogState(entries));
        }
        let items = self.new_figures(figures);
        (!items.is_empty()).then_some(StatusMessage::Figures(items))
    }

    fn new_entries(&mut self) -> Vec<LogEntry> {
        let mut piece = Vec::new();
        let mut bytes = 0;
        while bytes < PIECE
            && let Some(entry) = self.take_entry()
        {
            bytes += entry.accounted();
            piece.push(entry);
        }
        piece
    }

    fn changed_values(&mut self, own: &Values) -> Vec<ValueItem> {
        let mut piece = Vec::new();
        let mut bytes = 0;
        while bytes < PIECE
            && let Some(key) = self.values.take()
        {
            let value = own.get(&key).cloned();
            bytes += key.len() + value.as_ref().map_or(0, Bytes::len) + 16;
            piece.push(ValueItem { revision: own.revision(&key).unwrap_or_default(), key, value });
        }
        piece
    }

    fn log_piece(&mut self, log: &ClusterLog) -> Vec<LogEntry> {
        let Some(cursor) = self.log else { return Vec::new() };
        let mut bytes = 0;
        let piece: Vec<LogEntry> = log
            .after(cursor)
            .take_while(|entry| {
                let room = bytes < PIECE;
                bytes += entry.accounted();
                room
            })
            .cloned()
            .collect();
        self.log = piece.last().map(|entry| Some(entry.key()));
        piece
    }

    fn new_figures(&mut self, figures: &RrdTable) -> Vec<(String, Bytes)> {
        let mut piece = Vec::new();
        let mut bytes = 0;
        while bytes < PIECE
            && let Some(key) = self.figures.take()
        {
            let text = figures.get(&key).cloned().unwrap_or_default();
            bytes += key.len() + text.len() + 6;
            piece.push((key, text));
        }
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_changes_all_the_time_does_not_keep_others_waiting() {
        let mut waiting = Waiting::default();
        waiting.insert("a");
        waiting.insert("b");
        assert_eq!(waiting.take().as_deref(), Some("a"));
        waiting.insert("a");
        assert_eq!(waiting.take().as_deref(), Some("b"));
        assert_eq!(waiting.take().as_deref(), Some("a"));
        assert_eq!(waiting.take(), None);
    }
}
