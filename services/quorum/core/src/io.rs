//! What goes into the engine and what comes out.

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use crate::{DeviceVote, ExpectedRefusal, QuorumConfig, Status};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A ring was formed and synchronises. Answered by [`Output::SyncMessages`], with a quorum device when that
    /// has decided, at the latest after [`crate::ANSWER_WAIT`].
    SyncStarted {
        /// The ring.
        ring: RingId,
        /// Its members, this node among them.
        members: Vec<NodeId>,
        /// Those that came here together with this node.
        transitional: Vec<NodeId>,
    },
    /// A votequorum message in its place of the total order, own ones too.
    Message {
        /// The sender.
        from: NodeId,
        /// All of it, from the 16-byte header on.
        message: Bytes,
    },
    /// The ring is synchronised: all members have each other's votes.
    SyncActivated {
        /// The ring, as in `SyncStarted`.
        ring: RingId,
    },
    /// The ring broke before it was synchronised; another `SyncStarted` follows.
    SyncAborted,
    /// There is no ring: the membership daemon is gone. Quorum ends at once.
    RingLost,
    /// The operator says how many votes to expect. Answered by [`Output::ExpectedAccepted`] or
    /// [`Output::ExpectedRefused`].
    SetExpected {
        /// Votes to expect, in the whole ring, until the next change of configuration.
        expected: u32,
    },
    /// The configuration was read again.
    Reconfigure(QuorumConfig),
    /// The operator ends the wait for all nodes, in the whole ring.
    CancelWaitForAll,
    /// This node is about to leave for good; with `allow_downscale` the others expect its votes no more.
    Leave,
    /// What the quorum device says about a ring. About another ring than the present one it says nothing.
    Device {
        /// The ring.
        ring: RingId,
        /// See [`DeviceVote`].
        vote: DeviceVote,
    },
    /// `next_deadline` has passed.
    Timer,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The messages of this node for the synchronisation of this ring.
    SyncMessages {
        /// The ring.
        ring: RingId,
        /// Complete messages, in order.
        messages: Vec<Bytes>,
    },
    /// A message for all members, agreed order.
    Multicast(Bytes),
    /// The state that counts from now on.
    Changed(Status),
    /// The highest expected votes so far, to be given to [`crate::Votequorum::new`] after a restart.
    StoreExpectedTracking(u32),
    /// The new expected votes are sound and were sent; they count when the message comes back.
    ExpectedAccepted {
        /// The new expected votes.
        expected: u32,
    },
    /// The new expected votes were refused; nothing changed.
    ExpectedRefused(ExpectedRefusal),
}

/// Messages that were dropped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Not a votequorum message, or of the wrong length. A high value means a foreign version.
    pub malformed: u64,
    /// From a node that is no member of the ring.
    pub strangers: u64,
    /// About another node than its sender.
    pub hearsay: u64,
}
