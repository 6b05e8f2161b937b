//! The `udp` transport: one multicast (or broadcast) datagram for all, unicast for tokens, no encryption.
//!
//! Source: spec `totem.md`, 7.2, checked against corosync 3.1.7. Three sockets:
//!
//! | socket | bound to | does |
//! |---|---|---|
//! | groups | group, `mcastport` | receives what is sent to all |
//! | tokens | own address, `mcastport` | receives tokens |
//! | sender | own address, `mcastport` - 1 | sends everything |
//!
//! Differs: corosync takes datagrams from any source; here only those of configured addresses count, as with
//! the other transports.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use nix::{ifaddrs::getifaddrs, net::if_::if_nametoindex};
use quorate_types::NodeId;
use socket2::Socket;
use tokio::net::UdpSocket;

use super::{
    peers::Peers,
    socket::{self, DATAGRAM_MAX},
};

/// Hops of a multicast packet when `totem.interface.ttl` does not say. Source: corosync.conf(5).
pub(crate) const TTL: u8 = 1;

/// Where packets for all go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The multicast group, or 255.255.255.255 for `broadcast: yes`.
    pub address: IpAddr,
    /// Hops that a packet may take, `totem.interface.ttl`.
    pub ttl: u8,
}

impl Group {
    /// The broadcast address of the local network: `totem.interface.broadcast`.
    pub const BROADCAST: Self = Self { address: IpAddr::V4(Ipv4Addr::BROADCAST), ttl: TTL };

    /// The group that belongs to a cluster's name, as corosync derives it from `cluster_name`.
    ///
    /// Source: spec `totem.md`, 7.2: the IPv4 group ends in the remainder of 255, not of 256.
    #[must_use]
    pub fn address_of(cluster_name: &str, link: u8, ipv6: bool) -> IpAddr {
        let hash = cluster_name.bytes().fold(0_i32, |hash, byte| {
            // Characters are signed where corosync runs.
            hash.wrapping_shl(1).wrapping_add(i32::from(byte.cast_signed()))
        });
        // Only the lower half counts.
        let id = (hash.cast_unsigned() as u16).wrapping_add(u16::from(link));
        if ipv6 {
            return IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, id));
        }
        let [high, _] = id.to_be_bytes();
        let low = u8::try_from(id % 255).expect("a remainder of 255 is below 255");
        IpAddr::V4(Ipv4Addr::new(239, 192, high, low))
    }
}

/// The sockets of the ring and the addresses of its members.
#[derive(Debug)]
pub(crate) struct Multicast {
    groups: UdpSocket,
    tokens: UdpSocket,
    sender: UdpSocket,
    /// Group and port.
    to_all: SocketAddr,
    peers: Peers,
    buffer: Vec<u8>,
}

impl Multicast {
    /// Opens the three sockets. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Whatever the operating system says: address in use, address not local, no such device for the group.
    pub(super) fn open(local: SocketAddr, group: Group) -> io::Result<Self> {
        let to_all = SocketAddr::new(group.address, local.port());
        let from = SocketAddr::new(local.ip(), local.port().wrapping_sub(1));
        Ok(Self {
            groups: open(to_all, |socket| join(socket, group.address, local.ip()))?,
            tokens: open(local, |_| Ok(()))?,
            sender: open(from, |socket| sends_to(socket, group, local.ip()))?,
            to_all,
            peers: Peers::default(),
            buffer: vec![0; DATAGRAM_MAX],
        })
    }

    pub(super) fn set_peers(&mut self, peers: &BTreeMap<NodeId, SocketAddr>) {
        self.peers.set(peers);
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.peers
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.tokens.poll_recv_ready(context) {
            Poll::Pending => self.groups.poll_recv_ready(context),
            ready => ready,
        }
    }

    /// Messages before tokens: a token that overtakes its messages asks for them once more.
    pub(super) fn receive(&mut self, now: Instant) -> Option<(NodeId, Bytes)> {
        socket::receive(&self.groups, &mut self.buffer, &mut self.peers, now)
            .or_else(|| socket::receive(&self.tokens, &mut self.buffer, &mut self.peers, now))
    }

    pub(super) fn send_to(&mut self, node: NodeId, packet: &[u8]) {
        if let Some(peer) = self.peers.get_mut(node) {
            socket::send(&self.sender, peer, packet);
        }
    }

    /// One datagram for all; counted for each.
    pub(super) fn send_to_all(&mut self, packet: &[u8]) {
        let sent = socket::send_to(&self.sender, self.to_all, packet);
        for peer in self.peers.iter_mut() {
            peer.counters.sent(packet.len(), sent);
        }
    }
}

fn open(address: SocketAddr, prepare: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<UdpSocket> {
    let socket = socket::unbound(address)?;
    // As corosync: several groups of one machine may share a port.
    socket.set_reuse_address(true)?;
    prepare(&socket)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn join(socket: &Socket, group: IpAddr, local: IpAddr) -> io::Result<()> {
    match (group, local) {
        (IpAddr::V4(group), IpAddr::V4(local)) if group.is_multicast() => {
            socket.join_multicast_v4(&group, &local)
        }
        (IpAddr::V6(group), local) => socket.join_multicast_v6(&group, interface_of(local)?),
        _ => Ok(()),
    }
}

fn sends_to(socket: &Socket, group: Group, local: IpAddr) -> io::Result<()> {
    match (group.address, local) {
        (IpAddr::V4(address), IpAddr::V4(local)) if address.is_multicast() => {
            socket.set_multicast_if_v4(&local)?;
            socket.set_multicast_loop_v4(false)?;
            socket.set_multicast_ttl_v4(group.ttl.into())
        }
        (IpAddr::V6(_), local) => {
            socket.set_multicast_if_v6(interface_of(local)?)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(group.ttl.into())
        }
        _ => socket.set_broadcast(true),
    }
}

/// The number of the interface that has an address: IPv6 names interfaces, not addresses.
fn interface_of(local: IpAddr) -> io::Result<u32> {
    let has_it = |interface: &nix::ifaddrs::InterfaceAddress| {
        let address = interface.address.as_ref()?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = || address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
        v4.or_else(v6).filter(|address| *address == local)
    };
    let found = getifaddrs()?.find(|interface| has_it(interface).is_some());
    let interface = found.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    Ok(if_nametoindex(interface.interface_name.as_str())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_the_one_that_corosync_derives_from_the_name() {
        // Seen on the wire: capture udp-3node.pcap, cluster "wirelab".
        assert_eq!(Group::address_of("wirelab", 0, false).to_string(), "239.192.55.52");
        assert_eq!(Group::address_of("wirelab", 0, true).to_string(), "ff15::37fc");
    }

    #[test]
    fn every_name_has_a_group() {
        for name in ["", "a", "a-very-long-name-that-wraps-the-hash-around-more-than-once", "\u{00e4}"] {
            for link in [0, 7] {
                assert!(Group::address_of(name, link, false).is_multicast(), "{name}");
                assert!(Group::address_of(name, link, true).is_multicast(), "{name}");
            }
        }
    }
}
