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
    net::SocketAddr,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use quorate_types::NodeId;
use tokio::net::UdpSocket;

use super::{
    peers::Peers,
    socket::{self, DATAGRAM_MAX},
};

/// The socket of the ring and the addresses of its members.
#[derive(Debug)]
pub(crate) struct Udpu {
    socket: UdpSocket,
    peers: Peers,
    buffer: Vec<u8>,
}

impl Udpu {
    /// Binds to this node's address on the ring's port. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Whatever the operating system says: address in use, address not local, no permission.
    pub(super) fn open(local: SocketAddr) -> io::Result<Self> {
        let socket = socket::bound(local)?;
        Ok(Self { socket, peers: Peers::default(), buffer: vec![0; DATAGRAM_MAX] })
    }

    pub(super) fn set_peers(&mut self, peers: &BTreeMap<NodeId, SocketAddr>) {
        self.peers.set(peers);
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.peers
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(context)
    }

    pub(super) fn receive(&mut self, now: Instant) -> Option<(NodeId, Bytes)> {
        socket::receive(&self.socket, &mut self.buffer, &mut self.peers, now)
    }

    /// Sends a packet to one member; an unknown one is ignored, as a lost packet.
    pub(super) fn send_to(&mut self, node: NodeId, packet: &[u8]) {
        if let Some(peer) = self.peers.get_mut(node) {
            socket::send(&self.socket, peer, packet);
        }
    }

    /// Sends a packet to every other configured member.
    pub(super) fn send_to_all(&mut self, packet: &[u8]) {
        for peer in self.peers.iter_mut() {
            socket::send(&self.socket, peer, packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).expect("not 0")
    }

    fn open() -> Udpu {
        Udpu::open("127.0.0.1:0".parse().expect("address")).expect("bind")
    }

    async fn readable(udpu: &Udpu) {
        poll_fn(|context| udpu.poll_readable(context)).await.expect("runtime is up");
    }

    async fn next(udpu: &mut Udpu) -> (NodeId, Bytes) {
        loop {
            readable(udpu).await;
            if let Some(received) = udpu.receive(Instant::now()) {
                return received;
            }
        }
    }

    #[tokio::test]
    async fn a_packet_to_all_reaches_every_peer_and_is_counted() {
        let (mut one, mut two) = (open(), open());
        let address = |udpu: &Udpu| udpu.socket.local_addr().expect("bound");
        one.set_peers(&BTreeMap::from([(node(2), address(&two))]));
        two.set_peers(&BTreeMap::from([(node(1), address(&one))]));

        one.send_to_all(b"token");

        assert_eq!(next(&mut two).await, (node(1), Bytes::from_static(b"token")));
        assert_eq!(one.peers.iter().next().map(|(_, peer)| peer.counters.tx_bytes), Some(5));
        assert_eq!(two.peers.iter().next().map(|(_, peer)| peer.counters.rx_packets), Some(1));
    }

    #[tokio::test]
    async fn datagrams_from_strangers_are_counted_and_dropped() {
        let stranger = open();
        let mut udpu = open();
        let address = udpu.socket.local_addr().expect("bound");

        stranger.socket.send_to(b"hello", address).await.expect("sent");
        readable(&udpu).await;

        assert_eq!(udpu.receive(Instant::now()), None);
        assert_eq!(udpu.peers.unlisted(), 1);
    }
}
