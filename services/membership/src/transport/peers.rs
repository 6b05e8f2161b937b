//! The other nodes at the ends of a transport with one link: their addresses and what went over the wire.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use membership_core::strangers::Strangers;
use quorate_types::NodeId;

/// What went over the link to one node.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkCounters {
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Sends that the operating system refused.
    pub tx_errors: u64,
    /// When the last packet arrived.
    pub last_rx: Option<Instant>,
}

impl LinkCounters {
    /// Notes what became of a datagram that was sent.
    pub(super) fn sent(&mut self, length: usize, ok: bool) {
        if ok {
            self.tx_packets += 1;
            self.tx_bytes += length as u64;
        } else {
            self.tx_errors += 1;
        }
    }
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) counters: LinkCounters,
}

/// All other nodes, found by id or by the address they send from.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    by_address: BTreeMap<IpAddr, NodeId>,
    /// Datagrams from addresses that are not configured.
    unlisted: u64,
    strangers: Strangers,
}

impl Peers {
    /// Replaces the other members; counters of those that stay are kept.
    pub(super) fn set(&mut self, peers: &BTreeMap<NodeId, SocketAddr>) {
        let mut before = std::mem::take(&mut self.peers);
        for (&node, &address) in peers {
            let counters = before.remove(&node).map(|peer| peer.counters).unwrap_or_default();
            self.peers.insert(node, Peer { address, counters });
        }
        self.by_address = peers.iter().map(|(&node, address)| (address.ip(), node)).collect();
        peers.values().for_each(|address| self.strangers.forget(address.ip()));
    }

    /// The node that sends from `from`, with the datagram counted. Only the address counts, as with
    /// corosync's `block_unlisted_ips`: its nodes send from ports of their own.
    pub(super) fn received(&mut self, now: Instant, from: SocketAddr, length: usize) -> Option<NodeId> {
        let node = self.by_address.get(&from.ip()).copied();
        let Some(peer) = node.and_then(|node| self.peers.get_mut(&node)) else {
            self.unlisted += 1;
            self.strangers.heard(now, from.ip());
            return None;
        };
        peer.counters.rx_packets += 1;
        peer.counters.rx_bytes += length as u64;
        peer.counters.last_rx = Some(now);
        node
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.get_mut(&node)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.peers.values_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().map(|(&node, peer)| (node, peer))
    }

    /// Who sends from an address that is not configured.
    pub(super) fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    /// Datagrams dropped because their source address is not configured.
    pub(super) fn unlisted(&self) -> u64 {
        self.unlisted
    }
}
