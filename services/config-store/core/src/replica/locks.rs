//! Locks that outlived their holder: how old each is here, and breaking one that is too old.
//!
//! A lock is a directory below `priv/lock`. Whoever finds one held asks to have it broken by setting its modification
//! time to 0. That is refused as long as the lock lives; but when the refusal arrives where the request came from, and
//! that node has seen this very incarnation of the lock for longer than [`LOCK_LIFETIME`], it deletes the lock, if it
//! is still the same. Clocks of nodes are never compared.
//!
//! Source: pmxcfs specification, section 5. Differs: the node that asks judges, not the one with the lowest id, which
//! may be the one that hangs; every node has seen a lock for as long as any other.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::Replica;
use crate::{
    log::Change,
    operation::{Envelope, Expect, Extensions, Operation, RequestId},
    path::ConfigPath,
    request::{Handle, Wish},
    tree::LOCK_DIRECTORY,
};

/// How long a lock lives without being refreshed. Source: pmxcfs specification, section 5.
pub const LOCK_LIFETIME: Duration = Duration::from_secs(120);
/// The caller of requests that a replica makes itself: nobody waits for the reply.
pub(super) const NOBODY: Handle = 0;
/// How long a lock that is too old may take to go.
const BREAK_DEADLINE: Duration = Duration::from_secs(30);

/// Since when this replica knows each lock, by inode; an incarnation is known by its version.
#[derive(Debug, Default)]
pub(super) struct LockAges(BTreeMap<u64, (u64, Instant)>);

impl LockAges {
    /// How long the incarnation has been known; one that was not known is from now on.
    fn age(&mut self, inode: u64, version: u64, now: Instant) -> Duration {
        let known = self.0.entry(inode).or_insert((version, now));
        if known.0 != version {
            *known = (version, now);
        }
        now.saturating_duration_since(known.1)
    }

    fn forget(&mut self, inode: u64) {
        self.0.remove(&inode);
    }

    /// Another tree was taken over: what is known of other incarnations says nothing.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }
}

fn is_lock(path: &ConfigPath) -> bool {
    path.parent().is_some_and(|parent| parent.as_str() == LOCK_DIRECTORY)
}

impl Replica {
    /// A change was performed: a lock that was taken or refreshed is young, one that was released is none.
    pub(super) fn note_lock(&mut self, now: Instant, change: &Change) {
        if let Some(removed) = change.removed {
            self.lock_ages.forget(removed);
        }
        if is_lock(&change.path) && self.tree.entry(change.inode).is_some_and(crate::Entry::is_directory) {
            self.lock_ages.age(change.inode, change.version, now);
        }
    }

    /// An operation of this node was refused. If it asked to break a lock that is too old, the lock goes.
    pub(super) fn break_old_lock(&mut self, now: Instant, refused: &Envelope) {
        let Operation::SetMtime { path, mtime: 0 } = &refused.operation else { return };
        let Some(lock) = self.tree.get(path).filter(|lock| lock.is_directory() && is_lock(path)) else {
            return;
        };
        let (inode, version) = (lock.inode(), lock.head().version);
        let age = self.lock_ages.age(inode, version, now);
        if age <= LOCK_LIFETIME {
            return;
        }
        tracing::warn!(%path, ?age, holder = lock.head().writer, "breaking a lock that was not refreshed");
        let operation = Operation::Delete { path: path.clone(), expect: Expect::Version(version) };
        let envelope = Envelope {
            request: break_id(inode, version),
            origin: 0,
            mtime: refused.mtime,
            trace: refused.trace,
            extensions: Extensions::default(),
            operation,
        };
        // One that finds no room is asked for again by whoever waits for the lock.
        let _ = self.requests.admit(NOBODY, Wish::Operation(envelope), now + BREAK_DEADLINE);
    }
}

/// The same for the same incarnation, whoever breaks it: it happens once.
fn break_id(inode: u64, version: u64) -> RequestId {
    let mut hash = Sha256::new();
    hash.update(b"break lock");
    hash.update(inode.to_le_bytes());
    hash.update(version.to_le_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    RequestId(id)
}
