//! The daemons around the cores: what `services/*` do with sockets, files and gRPC is done here with
//! effects.
//!
//! A daemon takes one input, hands it to its core, drains the core's outputs and turns each into an
//! [`Effect`], in order. It knows nothing of the queue, the network or other nodes.

mod config;
mod membership;
mod quorum;
mod wire;

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
pub use config::{ConfigDaemon, position};
use config_store_core::{Batch, BatchId, QuorumView};
pub use membership::MembershipDaemon;
use membership_core::{
    cpg::GroupName,
    srp::{Destination, Params},
    stack::{GroupEvent, ServiceEvent},
};
use quorate_types::RingId;
pub use quorum::QuorumDaemon;
use quorum_core::QuorumConfig;

use crate::{
    fault::Daemon,
    history::{Event, Position},
    network::Datagram,
    workload::Action,
};

/// Number of a connection between two daemons of a node; never used twice in a run.
pub type ConnectionId = u64;

/// Which two daemons a connection joins. The first one named is the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// quorumd at membershipd.
    QuorumToMembership,
    /// configd at membershipd.
    ConfigToMembership,
    /// configd at quorumd.
    ConfigToQuorum,
}

impl Link {
    /// All three.
    pub const ALL: [Self; 3] = [Self::QuorumToMembership, Self::ConfigToMembership, Self::ConfigToQuorum];

    /// Who connects.
    #[must_use]
    pub fn client(self) -> Daemon {
        match self {
            Self::QuorumToMembership => Daemon::Quorum,
            Self::ConfigToMembership | Self::ConfigToQuorum => Daemon::Config,
        }
    }

    /// Who is connected to.
    #[must_use]
    pub fn server(self) -> Daemon {
        match self {
            Self::QuorumToMembership | Self::ConfigToMembership => Daemon::Membership,
            Self::ConfigToQuorum => Daemon::Quorum,
        }
    }
}

/// What happens to a daemon.
#[derive(Debug, Clone)]
pub enum DaemonInput {
    /// A datagram from the network.
    Datagram(Datagram),
    /// The deadline has passed.
    Timer,
    /// A write is durable.
    Stored(DiskWrite),
    /// configd: a batch could not be written.
    StoreFailed(BatchId),
    /// The daemon, as the client, is connected.
    Connected(ConnectionId, Link),
    /// A message on a connection.
    Message(ConnectionId, Message),
    /// A user does something.
    Act(Action),
    /// quorumd: the configuration was read again.
    Configure(Box<QuorumConfig>),
    /// quorumd: the operator overrides the expected votes.
    SetExpected(u32),
    /// membershipd: other parameters are in force.
    Reconfigure(Box<Params>),
    /// Stop in good order.
    Leave,
}

/// A daemon's core and glue.
#[derive(Debug)]
pub enum Core {
    /// membershipd.
    Membership(Box<MembershipDaemon>),
    /// quorumd.
    Quorum(Box<QuorumDaemon>),
    /// configd.
    Config(Box<ConfigDaemon>),
}

impl Core {
    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: DaemonInput) {
        match self {
            Self::Membership(daemon) => daemon.handle(now, input),
            Self::Quorum(daemon) => daemon.handle(now, input),
            Self::Config(daemon) => daemon.handle(now, input),
        }
    }

    /// What is to be done.
    pub fn effects(&mut self) -> VecDeque<Effect> {
        match self {
            Self::Membership(daemon) => daemon.effects(),
            Self::Quorum(daemon) => daemon.effects(),
            Self::Config(daemon) => daemon.effects(),
        }
    }

    /// When [`DaemonInput::Timer`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Membership(daemon) => daemon.next_deadline(),
            Self::Quorum(daemon) => daemon.next_deadline(),
            Self::Config(daemon) => daemon.next_deadline(),
        }
    }
}

/// What a daemon wants done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Send a datagram.
    Send {
        /// To one node or to all others.
        to: Destination,
        /// The datagram.
        packet: Bytes,
    },
    /// Write to the daemon's disk.
    Write(DiskWrite),
    /// Send over a connection.
    Tell(ConnectionId, Message),
    /// Something the checkers should see.
    Observe(Event),
    /// Something the checkers should see, and whose place in the trace would drown the reader.
    Watch(Event),
    /// Something only the reader of the trace should see.
    Note(String),
    /// The same, at a moment when a fault would hurt.
    Critical(String),
    /// The daemon ends by itself, with a reason.
    Exit(String),
}

/// A write to the disk of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskWrite {
    /// The ring sequence of membershipd.
    RingSeq(u64),
    /// The highest expected votes of quorumd.
    Tracking(u32),
    /// A batch of configd, with the position that it leaves behind.
    Store(Batch, Position),
}

/// What travels between two daemons of a node.
#[derive(Debug, Clone)]
pub enum Message {
    /// quorumd to membershipd: the service takes part from now on.
    Attach,
    /// quorumd to membershipd: multicast.
    ServiceMulticast(Bytes),
    /// quorumd to membershipd: what it tells the others in a synchronisation.
    SyncMessages(RingId, Vec<Bytes>),
    /// configd to membershipd.
    GroupJoin(GroupName),
    /// configd to membershipd.
    GroupMulticast(Bytes),
    /// membershipd to quorumd.
    Service(ServiceEvent),
    /// membershipd to configd: what one input of the ring delivered.
    Group(Vec<GroupEvent>),
    /// configd to quorumd: tell the votes, now and whenever they change.
    Watch,
    /// quorumd to configd: the votes; `None` without a ring.
    Quorum(Option<QuorumView>),
    /// The other side is gone.
    Gone,
}
