//! What crosses the border of the links: inputs, outputs and the types inside them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_types::NodeId;

use super::config::CheckedConfig;
use crate::srp::Destination;

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A datagram as received. One that does not fit is counted and dropped. It is decrypted in
    /// place if nothing else refers to its memory.
    Datagram {
        /// The link whose socket received it.
        link: u8,
        /// Where it came from.
        from: SocketAddr,
        /// Its payload.
        datagram: Bytes,
    },
    /// A packet of the ring is to be sent. Dropped where no link is usable.
    Send {
        /// To whom; "all" means all other reachable nodes.
        to: Destination,
        /// The packet.
        packet: Bytes,
    },
    /// The time of [`Links::next_deadline`](super::Links::next_deadline) has come.
    Timer,
    /// The kernel refused a datagram because it is longer than the interface carries (EMSGSIZE).
    TooLong {
        /// The link.
        link: u8,
        /// To whom it should have gone.
        to: SocketAddr,
        /// Length of the datagram in bytes, without IP and UDP headers.
        datagram_len: usize,
        /// What the interface carries, IP and UDP headers included, if the kernel told it.
        interface_mtu: Option<usize>,
    },
    /// The kernel did not send a datagram for another reason. Counted.
    SendFailed {
        /// The link.
        link: u8,
        /// To whom it should have gone.
        to: SocketAddr,
    },
    /// Another configuration: hosts and links come, go or change; the others do not notice.
    Reconfigure(Box<CheckedConfig>),
}

/// What must be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send one datagram from a link's socket to some addresses. Errors are lost packets, and told
    /// with [`Input::TooLong`] or [`Input::SendFailed`].
    Send {
        /// The link.
        link: u8,
        /// To whom.
        to: Recipients,
        /// The datagram.
        datagram: Bytes,
        /// It probes the path MTU: the don't-fragment flag matters.
        probe: bool,
    },
    /// Hand a packet to the ring.
    Deliver {
        /// Who sent it, authenticated if crypto is on.
        from: NodeId,
        /// The packet.
        packet: Bytes,
    },
    /// A link to a host went up or down.
    LinkChanged {
        /// The host.
        node: NodeId,
        /// The link.
        link: u8,
        /// Up.
        up: bool,
    },
    /// A host has a usable link now, or has none any more.
    HostChanged {
        /// The host.
        node: NodeId,
        /// It has one.
        reachable: bool,
    },
    /// Packets are cut into pieces of another size.
    MtuChanged {
        /// The size in bytes.
        data_mtu: usize,
    },
}

/// Where a datagram goes; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// To one address.
    One(SocketAddr),
    /// A copy to each.
    Many(Arc<[SocketAddr]>),
}

impl Recipients {
    /// The addresses.
    #[must_use]
    pub fn as_slice(&self) -> &[SocketAddr] {
        match self {
            Self::One(address) => std::slice::from_ref(address),
            Self::Many(addresses) => addresses,
        }
    }
}

/// What a link to a host looks like now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The host.
    pub node: NodeId,
    /// The link.
    pub link: u8,
    /// This node's address on it, if configured.
    pub local: Option<SocketAddr>,
    /// The host's address on it.
    pub remote: SocketAddr,
    /// This node has the link, too.
    pub enabled: bool,
    /// It is up.
    pub connected: bool,
    /// Data is sent over it now; of a round robin, in its turn.
    pub active: bool,
    /// Its MTU in bytes, IP and UDP headers included; `None` when not even the least size arrives.
    pub mtu: Option<u16>,
    /// Average time from a ping to its pong; zero before the first.
    pub latency: Duration,
}
