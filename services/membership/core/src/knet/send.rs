//! What goes out: packets of the ring, and pings, pongs and probes.

use std::time::Instant;

use bytes::Bytes;
use quorate_types::NodeId;

use super::{
    Links,
    fragments::count,
    io::{Output, Recipients},
    mtu::packet_max,
    packet::{Body, DataHeader, Packet, Ping, Pmtud, data_head},
    receive::time_of,
    stats::{Direction, Drop},
    window::next_seq,
};
use crate::srp::Destination;

/// After this many packets a ping tells idle hosts the sequence number.
const FORCED_PING_EVERY: u16 = 8191;
/// Length of the header of a ring packet, and where the target node is in it.
const TOTEM_HEADER: usize = 13;
const TOTEM_TARGET: usize = 9;

impl Links {
    /// Sends a packet of the ring.
    pub(super) fn send(&mut self, now: Instant, to: Destination, packet: &Bytes) {
        if let Err(reason) = self.try_send(now, to, packet) {
            self.stats.count_drop(reason);
        }
    }

    fn try_send(&mut self, now: Instant, to: Destination, packet: &Bytes) -> Result<(), Drop> {
        let (target, routes) = match to {
            Destination::All => (0, self.routes.next_to_all()),
            Destination::Node(node) => (node.get(), self.routes.next_to(node)),
        };
        if routes.is_empty() {
            return Err(Drop::UnreachableTarget);
        }
        let mut head = *packet.first_chunk::<TOTEM_HEADER>().ok_or(Drop::NotTotem)?;
        head[TOTEM_TARGET..].copy_from_slice(&target.to_le_bytes());
        let size = self.data_mtu;
        let fragments = count(packet.len(), size).ok_or(Drop::TooLong)?;
        self.seq = next_seq(self.seq);
        self.stats.sent += 1;
        for (number, piece) in (1..=fragments).zip(packet.chunks(size)) {
            let header = DataHeader {
                seq: self.seq,
                compression: 0,
                to_all: u8::from(to == Destination::All),
                fragments,
                fragment: if fragments == 1 { 0 } else { number },
                channel: 0,
            };
            let knet = data_head(self.config.me, &header);
            // The head of the ring packet, with its target, is in the first piece.
            let (totem, rest) =
                if number == 1 { (&head[..], &piece[TOTEM_HEADER..]) } else { (&[][..], piece) };
            let datagram = self.crypto.seal(&[knet.as_slice(), totem, rest]);
            for route in routes.iter() {
                for &node in &route.nodes {
                    self.count_tx(node, route.link, |tx| tx.data.count(datagram.len()));
                }
                let (link, to, datagram) = (route.link, route.to.clone(), datagram.clone());
                self.outputs.push_back(Output::Send { link, to, datagram, probe: false });
            }
        }
        if self.seq.is_multiple_of(FORCED_PING_EVERY) {
            self.ping_all(now);
        }
        Ok(())
    }

    fn ping_all(&mut self, now: Instant) {
        let links = |(&node, host): (&NodeId, &super::Host)| {
            host.links.keys().map(move |&link| (node, link)).collect::<Vec<_>>()
        };
        let all: Vec<(NodeId, u8)> = self.hosts.iter().flat_map(links).collect();
        for (node, link) in all {
            self.ping(now, node, link, false);
        }
    }

    /// Pings a host over one link.
    pub(super) fn ping(&mut self, now: Instant, node: NodeId, link: u8, is_timed: bool) {
        let time = time_of(now.saturating_duration_since(self.epoch));
        let ping = Ping { link, time, seq: self.seq, timed: u8::from(is_timed) };
        let sent = self.send_control(node, link, Body::Ping(ping));
        self.count_tx(node, link, |tx| tx.ping.count(sent));
    }

    /// Probes whether a datagram of this size on the wire passes.
    pub(super) fn send_probe(&mut self, node: NodeId, link: u8, size: Option<u16>) {
        let host = self.hosts.get(&node).and_then(|host| host.links.get(&link));
        let (Some(size), Some(host_link)) = (size, host) else {
            return;
        };
        let packet = packet_max(size, &host_link.remote, self.crypto.overhead());
        let padding = packet.saturating_sub(super::packet::PMTUD_LENGTH);
        let padding = Bytes::from_static(&PADDING[..padding.min(PADDING.len())]);
        let sent = self.send_control(node, link, Body::Pmtud(Pmtud { link, size }, padding));
        self.count_tx(node, link, |tx| tx.pmtud.count(sent));
    }

    /// Sends one packet to the configured address of a host's link; returns the datagram's length.
    pub(super) fn send_control(&mut self, node: NodeId, link: u8, body: Body) -> usize {
        let Some(to) = self.hosts.get(&node).and_then(|host| host.links.get(&link)).map(|link| link.remote)
        else {
            return 0;
        };
        let probe = matches!(body, Body::Pmtud(..));
        let (head, rest) = Packet { node: self.config.me, max_version: 0, body }.to_wire();
        let datagram = self.crypto.seal(&[head.as_slice(), &rest]);
        let length = datagram.len();
        self.outputs.push_back(Output::Send { link, to: Recipients::One(to), datagram, probe });
        length
    }

    /// Counts something that was sent over a link.
    pub(super) fn count_tx(&mut self, node: NodeId, link: u8, count: impl FnOnce(&mut Direction)) {
        if let Some(link) = self.hosts.get_mut(&node).and_then(|host| host.links.get_mut(&link)) {
            count(&mut link.stats.tx);
        }
    }
}

/// What a probe is filled with.
static PADDING: [u8; 65_536] = [0; 65_536];
