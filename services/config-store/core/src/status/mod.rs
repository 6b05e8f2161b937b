//! The status store: what nodes tell each other of themselves, in memory only, quorate or not.
//!
//! **What it is.** Each node has key-values of its own that all nodes can read, all nodes together have the newest
//! figures (`rrd/` keys) and one cluster log. pmxcfs calls it the kvstore. A [`StatusStore`] is one node's part, in a
//! process group of all of them, which is another one than the tree's: status flows between nodes that see each other,
//! whether they are enough to write the tree or not.
//!
//! **How it heals.** A message may be lost only where the group changes. So after each change every member repeats all
//! of its values, and says the sum of its log; where sums differ, the lowest member with each sum sends its log, in
//! pieces. Every member applies all of it in the group's order.
//!
//! **Contract.** Hand in one [`StatusInput`], then drain [`StatusStore::poll_output`]; the group's events in the
//! group's order, [`StatusInput::Transitional`] included. [`StatusOutput::Multicast`] goes out in order, once. There
//! is no timer: what is too old is left out when it is read.
//!
//! **Sources.** pmxcfs specification, sections 10 and 11. Differs from pmxcfs: own messages and group; equal logs are
//! not sent; a value that is only repeated does not count as changed; keys and bytes of a node are bounded.

mod entry;
mod error;
mod fnv;
mod log;
mod message;
mod rrd;
mod sender;
mod values;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use quorate_types::NodeId;

pub use entry::{LOG_ENTRY_MAX, LOG_FIELD_MAX, LogDraft, LogEntry};
pub use error::StatusError;
pub use log::{ClusterLog, LOG_BYTES_MAX};
pub use message::{SignedStatus, StatusMessage, ValueItem};
use rrd::RrdTable;
pub use rrd::{RRD_LIFETIME, RRD_VALUE_MAX};
use sender::Sender;
use values::Values;

/// Longest key in bytes. Source: pmxcfs specification, section 10.
pub const KEY_MAX: usize = 255;
/// Largest value in bytes. Source: pmxcfs specification, section 10.
pub const VALUE_MAX: usize = 32 * 1024;
/// Most keys of one node.
pub const NODE_KEYS_MAX: usize = 16_384;
/// Most bytes of all keys and values of one node.
pub const NODE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What keys of figures begin with.
pub const RRD_PREFIX: &str = "rrd/";
/// The key under which each node tells its address.
pub const NODE_IP: &str = "nodeip";
/// The key under which each node tells how far it is with the cluster's corosync.conf: see [`crate::conf_change`].
pub const CONF_WORD: &str = "corosync.conf";

/// What happened.
#[derive(Debug, Clone)]
pub enum StatusInput {
    /// The group has these members, at this place in the order of its messages. Without this node: it is not in it.
    Members(Vec<NodeId>),
    /// The ring is changing: messages up to the next `Members` may have holes before them.
    Transitional,
    /// A message of the group, the store's own ones included.
    Message {
        /// Who sent it, as the group tells.
        from: NodeId,
        /// Its bytes.
        payload: Bytes,
    },
    /// The membership service is gone, or this process is no longer in the group.
    Lost,
}

/// What must be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusOutput {
    /// Send to the group.
    Multicast(Bytes),
    /// Others than before are online.
    MembersChanged {
        /// Who was online before.
        before: Vec<NodeId>,
        /// Who is online now; empty while this node is not in the group.
        now: Vec<NodeId>,
    },
    /// A member, or this node itself, said a word on corosync.conf, at this place of the group's order.
    ConfWord {
        /// Who.
        node: NodeId,
        /// What; `None` if it took its word back.
        value: Option<Bytes>,
    },
}

/// Counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusStats {
    /// Messages that could not be read.
    pub messages_malformed: u64,
    /// Messages of a later version.
    pub messages_unknown: u64,
}

/// One node's part of the status store.
#[derive(Debug)]
pub struct StatusStore {
    incarnation: u64,
    name: String,
    node: Option<NodeId>,
    own: Values,
    peers: BTreeMap<NodeId, Values>,
    figures: RrdTable,
    log: ClusterLog,
    members: Vec<NodeId>,
    sender: Sender,
    /// Sums of the members' logs at the last change of the group, as far as they said.
    log_sums: BTreeMap<NodeId, u64>,
    changes: u64,
    revision: u64,
    outputs: VecDeque<StatusOutput>,
    stats: StatusStats,
}

impl StatusStore {
    /// An empty store of the node called `name`; `incarnation` is another one for every start of the process.
    #[must_use]
    pub fn new(name: &str, incarnation: u64) -> Self {
        Self {
            incarnation,
            name: name.to_owned(),
            node: None,
            own: Values::default(),
            peers: BTreeMap::new(),
            figures: RrdTable::default(),
            log: ClusterLog::default(),
            members: Vec::new(),
            sender: Sender::new(incarnation),
            log_sums: BTreeMap::new(),
            changes: 0,
            revision: 0,
            outputs: VecDeque::new(),
            stats: StatusStats::default(),
        }
    }

    /// Says which node of the cluster this is; `None` while it is in none.
    pub fn set_node(&mut self, node: Option<NodeId>) {
        self.node = node;
        if let Some(node) = node {
            self.peers.remove(&node);
        }
    }

    /// Forgets what nodes said that are not in the cluster any more.
    pub fn keep_only(&mut self, nodes: &[NodeId]) {
        self.peers.retain(|node, _| nodes.contains(node) || self.members.contains(node));
    }

    /// Takes one input.
    pub fn handle_input(&mut self, now: Instant, input: StatusInput) {
        match input {
            StatusInput::Members(members) => self.members_changed(members),
            StatusInput::Transitional => self.sender.stop(),
            StatusInput::Message { from, payload } => self.message(now, from, payload),
            StatusInput::Lost => self.members_changed(Vec::new()),
        }
        self.send();
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<StatusOutput> {
        self.outputs.pop_front()
    }

    /// Sets a value of this node, or figures; an empty value removes the key.
    ///
    /// # Errors
    /// [`StatusError`] when key or value are not allowed, or there is no room.
    pub fn publish(&mut self, now: Instant, key: &str, value: Bytes) -> Result<(), StatusError> {
        check_key(key)?;
        if let Some(figures_key) = key.strip_prefix(RRD_PREFIX) {
            let figures = rrd::check(key, value)?;
            self.figures.insert(now, figures_key, figures);
            self.sender.figures(figures_key);
        } else {
            self.set_own(key, value)?;
        }
        self.send();
        Ok(())
    }

    fn set_own(&mut self, key: &str, value: Bytes) -> Result<(), StatusError> {
        if value.len() > VALUE_MAX {
            return Err(StatusError::ValueTooLarge { key: key.to_owned(), size: value.len() });
        }
        if !self.own.has_room(key, value.len()) {
            return Err(StatusError::Full);
        }
        let moved = key == NODE_IP && self.own.get(key) != Some(&value);
        self.changes += u64::from(moved);
        self.revision += 1;
        self.own.set(
            self.incarnation,
            ValueItem { key: key.to_owned(), revision: self.revision, value: Some(value) },
        );
        self.sender.value(key);
        Ok(())
    }

    /// Makes an entry of the cluster log, at a time in whole UTC seconds.
    ///
    /// # Errors
    /// [`StatusError`] when a field is not allowed.
    pub fn append(&mut self, time: u32, draft: LogDraft) -> Result<(), StatusError> {
        let entry = self.log.append(&self.name, time, draft)?;
        self.sender.entry(entry);
        self.send();
        Ok(())
    }

    /// The value of a node's key: of this node itself for `None`.
    #[must_use]
    pub fn value(&self, node: Option<NodeId>, key: &str) -> Option<&Bytes> {
        self.values(node)?.get(key)
    }

    /// A node's keys with how often each changed since it came, by key, without the address and what is said of
    /// corosync.conf.
    pub fn versions(&self, node: Option<NodeId>) -> impl Iterator<Item = (&str, u64)> {
        let versions = self.values(node).into_iter().flat_map(Values::versions);
        versions.filter(|(key, _)| ![NODE_IP, CONF_WORD].contains(key))
    }

    /// The other nodes that have told anything, by id.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.keys().copied()
    }

    /// The address that a node told.
    #[must_use]
    pub fn address(&self, node: NodeId) -> Option<&str> {
        let text = std::str::from_utf8(self.value(Some(node), NODE_IP)?).ok()?;
        Some(text.trim_end_matches('\0'))
    }

    /// Figures that are not too old, by key (without `rrd/`).
    pub fn figures(&self, now: Instant) -> impl Iterator<Item = (&str, &Bytes)> {
        self.figures.live(now)
    }

    /// The cluster log.
    #[must_use]
    pub fn log(&self) -> &ClusterLog {
        &self.log
    }

    /// Who is online: the members of the group. Empty while this node is not in it.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// Rises when members or addresses change.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> StatusStats {
        self.stats
    }

    fn values(&self, node: Option<NodeId>) -> Option<&Values> {
        match node {
            None => Some(&self.own),
            node if node == self.node => Some(&self.own),
            Some(node) => self.peers.get(&node),
        }
    }

    fn members_changed(&mut self, members: Vec<NodeId>) {
        let inside = self.node.is_some_and(|node| members.contains(&node));
        let now = if inside { members } else { Vec::new() };
        self.log_sums.clear();
        if inside {
            self.sender.restart(self.own.keys());
        } else {
            self.sender.leave();
        }
        let before = std::mem::replace(&mut self.members, now.clone());
        if before != now {
            self.changes += 1;
            self.outputs.push_back(StatusOutput::MembersChanged { before, now });
        }
    }

    fn message(&mut self, now: Instant, from: NodeId, payload: Bytes) {
        let SignedStatus { incarnation, serial, message } = match SignedStatus::decode(payload) {
            Ok(Some(signed)) => signed,
            Ok(None) => return self.stats.messages_unknown += 1,
            Err(error) => {
                self.stats.messages_malformed += 1;
                tracing::warn!(%from, %error, "status message cannot be read");
                return;
            }
        };
        if Some(from) != self.node {
            self.apply(now, from, incarnation, message);
        } else if incarnation == self.incarnation {
            self.sender.returned(serial);
            match message {
                StatusMessage::Begin { log_sum, .. } => self.log_sum(from, log_sum),
                StatusMessage::Values(items) => {
                    items.into_iter().for_each(|item| self.conf_word(from, &item))
                }
                _ => {}
            }
        }
    }

    fn apply(&mut self, now: Instant, from: NodeId, incarnation: u64, message: StatusMessage) {
        match message {
            StatusMessage::Begin { snapshot, log_sum } => {
                self.peers.entry(from).or_default().begin(incarnation, snapshot);
                self.log_sum(from, log_sum);
            }
            StatusMessage::Values(items) => self.peer_values(from, incarnation, items),
            StatusMessage::End { snapshot } => {
                self.peers.entry(from).or_default().end(incarnation, snapshot);
            }
            StatusMessage::Figures(items) => {
                items.into_iter().for_each(|(key, text)| self.figures.insert(now, &key, text));
            }
            StatusMessage::Log(entries) => {
                entries.into_iter().for_each(|entry| _ = self.log.receive(entry));
            }
            StatusMessage::LogState(entries) => {
                entries.into_iter().for_each(|entry| _ = self.log.merge(entry));
            }
        }
    }

    fn peer_values(&mut self, from: NodeId, incarnation: u64, items: Vec<ValueItem>) {
        for item in items {
            self.conf_word(from, &item);
            let peer = self.peers.entry(from).or_default();
            let moved = item.key == NODE_IP && peer.get(NODE_IP) != item.value.as_ref();
            self.changes += u64::from(moved);
            peer.set(incarnation, item);
        }
    }

    fn conf_word(&mut self, node: NodeId, item: &ValueItem) {
        if item.key == CONF_WORD {
            let value = item.value.clone().filter(|value| !value.is_empty());
            self.outputs.push_back(StatusOutput::ConfWord { node, value });
        }
    }

    /// A member said the sum of its log. When all have, the lowest one of each sum sends its own, if there are several.
    fn log_sum(&mut self, from: NodeId, sum: u64) {
        if self.members.contains(&from) {
            self.log_sums.insert(from, sum);
        }
        let Some(own) = self.node.and_then(|node| self.log_sums.get(&node)) else { return };
        if self.log_sums.len() < self.members.len() || self.log_sums.values().all(|sum| sum == own) {
            return;
        }
        let lowest = self.log_sums.iter().find(|(_, sum)| *sum == own).map(|(node, _)| *node);
        if lowest == self.node {
            self.sender.send_log();
        }
    }

    /// Sends what waits, as far as the window allows.
    fn send(&mut self) {
        while let Some(message) = self.sender.next(&self.own, &self.figures, &self.log) {
            self.outputs.push_back(StatusOutput::Multicast(message));
        }
    }
}

/// Whether a text may be a key.
pub(crate) fn check_key(key: &str) -> Result<(), StatusError> {
    match key {
        "" | RRD_PREFIX => Err(StatusError::KeyInvalid { length: key.len() }),
        key if key.len() > KEY_MAX || key.contains(char::is_control) => {
            Err(StatusError::KeyInvalid { length: key.len() })
        }
        _ => Ok(()),
    }
}
