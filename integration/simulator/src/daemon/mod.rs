//! The daemons around the cores: what `services/*` do with sockets, files and gRPC is done here with
//! effects.
//!
//! A daemon takes one input, hands it to its core, drains the core's outputs and turns each into an
//! [`Effect`], in order. It knows nothing of the queue, the network or other nodes.

mod membership;

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
pub use membership::MembershipDaemon;
use membership_core::{
    cpg::GroupName,
    srp::Destination,
    stack::{GroupEvent, RefuseReason, ServiceEvent},
};
use quorate_types::RingId;

use crate::{fault::Daemon, history::Event, workload::Action};

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
    Datagram(Bytes),
    /// The deadline has passed.
    Timer,
    /// A write is durable.
    Stored(DiskWrite),
    /// The daemon, as the client, is connected.
    Connected(ConnectionId, Link),
    /// A message on a connection.
    Message(ConnectionId, Message),
    /// A user does something.
    Act(Action),
    /// Stop in good order.
    Leave,
}

/// A daemon's core and glue.
#[derive(Debug)]
pub enum Core {
    /// membershipd.
    Membership(Box<MembershipDaemon>),
}

impl Core {
    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: DaemonInput) {
        match self {
            Self::Membership(daemon) => daemon.handle(now, input),
        }
    }

    /// What is to be done.
    pub fn effects(&mut self) -> VecDeque<Effect> {
        match self {
            Self::Membership(daemon) => daemon.effects(),
        }
    }

    /// When [`DaemonInput::Timer`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Membership(daemon) => daemon.next_deadline(),
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
    /// Something only the reader of the trace should see.
    Note(String),
    /// The daemon ends by itself, with a reason.
    Exit(String),
}

/// A write to the disk of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskWrite {
    /// The ring sequence of membershipd.
    RingSeq(u64),
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
    /// membershipd to configd.
    Group(GroupEvent),
    /// membershipd to configd.
    GroupRefused(RefuseReason),
    /// membershipd to configd.
    Flow(bool),
    /// The other side is gone.
    Gone,
}
