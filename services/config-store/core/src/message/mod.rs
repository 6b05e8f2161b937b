//! What replicas say to each other in the process group.
//!
//! Every message starts with the same head; little-endian:
//!
//! | field | size | meaning |
//! |---|---|---|
//! | format | 1 | 1 |
//! | kind | 1 | see [`Message`] |
//! | incarnation | 8 | of the sending process: tells its messages from those of a predecessor |
//! | serial | 8 | counts the sender's messages: own messages that come back open the window |
//!
//! A message of an unknown format or kind is dropped by everybody who does not know it; an *operation*
//! that cannot be read makes the replica leave the epoch and come back through a state transfer.

mod codec;

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

pub(crate) use self::codec::{epochs, put_epochs};
use crate::{
    checksum::Checksum,
    epoch::{Epoch, Epochs},
    log::ChainHash,
    operation::RequestId,
};

/// Largest piece of a transfer or of a file in one message, in bytes.
pub const PIECE_MAX: usize = 256 * 1024;
/// Into how many buckets the entries are sorted to find the different ones.
pub(crate) const BUCKETS: usize = 1024;
/// Most inodes asked for in one message.
pub(crate) const WANT_MAX: usize = PIECE_MAX / 8;

/// One round of synchronisation: who started it, and its count there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId {
    /// Who started it.
    pub starter: NodeId,
    /// The starter's incarnation.
    pub incarnation: u64,
    /// The starter's count of rounds.
    pub count: u64,
}

/// What a replica has: its answer to the start of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// The epoch that the replica was last in sync in.
    pub epoch: Epoch,
    /// The highest epoch it promised to take part in.
    pub promised: Epoch,
    /// Version of its tree.
    pub version: u64,
    /// Hash of its history.
    pub chain: ChainHash,
    /// Checksum of its tree.
    pub checksum: Checksum,
    /// The oldest version in its log.
    pub log_first: u64,
    /// Which epochs wrote which versions.
    pub epochs: Epochs,
}

/// What a piece of a transfer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// What changed since the receivers' version.
    Delta,
    /// Inodes and hashes of the entries in the buckets that differ.
    Index,
    /// The entries that were asked for.
    Entries,
}

/// One message of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The ring is quorate: all participants say what they have. The last one delivered counts.
    SyncStart {
        /// The round.
        round: RoundId,
        /// The ring whose quorum the starter saw.
        ring: RingId,
        /// Who takes part; a member that does not answer in time is left out of the next round.
        participants: Vec<NodeId>,
    },
    /// What the sender has.
    State {
        /// The round this answers.
        round: RoundId,
        /// What it has.
        state: MemberState,
    },
    /// The sender diverged and asks the winner what differs. Sums of entry hashes per bucket; none to
    /// have all buckets compared.
    IndexRequest {
        /// The round.
        round: RoundId,
        /// One sum per bucket, or none.
        sums: Vec<u64>,
    },
    /// The entries that the sender of an `IndexRequest` needs.
    Want {
        /// The round.
        round: RoundId,
        /// Whether these are the last ones.
        last: bool,
        /// Their inodes.
        inodes: Vec<u64>,
    },
    /// A piece of a transfer from the winner.
    Piece {
        /// The round.
        round: RoundId,
        /// Whom it is for.
        to: Vec<NodeId>,
        /// What it belongs to.
        kind: StreamKind,
        /// Whether the transfer begins with it.
        first: bool,
        /// Whether the transfer ends with it.
        last: bool,
        /// The bytes.
        bytes: Bytes,
    },
    /// The sender has the winner's state and its promise of the new epoch on disk.
    Ready {
        /// The round.
        round: RoundId,
        /// The epoch that it promised.
        epoch: Epoch,
        /// Checksum of what it has.
        checksum: Checksum,
    },
    /// The sender is in the group but not in the epoch, and wants to be.
    SyncRequest,
    /// An operation whose content fits into one piece.
    Operation {
        /// The epoch it is meant for; in any other one it is dropped.
        epoch: Epoch,
        /// The operation without its content.
        head: Bytes,
        /// The content.
        content: Bytes,
    },
    /// A piece of the content of the sender's next operation.
    Part {
        /// The epoch it is meant for.
        epoch: Epoch,
        /// The operation's request.
        request: RequestId,
        /// Counts the parts of one operation from 0.
        index: u16,
        /// The bytes.
        content: Bytes,
    },
    /// An operation whose content came in parts.
    OperationOfParts {
        /// The epoch it is meant for.
        epoch: Epoch,
        /// The operation's request.
        request: RequestId,
        /// How many parts there were.
        parts: u16,
        /// The operation without its content.
        head: Bytes,
    },
    /// Nothing changes: whoever sent it wants to know that the majority is with it.
    Barrier {
        /// The epoch it is meant for.
        epoch: Epoch,
        /// Identifies it to its sender.
        request: RequestId,
    },
    /// The sender has stored everything up to a position of the epoch.
    Durable {
        /// The epoch.
        epoch: Epoch,
        /// How many operations and barriers of the epoch are done and, if they changed something, stored.
        position: u64,
        /// Version of the tree at that position.
        version: u64,
        /// Checksum of the tree at that position.
        checksum: Checksum,
    },
}

/// A message with who sent it as which process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Incarnation of the sending process.
    pub incarnation: u64,
    /// Counts the sender's messages.
    pub serial: u64,
    /// The message.
    pub message: Message,
}

#[cfg(test)]
mod tests;
