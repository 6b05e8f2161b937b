//! What goes into the client and what comes out.

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use crate::Config;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// This node is in another ring, which need not be synchronised yet.
    Ring {
        /// The ring.
        ring: RingId,
        /// Its members, this node among them.
        members: Vec<NodeId>,
    },
    /// This node has no ring any more.
    RingLost,
    /// The votes were counted.
    Quorum {
        /// Whether this node is quorate.
        quorate: bool,
        /// Every node that is known.
        nodes: Vec<(NodeId, NodeState)>,
    },
    /// The connection asked for by [`Output::Connect`] is there.
    Connected,
    /// The connection is encrypted, as asked for by [`Output::StartTls`].
    Secured,
    /// Bytes from the arbiter.
    Received(Bytes),
    /// The connection is gone, or could not be established.
    Closed {
        /// Why, in a few words.
        reason: String,
    },
    /// The configuration was read again.
    Reconfigure(Config),
    /// The deadline has passed.
    Timer,
}

/// Where a node is, as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// In the ring.
    Member,
    /// Not there.
    Dead,
    /// In the ring, but leaves for good.
    Leaving,
}

/// What the arbiter says to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    /// Nothing: there is no connection. Nothing is to be waited for.
    Unreachable,
    /// It has not decided about the present ring; its answer is on the way.
    Undecided,
    /// Its votes are for this part.
    Granted,
    /// Its votes are not for this part.
    Refused,
}

/// What must be done, in the order in which it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// What counts from now on, in this ring; must be in force before the next output is carried out.
    Vote {
        /// The ring.
        ring: RingId,
        /// The vote.
        vote: Vote,
    },
    /// Connect to the arbiter.
    Connect {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Encrypt the connection, after all that is to be sent has been sent.
    StartTls,
    /// Send these bytes.
    Send(Bytes),
    /// Close the connection; nothing is expected from it any more.
    Close,
}
