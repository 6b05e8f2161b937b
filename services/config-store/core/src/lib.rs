//! The replicated tree of the cluster: what pmxcfs calls memdb, dcdb and dfsm, as one state machine.
//!
//! **What it is.** A [`Replica`] holds the tree in memory, takes part in one process group of all
//! replicas, and turns the group's agreed order into one history: every replica performs the same
//! operations in the same order, stores them in atomic batches, and tells the others what it has stored.
//! The originator answers a request when members with enough votes have it on disk.
//!
//! **What it never does.** It decides neither membership nor quorum, touches no socket, file, clock or
//! thread, and never waits: storing is an output, and what depends on it happens when the answer is in.
//!
//! **Contract.** Hand in one [`Input`], then drain [`Replica::poll_output`], in order; hand in
//! [`Input::Timer`] when [`Replica::next_deadline`] has passed. The group's events go in exactly in the
//! group's order, [`Input::Transitional`] included: messages that are delivered while a ring changes may
//! have holes before them and must not become history. [`Output::Multicast`] goes out in order, once;
//! [`Output::Store`] is written atomically and synced before [`Input::Stored`].
//!
//! ```
//! use std::time::{Duration, Instant};
//! use config_store_core::{
//!     Extensions, Input, Loader, Operation, OperationRequest, Output, Replica, RequestId, Settings,
//! };
//! use quorate_types::NodeId;
//!
//! // A stand-alone node: no group, always writable.
//! let now = Instant::now();
//! let node = NodeId::new(1).unwrap();
//! let mut replica = Replica::load(Settings::new(node, 1), Loader::new().finish().unwrap());
//! replica.handle_input(now, Input::LocalMode(true));
//!
//! let request = OperationRequest {
//!     id: RequestId([7; 16]),
//!     mtime: 1_700_000_000,
//!     trace: None,
//!     extensions: Extensions::default(),
//!     operation: Operation::Create { path: "storage.cfg".parse().unwrap() },
//! };
//! let deadline = now + Duration::from_secs(5);
//! replica.handle_input(now, Input::Request { handle: 1, request, deadline });
//!
//! // The batch comes first; the reply only after it was stored.
//! let mut replies = 0;
//! while let Some(output) = replica.poll_output() {
//!     match output {
//!         Output::Store(batch) => replica.handle_input(now, Input::Stored { batch: batch.id }),
//!         Output::Reply { handle, reply } => {
//!             assert_eq!((handle, reply.unwrap().version), (1, 2));
//!             replies += 1;
//!         }
//!         _ => {}
//!     }
//! }
//! assert_eq!(replies, 1);
//! ```
//!
//! **What is promised**, and where it is argued:
//!
//! - An acknowledged write is on disk at a majority, in an epoch that this majority has on disk, so every
//!   later quorate history contains it (`replica/update.rs`, `epoch.rs`). What an override of the quorum
//!   or a quorum device's vote lets happen without a majority of copies is outside of it; whatever loses
//!   then is kept as a conflict copy (`conflict.rs`).
//! - An answer is given once: success, refusal, "nothing was sent", or "unknown" (`request.rs`). A
//!   request id is performed at most once within the last [`LOG_WINDOW`] versions (`log.rs`).
//! - Watchers see only what can no longer be lost, each version once (`replica/active.rs`).
//! - Equal epoch and version mean equal trees; every report of stored work carries the checksum, so a
//!   replica that diverged is found by the next write or barrier and repaired (`ack.rs`).
//!
//! **Map.** `path`, `guest`: names and their rules. `entry`, `checksum`, `tree/`: the memdb. `operation`,
//! `log`, `epoch`: the dcdb, what happened. `message`, `outbox`, `transfer`, `wire`: how it travels.
//! `quorum`, `ack`, `request`: who must have it, and who waits. `sync`, `replica/`: the dfsm. `batch`,
//! `load`, `conflict`, `history/`: storage. `status/`: what nodes tell each other beside the tree. `io`, `stats`: the
//! border.
//!
//! **Sources.** pmxcfs specification (sections 3, 5, 6, 8); pve-cluster `memdb.c`, `dcdb.c`, `dfsm.c` for
//! names and behaviour. Extended virtual synchrony (Moser, Amir, Melliar-Smith, Agarwal, 1994) for what the
//! group delivers. Epochs follow the terms of Raft (Ongaro, Ousterhout, 2014, sections 5.2 and 5.4).
//! Differs from pmxcfs: own messages and groups (its members never mix with ours); the winner is chosen by
//! epoch, not by clock; deltas instead of an index from every member; nothing that loses is dropped.

#![forbid(unsafe_code)]

mod ack;
mod batch;
mod checksum;
pub mod conf_change;
mod conflict;
mod entry;
mod epoch;
mod guest;
mod history;
mod io;
mod load;
mod log;
mod message;
mod operation;
mod outbox;
mod path;
mod quorum;
mod replica;
mod request;
mod stats;
pub mod status;
mod sync;
mod transaction;
mod transfer;
mod tree;
mod wire;

pub use batch::{Batch, BatchId, Meta, Space, Write, content_key};
pub use checksum::Checksum;
pub use conflict::{ConflictHeader, ConflictItem, conflict_key, removal as conflict_removal};
pub use entry::{Entry, Head, Kind, ROOT};
pub use epoch::{EPOCHS_MAX, Epoch, Epochs};
pub use guest::{GuestConfig, GuestKind};
pub use history::{FileVersion, History, HistoryLimits, KeptContent, VersionKind};
pub use io::{Input, Output, Reason, State};
pub use load::{Image, LoadError, Loader};
pub use log::{ChainHash, Change, ChangeKind, Compacted, LOG_WINDOW, Log, Record};
pub use message::{MemberState, Message, PIECE_MAX, RoundId, Signed, StreamKind};
pub use operation::{
    CALLER_MAX, CALLER_TAG, Envelope, Expect, Extensions, Operation, RequestId, TraceContext,
};
pub use path::{ConfigPath, NAME_MAX, PATH_MAX, PathError};
pub use quorum::{QuorumView, Shortfall};
pub use replica::{LOCK_LIFETIME, Replica, Settings};
pub use request::{Applied, Handle, OperationRequest, QUEUE_BYTES_MAX, QUEUE_MAX, Reply, RequestError};
pub use stats::Stats;
pub use sync::{CatchUp, catch_up, next_epoch, winner};
pub use transaction::{TRANSACTION_BYTES_MAX, TRANSACTION_OPERATIONS_MAX, Transaction, TransactionError};
pub use tree::{
    EMPTY_VERSION, ENTRIES_MAX, Effect, FILE_MAX, LOCK_DIRECTORY, OperationError, Place, ReplaceError,
    Replacement, Root, Step, TREE_BYTES_MAX, Touch, Touched, Tree,
};
pub use wire::WireError;
