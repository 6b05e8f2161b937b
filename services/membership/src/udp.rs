//! The `udpu` transport: one UDP socket, one datagram per member, no encryption.
//!
//! Source: spec `totem.md`, 7.1. Datagrams are accepted from configured addresses only
//! (`block_unlisted_ips`); no send error is ever fatal, since the ring recovers lost packets.
//!
//! Differs: corosync sends to each member from a socket of its own; here everything leaves from the
//! ring's port. Receivers look at the source address only.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use bytes::Bytes;
use quorate_types::NodeId;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

/// Largest datagram that is accepted, whatever our own MTU setting.
const DATAGRAM_MAX: usize = 65_536;
/// Kernel buffers in bytes: a few rotations of full windows from many members.
const SOCKET_BUFFER: usize = 4 << 20;

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

#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    counters: LinkCounters,
}

/// The socket of the ring and the addresses of its members.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
    peers: BTreeMap<NodeId, Peer>,
    by_address: BTreeMap<IpAddr, NodeId>,
    /// Datagrams from addresses that are not configured.
    unlisted: u64,
    buffer: Vec<u8>,
}

impl Udp {
    /// Binds to this node's address on the ring's port. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Whatever the operating system says: address in use, address not local, no permission.
    pub fn bind(local: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        // The kernel may grant less (net.core.rmem_max); smaller buffers only mean more retransmissions.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&local.into())?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            local,
            peers: BTreeMap::new(),
            by_address: BTreeMap::new(),
            unlisted: 0,
            buffer: vec![0; DATAGRAM_MAX],
        })
    }

    /// The address that the socket is bound to.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Replaces the other members; counters of those that stay are kept.
    pub fn set_peers(&mut self, peers: &BTreeMap<NodeId, SocketAddr>) {
        let mut before = std::mem::take(&mut self.peers);
        for (&node, &address) in peers {
            let counters = before.remove(&node).map(|peer| peer.counters).unwrap_or_default();
            self.peers.insert(node, Peer { address, counters });
        }
        self.by_address = peers.iter().map(|(&node, address)| (address.ip(), node)).collect();
    }

    /// Waits until a datagram may be there.
    ///
    /// # Errors
    /// Only if the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// The next datagram from a configured address, or `None` if nothing is waiting.
    pub fn receive(&mut self, now: Instant) -> Option<(NodeId, Bytes)> {
        loop {
            let (length, from) = match self.socket.try_recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // Such as a port unreachable for an earlier send: the next turn reads on.
                Err(error) => {
                    tracing::trace!(%error, "receive");
                    return None;
                }
            };
            let Some(node) = self.by_address.get(&from.ip()).copied() else {
                self.unlisted += 1;
                continue;
            };
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.counters.rx_packets += 1;
                peer.counters.rx_bytes += length as u64;
                peer.counters.last_rx = Some(now);
            }
            return Some((node, Bytes::copy_from_slice(&self.buffer[..length])));
        }
    }

    /// Sends a packet to one member; an unknown one is ignored, as a lost packet.
    pub fn send_to(&mut self, node: NodeId, packet: &[u8]) {
        if let Some(peer) = self.peers.get_mut(&node) {
            send(&self.socket, peer, packet);
        }
    }

    /// Sends a packet to every other configured member.
    pub fn send_to_all(&mut self, packet: &[u8]) {
        for peer in self.peers.values_mut() {
            send(&self.socket, peer, packet);
        }
    }

    /// Datagrams dropped because their source address is not configured.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// Counters per node, with its address.
    pub fn links(&self) -> impl Iterator<Item = (NodeId, SocketAddr, LinkCounters)> + '_ {
        self.peers.iter().map(|(&node, peer)| (node, peer.address, peer.counters))
    }
}

fn send(socket: &UdpSocket, peer: &mut Peer, packet: &[u8]) {
    // Straight to the kernel: the runtime's idea of writability lags behind.
    match SockRef::from(socket).send_to(packet, &peer.address.into()) {
        Ok(_) => {
            peer.counters.tx_packets += 1;
            peer.counters.tx_bytes += packet.len() as u64;
        }
        Err(error) => {
            peer.counters.tx_errors += 1;
            tracing::trace!(%error, to = %peer.address, "send");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).expect("not 0")
    }

    async fn next(udp: &mut Udp) -> (NodeId, Bytes) {
        loop {
            udp.readable().await.expect("runtime is up");
            if let Some(received) = udp.receive(Instant::now()) {
                return received;
            }
        }
    }

    #[tokio::test]
    async fn a_packet_to_all_reaches_every_peer_and_is_counted() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("address");
        let (mut one, mut two) = (Udp::bind(any).expect("bind"), Udp::bind(any).expect("bind"));
        let address = |udp: &Udp| udp.socket.local_addr().expect("bound");
        one.set_peers(&BTreeMap::from([(node(2), address(&two))]));
        two.set_peers(&BTreeMap::from([(node(1), address(&one))]));

        one.send_to_all(b"token");

        assert_eq!(next(&mut two).await, (node(1), Bytes::from_static(b"token")));
        assert_eq!(one.links().next().map(|(_, _, counters)| counters.tx_bytes), Some(5));
        assert_eq!(two.links().next().map(|(_, _, counters)| counters.rx_packets), Some(1));
    }

    #[tokio::test]
    async fn datagrams_from_strangers_are_counted_and_dropped() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("address");
        let stranger = Udp::bind(any).expect("bind");
        let mut udp = Udp::bind(any).expect("bind");
        let address = udp.socket.local_addr().expect("bound");

        stranger.socket.send_to(b"hello", address).await.expect("sent");
        udp.readable().await.expect("runtime is up");

        assert_eq!(udp.receive(Instant::now()), None);
        assert_eq!(udp.unlisted(), 1);
    }
}
