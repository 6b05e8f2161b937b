//! What nodes tell each other beside the tree: the status store of this node, and everything that is read from it.
//!
//! [`Status`] is the handle: callers publish and read through it at once, behind a lock that is held for moments; one
//! task ([`keep_running`]) carries what is to be sent to the group, and hands in what the group delivers.

mod cluster;
mod content;
mod error;
mod grpc;
mod index;
mod note;
mod task;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use config_store_core::status::{LogDraft, LogEntry, StatusStore};
use quorate_types::NodeId;
use tokio::sync::Notify;

pub(crate) use error::QueryError;
pub(crate) use grpc::Grpc;
use index::TreeIndex;
pub(crate) use note::Notable;
pub(crate) use task::keep_running;

use crate::{generated::GuestLine, identity::IdentitySource, view::View};

/// The status of this node's cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Status(Arc<Inner>);

struct Inner {
    store: RwLock<StatusStore>,
    index: Mutex<TreeIndex>,
    view: View,
    identities: IdentitySource,
    quorate: AtomicBool,
    quorum_changes: AtomicU64,
    /// Whether debug messages are asked for, through `.debug`.
    debug: AtomicBool,
    /// There is something to send.
    outgoing: Notify,
    /// When this daemon started, in whole UTC seconds.
    start: u32,
}

impl Status {
    /// A status without any value, with the first entry of its log.
    pub(crate) fn new(view: View, identities: IdentitySource) -> Self {
        let index = TreeIndex::new(&view, identities.root());
        let status = Self(Arc::new(Inner {
            store: RwLock::new(StatusStore::new(identities.name().as_str(), rand::random())),
            index: Mutex::new(index),
            view,
            identities,
            quorate: AtomicBool::new(false),
            quorum_changes: AtomicU64::new(0),
            debug: AtomicBool::new(false),
            outgoing: Notify::new(),
            start: now_seconds(),
        }));
        status.note(&Notable::Started);
        status
    }

    /// Sets a value of this node; an empty one removes the key.
    pub(crate) fn publish(&self, key: &str, value: Bytes) -> Result<(), QueryError> {
        self.change().publish(Instant::now(), key, value)?;
        self.0.outgoing.notify_one();
        Ok(())
    }

    /// The value of a node's key; of this node's for an empty name.
    pub(crate) fn fetch(&self, key: &str, node: &str) -> Result<Bytes, QueryError> {
        let own = self.0.identities.name().as_str();
        let id = match node {
            "" => None,
            node if node == own => None,
            node => {
                let index = self.index();
                let known = index.cluster().and_then(|cluster| cluster.named(node));
                Some(known.ok_or_else(|| QueryError::NodeUnknown { node: node.to_owned() })?.id)
            }
        };
        let value = self.store().value(id, key).cloned();
        let node = if node.is_empty() { own } else { node };
        value.ok_or_else(|| QueryError::KeyUnknown { node: node.to_owned(), key: key.to_owned() })
    }

    /// Adds an entry to the cluster log.
    pub(crate) fn log(&self, draft: LogDraft) -> Result<(), QueryError> {
        self.change().append(now_seconds(), draft)?;
        self.0.outgoing.notify_one();
        Ok(())
    }

    /// The newest entries of the cluster log, of one user unless it is empty.
    pub(crate) fn entries(&self, max: usize, user: &str) -> Vec<LogEntry> {
        let store = self.store();
        let wanted = store.log().newest_first().filter(|entry| user.is_empty() || entry.ident == user);
        wanted.take(max).cloned().collect()
    }

    /// All guests, and the version of their list.
    pub(crate) fn guests(&self) -> (u64, Vec<GuestLine>) {
        let index = self.index();
        (index.list_version(), index.guests(&self.0.view.tree()))
    }

    /// The name of a node; its id in digits if corosync.conf does not list it.
    pub(crate) fn name_of(&self, node: NodeId) -> String {
        self.index().cluster().map_or_else(|| node.to_string(), |cluster| cluster.name_of(node))
    }

    /// Whether this node is quorate.
    pub(crate) fn is_quorate(&self) -> bool {
        self.0.quorate.load(Ordering::Acquire)
    }

    /// Says whether this node is quorate.
    pub(crate) fn set_quorate(&self, quorate: bool) {
        if self.0.quorate.swap(quorate, Ordering::AcqRel) != quorate {
            self.0.quorum_changes.fetch_add(1, Ordering::AcqRel);
            self.note(if quorate { &Notable::QuorumGained } else { &Notable::QuorumLost });
        }
    }

    fn store(&self) -> RwLockReadGuard<'_, StatusStore> {
        self.0.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, StatusStore> {
        self.0.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index, brought up to date.
    fn index(&self) -> MutexGuard<'_, TreeIndex> {
        let mut index = self.0.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.catch_up(&self.0.view, self.0.identities.root());
        index
    }
}

/// Whole UTC seconds by this node's clock.
fn now_seconds() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() as u32)
}
