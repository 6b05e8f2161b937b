//! What crosses the border of the stack: inputs, outputs and the types inside them.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use crate::{
    cpg::{ChangeReason, GroupName, Member},
    feature::Agreed,
    srp::{ConfigurationChange, Destination, Guarantee, Params, Reason, StateName},
};

/// Identifies a local client. Chosen by the driver, never used twice.
pub type ClientId = u64;

/// What a stack is made of.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// This node.
    pub me: NodeId,
    /// The configured nodes, this one included.
    pub members: BTreeSet<NodeId>,
    /// Parameters of the ring.
    pub params: Params,
    /// `totem.config_version`, 0 when there is none.
    pub config_version: u64,
    /// The feature level to announce, [`LEVEL`](crate::feature::LEVEL) as a rule; `None` = take no part in
    /// feature levels, as corosync.
    pub feature_level: Option<u32>,
    /// Feeds the random delays of the ring.
    pub seed: u64,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The sockets are up.
    Start {
        /// The ring sequence read from stable storage, 0 if there is none.
        stored_ring_seq: u64,
    },
    /// A datagram as received (decrypted).
    Datagram(Bytes),
    /// The time of [`Stack::next_deadline`](super::Stack::next_deadline) has come.
    Timer,
    /// Answer to [`Output::StoreRingSeq`].
    Stored {
        /// The sequence that was stored.
        ring_seq: u64,
    },
    /// The configuration changed.
    Reconfigure {
        /// The configured nodes.
        members: BTreeSet<NodeId>,
        /// Parameters of the ring.
        params: Params,
        /// `totem.config_version`, announced to the others when it differs.
        config_version: u64,
    },
    /// Leave the ring; nothing is sent afterwards.
    Leave,
    /// A client joins a group, one group per client. Answered by [`GroupEvent::Joined`] when the
    /// join comes back in order, or by [`Output::GroupRefused`].
    GroupJoin {
        /// The client.
        client: ClientId,
        /// Its process id: with the node, its identity in the group.
        pid: u32,
        /// The group.
        group: GroupName,
        /// When it sees messages.
        delivery: Guarantee,
    },
    /// A client sends to its group, at most
    /// [`GROUP_PAYLOAD_MAX`](super::GROUP_PAYLOAD_MAX) bytes.
    GroupMulticast {
        /// The client.
        client: ClientId,
        /// What it sends.
        payload: Bytes,
    },
    /// A client leaves its group, or vanished.
    GroupLeave {
        /// The client.
        client: ClientId,
        /// How.
        reason: LeaveReason,
    },
    /// A service that runs in another process is there: it takes part in synchronisation and gets
    /// its messages. What it missed on this ring is told again.
    ServiceAttach {
        /// Its number: 5 (votequorum), or 6 to 63 for our own but 40, which is part of the stack.
        service: u16,
    },
    /// Such a service is gone.
    ServiceDetach {
        /// Its number.
        service: u16,
    },
    /// A message of such a service to all nodes.
    ServiceMulticast {
        /// Its number.
        service: u16,
        /// The complete message, header included.
        message: Bytes,
    },
    /// Answer to [`ServiceEvent::SyncStarted`]: what the service tells the others.
    SyncMessages {
        /// Its number.
        service: u16,
        /// The ring of the event.
        ring: RingId,
        /// Complete messages, possibly none.
        messages: Vec<Bytes>,
    },
    /// Ask every node to read its configuration again.
    ReloadConfig,
    /// Order a step of this node's change of keys: it comes back as [`Output::CryptoPhase`].
    CryptoReconfig {
        /// 1 send with the new key, 2 refuse the old one.
        phase: u32,
    },
    /// Make a node end itself.
    KillNode {
        /// Which.
        node: NodeId,
        /// Text for its log.
        reason: String,
    },
}

/// How a client leaves its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveReason {
    /// It asked to. It gets events until its own leave comes back in order.
    Leave,
    /// Its process is gone: no more events.
    ProcessDown,
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
    /// Store the ring sequence, then answer with [`Input::Stored`].
    StoreRingSeq(u64),
    /// The state of the ring changed.
    StateChanged {
        /// Before.
        from: StateName,
        /// Now.
        to: StateName,
        /// Why.
        reason: Reason,
    },
    /// The configuration changed.
    Configuration(ConfigurationChange),
    /// What the members of the ring have agreed to beyond corosync: in each synchronisation of a node that takes
    /// part, before ordinary messages flow again, and when a member changes its mind.
    FeaturesAgreed {
        /// The ring.
        ring: RingId,
        /// What all its members have.
        agreed: Agreed,
    },
    /// All services of all members are synchronised; ordinary messages flow again.
    SyncCompleted {
        /// The ring.
        ring: RingId,
        /// Its members, ascending.
        members: Vec<NodeId>,
    },
    /// Something for a client.
    Group {
        /// The client.
        client: ClientId,
        /// What.
        event: GroupEvent,
    },
    /// Whether clients should send: closed when the send queue is three quarters full, open again
    /// when it is below 30 percent. At first it is open.
    Flow {
        /// Clients may send.
        open: bool,
    },
    /// A request of a client was not taken.
    GroupRefused {
        /// The client.
        client: ClientId,
        /// Why.
        reason: RefuseReason,
    },
    /// Something for an attached service.
    Service {
        /// The service.
        service: u16,
        /// What.
        event: ServiceEvent,
    },
    /// Another node (or this one) had this node killed: end at once, without leaving.
    Killed {
        /// Who asked.
        by: NodeId,
        /// Text for the log.
        reason: String,
    },
    /// This node's own [`Input::CryptoReconfig`] came back in order.
    CryptoPhase {
        /// 1 send with the new key, 2 refuse the old one.
        phase: u32,
    },
    /// Read the configuration again.
    ReloadRequested {
        /// Who asked; possibly this node.
        by: NodeId,
    },
}

/// Something for a client of a group. All clients of a group on all nodes see the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupEvent {
    /// The client's join came back: from here on it sees everything.
    Joined {
        /// Where in the order: the ring.
        ring: RingId,
        /// Where in the order: the sequence number there.
        seq: u32,
    },
    /// The members changed, or are confirmed: every client gets one after each synchronisation.
    Members {
        /// Where in the order: the ring.
        ring: RingId,
        /// Where in the order: the sequence number there.
        seq: u32,
        /// The members after the change, by node and pid.
        members: Vec<Member>,
        /// Who joined.
        joined: Vec<(Member, ChangeReason)>,
        /// Who left.
        left: Vec<(Member, ChangeReason)>,
    },
    /// A message.
    Message {
        /// Where in the order: the ring.
        ring: RingId,
        /// Where in the order: the sequence number there. Messages that shared a packet share it.
        seq: u32,
        /// The node that sent it.
        origin: NodeId,
        /// The process that sent it.
        pid: u32,
        /// What it sent.
        payload: Bytes,
        /// Nodes joined while it was being sent in fragments. They do not get it, although they
        /// are members now; all others get it, and with this mark.
        spans_change: bool,
    },
    /// The configuration changed. Messages after a transitional configuration may be missing at
    /// former members; with safe delivery they are the ones that were held back. The members of the
    /// group are certain again with the next [`GroupEvent::Members`] after the regular one.
    Configuration {
        /// The new ring.
        ring: RingId,
        /// Which of the two changes.
        kind: ConfigurationKind,
        /// Its members, ascending.
        members: Vec<NodeId>,
    },
}

/// Which configuration of extended virtual synchrony.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigurationKind {
    /// The old one reduced to those who move on together.
    Transitional,
    /// The new one.
    Regular,
}

/// Why a request of a client was not taken. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefuseReason {
    /// The client is in no group.
    #[error("the client has not joined a group")]
    NotJoined,
    /// The client, or another one with its pid, is in the group.
    #[error("the process is in the group already")]
    AlreadyJoined,
    /// The payload is above the limit.
    #[error("the message is longer than {} bytes", super::GROUP_PAYLOAD_MAX)]
    TooLarge,
    /// Too much waits to be sent; [`Output::Flow`] tells when to try again.
    #[error("the send queue is full")]
    QueueFull,
    /// The node has as many clients as it can.
    #[error("the node has {} clients already", super::CLIENTS_MAX)]
    TooManyClients,
}

/// Something for an attached service, in ring order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceEvent {
    /// A configuration is installed and its synchronisation begins: answer with
    /// [`Input::SyncMessages`] within [`EXTERNAL_SYNC_WAIT`](super::EXTERNAL_SYNC_WAIT).
    SyncStarted {
        /// The ring.
        ring: RingId,
        /// Its members, ascending.
        members: Vec<NodeId>,
        /// Those that came along from the last configuration, ascending.
        transitional: Vec<NodeId>,
    },
    /// A message of the service; one's own come back like all others.
    Message {
        /// Who sent it.
        from: NodeId,
        /// The complete message, header included.
        message: Bytes,
    },
    /// All members have sent their messages for this ring: take them into effect.
    SyncActivated {
        /// The ring.
        ring: RingId,
    },
    /// The configuration changes again; another [`ServiceEvent::SyncStarted`] follows.
    SyncAborted,
}
