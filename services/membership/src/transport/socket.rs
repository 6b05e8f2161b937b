//! UDP sockets as all transports open them.

use std::{io, net::SocketAddr, time::Instant};

use bytes::Bytes;
use quorate_types::NodeId;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::peers::{Peer, Peers};

/// Largest datagram that is accepted, whatever our own MTU setting.
pub(super) const DATAGRAM_MAX: usize = 65_536;
/// Kernel buffers in bytes: a few rotations of full windows from many members.
const SOCKET_BUFFER: usize = 4 << 20;
/// Ahead of bulk traffic in the queues of this host. Source: spec `totem.md`, 7.1 (6 is the most that needs no
/// privilege).
const PRIORITY: u32 = 6;

/// A socket that is not bound yet, with the buffers and the priority of the ring.
pub(super) fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel may grant less (net.core.rmem_max); smaller buffers only mean more retransmissions.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_priority(PRIORITY);
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds a socket to one address and port.
///
/// # Errors
/// Whatever the operating system says: address in use, address not local, no permission.
pub(super) fn bound(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = unbound(address)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// The next datagram from a known node, or `None` if nothing is waiting. `buffer` has [`DATAGRAM_MAX`] bytes.
pub(super) fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    peers: &mut Peers,
    now: Instant,
) -> Option<(NodeId, Bytes)> {
    loop {
        match socket.try_recv_from(buffer) {
            Ok((length, from)) => {
                if let Some(node) = peers.received(now, from, length) {
                    return Some((node, Bytes::copy_from_slice(&buffer[..length])));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            // Such as a port unreachable for an earlier send: the next turn reads on.
            Err(error) => {
                tracing::trace!(%error, "receive");
                return None;
            }
        }
    }
}

/// Sends straight to the kernel: the runtime's idea of writability lags behind. An error is a lost packet.
pub(super) fn send(socket: &UdpSocket, peer: &mut Peer, packet: &[u8]) {
    let sent = send_to(socket, peer.address, packet);
    peer.counters.sent(packet.len(), sent);
}

/// Sends one datagram; whether the operating system took it.
pub(super) fn send_to(socket: &UdpSocket, to: SocketAddr, packet: &[u8]) -> bool {
    match SockRef::from(socket).send_to(packet, &to.into()) {
        Ok(_) => true,
        Err(error) => {
            tracing::trace!(%error, %to, "send");
            false
        }
    }
}
