//! What crosses the border of the ring: inputs, outputs and the types inside them.

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use super::{pace::Pace, params::Params};

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The sockets are up: begin to gather. Sent once.
    Start {
        /// The ring sequence read from stable storage, 0 if there is none. The node never uses a
        /// ring id at or below it.
        stored_ring_seq: u64,
    },
    /// A datagram as received. One that does not decode or fit is counted and dropped.
    Datagram(Bytes),
    /// The time of [`Ring::next_deadline`](super::Ring::next_deadline) has come.
    Timer,
    /// One packet of the packing layer for the send queue.
    ///
    /// The caller asks [`Ring::queue_room`](super::Ring::queue_room) first; a packet beyond the
    /// room is dropped and counted as [`Drop::QueueFull`](super::Drop::QueueFull).
    Multicast {
        /// The mcast payload.
        payload: Bytes,
        /// Which send queue.
        phase: Phase,
        /// Travels with the message; delivery order is the same for both.
        guarantee: Guarantee,
    },
    /// Something was staged above and waits for the token: a held token is let go.
    NewMessage,
    /// The synchronisation after a configuration change has finished: the normal queue is sent
    /// again. Source: Totem specification 5.4.
    TransitionalAck,
    /// Answer to [`Output::StoreRingSeq`]: the sequence is on stable storage.
    Stored {
        /// The sequence that was stored.
        ring_seq: u64,
    },
    /// New parameters, used from now on; running timers keep their deadline.
    SetParams(Params),
    /// The members of a ring have agreed to the fast timers, or no longer do. Without effect if another ring is
    /// installed by now.
    SetFast {
        /// The ring.
        ring: RingId,
        /// They have.
        on: bool,
    },
    /// Leave the ring with a leave message. Afterwards the ring is silent for good.
    Leave,
}

/// What must be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram. Errors are lost packets.
    Send {
        /// To whom.
        to: Destination,
        /// The complete datagram.
        packet: Bytes,
    },
    /// Hand a message upward, in agreed order.
    Deliver(Delivery),
    /// Hand a configuration change upward, in order with the messages.
    Configuration(ConfigurationChange),
    /// Every member of the ring has received all messages up to `seq`.
    SafeUpTo {
        /// The ring whose messages are meant.
        ring: RingId,
        /// The highest safe sequence number.
        seq: u32,
    },
    /// A token visit ended. Synchronisation runs one step per token.
    TokenSent,
    /// Store the ring sequence, then answer with [`Input::Stored`]. The commit token waits for it.
    StoreRingSeq(u64),
    /// The membership state changed.
    StateChanged {
        /// The state before.
        from: StateName,
        /// The state now.
        to: StateName,
        /// Why.
        reason: Reason,
    },
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// One other node.
    Node(NodeId),
    /// All other configured nodes, whether in the ring or not. The ring takes its own copy itself.
    All,
}

/// Which of the two send queues a message waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Sent while no synchronisation runs.
    Normal,
    /// Sent between a regular configuration change and [`Input::TransitionalAck`].
    Transitional,
}

/// When the application may see a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// In total order, as soon as all earlier messages are there.
    Agreed,
    /// In total order, once every member has the message. The ring delivers in agreed order and
    /// says [`Output::SafeUpTo`]; the layer above holds the message back.
    Safe,
}

/// One message in agreed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The ring that the message was sent in.
    pub ring: RingId,
    /// Its sequence number there.
    pub seq: u32,
    /// Who sent it first.
    pub origin: NodeId,
    /// What its sender asked for.
    pub guarantee: Guarantee,
    /// The mcast payload.
    pub payload: Bytes,
}

/// A configuration change of extended virtual synchrony.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigurationChange {
    /// The old configuration reduced to those who move on together.
    Transitional {
        /// The *new* ring.
        ring: RingId,
        /// Members of the old ring that come along, ascending. Empty on a node that just started.
        members: Vec<NodeId>,
        /// Members of the old ring that do not, ascending.
        left: Vec<NodeId>,
    },
    /// The new configuration.
    Regular {
        /// The new ring.
        ring: RingId,
        /// All members, ascending.
        members: Vec<NodeId>,
        /// Those that were not in this node's transitional configuration, ascending.
        joined: Vec<NodeId>,
    },
}

/// The membership states of the Totem protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// Before the start and after a leave: silent.
    Stopped,
    /// Messages are ordered on an installed ring.
    Operational,
    /// Nodes look for each other and for consensus.
    Gather,
    /// The commit token collects what each member has.
    Commit,
    /// Messages of the old ring are exchanged on the new ring.
    Recovery,
}

/// Why the membership state changed, or why a node gathers anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The node starts.
    Started,
    /// No token within the token timeout.
    TokenLost,
    /// Some nodes did not agree in time and count as failed.
    ConsensusTimeout,
    /// All agreed, but no commit token came.
    CommitTokenLost,
    /// A join message arrived.
    JoinReceived,
    /// A node announced that it leaves.
    LeaveReceived,
    /// A message of another ring arrived.
    ForeignMessage,
    /// Another ring announced itself.
    MergeDetected,
    /// This node misses messages for too many rotations and cuts itself off.
    FailedToReceive,
    /// All agreed and this node is the representative.
    Consensus,
    /// The commit token of the new ring arrived.
    CommitTokenReceived,
    /// The commit token came round with every member's entry.
    CommitTokenComplete,
    /// All messages of the old ring are recovered.
    Recovered,
    /// This node leaves.
    Left,
}

/// How far the messages of a ring have come at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingProgress {
    /// The ring that the messages belong to; in recovery the new one.
    pub ring: RingId,
    /// All messages up to here were received.
    pub aru: u32,
    /// All messages up to here are with every member, and are kept no longer.
    pub released: u32,
}

/// What the ring looks like now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingStatus {
    /// The membership state.
    pub state: StateName,
    /// The ring id: installed when operational, else the latest that was tried.
    pub ring: RingId,
    /// Members of the last installed ring, ascending.
    pub members: Vec<NodeId>,
    /// Nodes that take part in the present gathering, ascending.
    pub gathering: Vec<NodeId>,
    /// Nodes that count as failed in the present gathering, ascending.
    pub failed: Vec<NodeId>,
    /// This node is the representative of `ring`.
    pub representative: bool,
    /// All messages up to here were received.
    pub aru: u32,
    /// The highest message received.
    pub high_seq_received: u32,
    /// The highest message delivered.
    pub high_delivered: u32,
    /// Packets in both send queues.
    pub backlog: usize,
    /// A synchronisation runs: only the transitional queue is sent.
    pub waiting_trans_ack: bool,
    /// The ring is idle and the representative keeps the token between rotations.
    pub token_held: bool,
    /// The timers in force.
    pub pace: Pace,
}
