//! The border of the core: everything that goes in and everything that comes out.

use std::time::Instant;

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use crate::{
    batch::{Batch, BatchId},
    conflict::ConflictHeader,
    epoch::Epoch,
    log::Change,
    operation::{Envelope, RequestId},
    path::ConfigPath,
    quorum::QuorumView,
    request::{Applied, Handle, OperationRequest, Reply},
    tree::{OperationError, Replacement},
};

/// What happened. The driver drains all outputs after each input.
#[derive(Debug, Clone)]
pub enum Input {
    /// The group has these members, at this place in the order of its messages.
    Members {
        /// The ring that the group now lives in.
        ring: RingId,
        /// Nodes with a replica in the group. Empty, or without this node: the replica is not in it.
        members: Vec<NodeId>,
    },
    /// The ring is changing: what follows up to the next `Members` was delivered in a transitional
    /// configuration, where messages may be missing. Must be handed in at its place in the order.
    Transitional,
    /// A message of the group, in the agreed order, the replica's own ones included.
    Message {
        /// Who sent it, as the group tells.
        from: NodeId,
        /// Its bytes.
        payload: Bytes,
    },
    /// What one token visit delivered is complete: time to store it.
    EndOfBatch,
    /// The membership service is gone, or this process is no longer in the group.
    GroupLost,
    /// The votes changed.
    Quorum(QuorumView),
    /// The quorum service is gone: not quorate.
    QuorumLost,
    /// A local caller wants to write.
    Request {
        /// Names the request in its reply.
        handle: Handle,
        /// What to write.
        request: OperationRequest,
        /// When the caller stops waiting.
        deadline: Instant,
    },
    /// A local caller wants to read what is certain to be no older than any acknowledged write: once
    /// replied to, a read of the tree is linearizable.
    Barrier {
        /// Names the request in its reply.
        handle: Handle,
        /// Identifies it in the group; unique.
        id: RequestId,
        /// When the caller stops waiting.
        deadline: Instant,
    },
    /// A batch is on disk, synced.
    Stored {
        /// Number of the batch.
        batch: BatchId,
    },
    /// A batch could not be written. The replica answers no more writes until it is loaded again; the
    /// driver leaves the group.
    StoreFailed {
        /// Number of the batch.
        batch: BatchId,
    },
    /// [`Replica::next_deadline`](crate::Replica::next_deadline) has passed.
    Timer,
    /// Whether the node is stand-alone: no group, always writable.
    LocalMode(bool),
}

/// What must be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send to the group, in this order; if the group takes no more at the moment, keep and send later.
    Multicast(Bytes),
    /// Write and sync, then hand in [`Input::Stored`]. There is never more than one batch under way.
    Store(Batch),
    /// The one reply to a request.
    Reply {
        /// Which request.
        handle: Handle,
        /// The answer.
        reply: Reply,
    },
    /// An operation was performed here, or refused, or recognised as a repetition. Emitted in the
    /// group's order, before it is certain: for spans, and for what is derived from the tree.
    Performed {
        /// The operation with its trace context.
        envelope: Envelope,
        /// What came of it.
        result: Result<Applied, OperationError>,
        /// Whether its request had been performed before.
        repeated: bool,
    },
    /// Steps of the tree that can no longer be lost, in order: for readers, who follow them ([`Tree::follow`]). Before
    /// the replies and the changes that they are about.
    ///
    /// [`Tree::follow`]: crate::Tree::follow
    Certain(Vec<Replacement>),
    /// Changes that can no longer be lost, each version once and in order: for watchers.
    Changed(Vec<Change>),
    /// The watchers' place in history is gone (compacted, or the history was replaced after an override
    /// or stand-alone writes). They must read everything again.
    WatchReset {
        /// Version of the tree now.
        version: u64,
    },
    /// The winner's state of a synchronisation replaced parts of the tree.
    Adopted {
        /// The version before.
        from: u64,
        /// The version now.
        version: u64,
        /// Inodes that are new or changed.
        changed: Vec<u64>,
        /// Inodes that are gone.
        removed: Vec<u64>,
    },
    /// The replica's state changed.
    StateChanged {
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// What brought it about.
        reason: Reason,
    },
    /// What this replica wrote beyond the common history was put aside; the batch that follows has it.
    ConflictKept {
        /// Which history was left.
        header: ConflictHeader,
        /// The entries in the copy.
        paths: Vec<ConfigPath>,
    },
    /// Another replica's tree differs at the same place in history: a bug or a broken disk. The replicas
    /// synchronise at once.
    DivergenceDetected {
        /// The other replica.
        node: NodeId,
        /// The version that is not the same.
        version: u64,
    },
}

/// What a replica can do at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Stand-alone by configuration: always writable.
    Local,
    /// Not in the group: read-only.
    Alone,
    /// In the group, without enough votes: read-only.
    NotQuorate,
    /// The replicas are finding out who has what; writes wait.
    Synchronising,
    /// In sync: writable.
    Synced,
    /// The store failed: read-only until restarted.
    Failed,
}

/// What brought a change of state about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Just loaded.
    Loaded,
    /// The mode was set.
    Mode,
    /// The membership service is gone.
    GroupLost,
    /// The group has other members.
    GroupChanged,
    /// The ring is changing.
    RingChanging,
    /// The votes changed.
    QuorumChanged,
    /// A round of synchronisation began.
    RoundStarted,
    /// All participants are the same: a new epoch began.
    EpochBegan(Epoch),
    /// The group went on without this replica, which was silent for too long.
    LeftOut,
    /// The replica met an operation that it cannot read.
    CannotRead,
    /// The store failed.
    StoreFailed,
}
