//! The replicated tree of the cluster: pmxcfs' memdb, dcdb and dfsm as a state machine without I/O.
#![forbid(unsafe_code)]

mod ack;
mod batch;
mod checksum;
mod conflict;
mod entry;
mod epoch;
mod guest;
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
mod sync;
mod transfer;
mod tree;
mod wire;

pub use batch::{Batch, BatchId, Meta, Space, Write};
pub use checksum::Checksum;
pub use conflict::{ConflictHeader, ConflictItem, conflict_key, removal as conflict_removal};
pub use entry::{Entry, Head, Kind, ROOT};
pub use epoch::{EPOCHS_MAX, Epoch, Epochs};
pub use guest::{GuestConfig, GuestKind};
pub use io::{Input, Output, Reason, State};
pub use load::{Image, LoadError, Loader};
pub use log::{ChainHash, Change, ChangeKind, Compacted, LOG_WINDOW, Log, Record};
pub use message::{MemberState, Message, PIECE_MAX, RoundId, Signed, StreamKind};
pub use operation::{Envelope, Expect, Extensions, Operation, RequestId, TraceContext};
pub use path::{ConfigPath, NAME_MAX, PATH_MAX, PathError};
pub use quorum::{QuorumView, Shortfall};
pub use replica::{Replica, Settings};
pub use request::{
    Applied, Handle, OperationRequest, QUEUE_BYTES_MAX, QUEUE_MAX, Reply, RequestError,
};
pub use stats::Stats;
pub use sync::{CatchUp, catch_up, next_epoch, winner};
pub use tree::{
    EMPTY_VERSION, ENTRIES_MAX, Effect, FILE_MAX, LOCK_DIRECTORY, OperationError, ReplaceError, Replacement,
    Root, TREE_BYTES_MAX, Touched, Tree,
};
pub use wire::WireError;
