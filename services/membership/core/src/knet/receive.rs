//! What arrives: access list, authentication, sender, then each kind of packet.
//!
//! Nothing of a datagram is looked at before it is authentic, but the address that it came from. A
//! link number inside a packet is believed only if it is the link that the packet came over.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_types::NodeId;

use super::{
    Links,
    crypto::OpenError,
    fragments::{Fragment, Taken},
    io::Output,
    packet::{Body, DataHeader, Packet, PacketError, Ping, Pmtud},
    stats::Drop,
    window::Seen,
};

/// Where a packet came from: the link whose socket received it, the address, and the host.
#[derive(Debug, Clone, Copy)]
struct Source {
    link: u8,
    from: SocketAddr,
    node: NodeId,
}

impl Links {
    /// Takes a datagram.
    pub(super) fn handle_datagram(&mut self, now: Instant, link: u8, from: SocketAddr, datagram: Bytes) {
        if let Err(reason) = self.take_datagram(now, link, from, datagram) {
            tracing::trace!(link, %from, reason = reason.name(), "dropped");
            self.stats.count_drop(reason);
        }
    }

    fn take_datagram(
        &mut self,
        now: Instant,
        link: u8,
        from: SocketAddr,
        datagram: Bytes,
    ) -> Result<(), Drop> {
        let listed = &self.config.listed;
        if self.config.config.block_unlisted_ips && !listed.contains(&(link, from.ip().to_canonical())) {
            self.strangers.heard(now, from.ip());
            return Err(Drop::UnlistedAddress);
        }
        let length = datagram.len();
        let opened = self.crypto.open(datagram).map_err(|error| match error {
            OpenError::TooShort => Drop::TooShort,
            OpenError::NotAuthentic => Drop::NotAuthentic,
            OpenError::BadCiphertext => Drop::BadCiphertext,
        })?;
        let packet = Packet::from_wire(&opened).map_err(|error| match error {
            PacketError::TooShort => Drop::TooShort,
            PacketError::BadVersion(_) => Drop::BadVersion,
            PacketError::UnknownType(_) => Drop::UnknownType,
            PacketError::NoSender => Drop::NoSuchHost,
        })?;
        let node = NodeId::new(packet.node.into()).map_err(|_| Drop::NoSuchHost)?;
        if !self.hosts.contains_key(&node) {
            return Err(Drop::NoSuchHost);
        }
        let source = Source { link, from, node };
        match packet.body {
            Body::Data(header, payload) => self.take_data(source, length, header, payload),
            Body::Ping(ping) => self.take_ping(source, length, ping),
            Body::Pong(pong) => self.take_pong(now, source, length, pong),
            Body::Pmtud(probe, _) => self.take_probe(source, length, probe),
            Body::PmtudReply(reply) => self.take_probe_reply(now, source, length, reply),
        }
    }

    fn take_data(
        &mut self,
        source: Source,
        length: usize,
        header: DataHeader,
        payload: Bytes,
    ) -> Result<(), Drop> {
        let host = self.hosts.get_mut(&source.node).ok_or(Drop::NoSuchHost)?;
        let number = host.link_of(source.from, source.link).ok_or(Drop::WrongAddress)?;
        let link = host.links.get_mut(&number).ok_or(Drop::WrongAddress)?;
        link.stats.rx.data.count(length);
        check_data(&header)?;
        if !host.reachable {
            return Err(Drop::UnreachableSource);
        }
        match host.window.look_up(header.seq) {
            Seen::Duplicate => return Err(Drop::Duplicate),
            Seen::Jump => host.reassembly.clear(),
            Seen::New => {}
        }
        let packet = if header.fragments == 1 {
            payload
        } else {
            let DataHeader { seq, fragment: number, fragments: count, .. } = header;
            let fragment = Fragment { seq, number, count, piece: payload };
            match host.reassembly.take(&mut host.window, &fragment) {
                Taken::Kept => return Ok(()),
                Taken::Complete(packet) => packet,
                Taken::Duplicate => return Err(Drop::DuplicateFragment),
                Taken::Bad => return Err(Drop::BadFragment),
            }
        };
        host.window.set_delivered(header.seq);
        let target = target_of(&packet).ok_or(Drop::NotTotem)?;
        if target != 0 && target != u32::from(self.config.me) {
            return Err(Drop::ForeignTarget);
        }
        self.stats.delivered += 1;
        self.outputs.push_back(Output::Deliver { from: source.node, packet });
        Ok(())
    }

    /// Answers, whatever the state of the link, to the configured address.
    fn take_ping(&mut self, source: Source, length: usize, ping: Ping) -> Result<(), Drop> {
        self.check_link(source, ping.link)?;
        let host = self.hosts.get_mut(&source.node).ok_or(Drop::NoSuchHost)?;
        let link = host.links.get_mut(&ping.link).ok_or(Drop::WrongLink)?;
        link.stats.rx.ping.count(length);
        if host.window.take_ping(ping.seq, ping.timed != 0) {
            host.reassembly.clear();
        }
        let sent = self.send_control(source.node, ping.link, Body::Pong(ping));
        self.count_tx(source.node, ping.link, |tx| tx.pong.count(sent));
        Ok(())
    }

    fn take_pong(&mut self, now: Instant, source: Source, length: usize, pong: Ping) -> Result<(), Drop> {
        self.check_link(source, pong.link)?;
        let sent_at = self.epoch + duration_of(pong.time).ok_or(Drop::BadTime)?;
        let latency = now.checked_duration_since(sent_at).ok_or(Drop::BadTime)?;
        let host = self.hosts.get_mut(&source.node).ok_or(Drop::NoSuchHost)?;
        let link = host.links.get_mut(&pong.link).ok_or(Drop::WrongLink)?;
        link.stats.rx.pong.count(length);
        self.deadline_moved = true;
        if link.take_pong(now, latency).ok_or(Drop::BadTime)? {
            let probe = link.begin_discovery(now);
            self.link_changed(source.node, pong.link, true);
            self.send_probe(source.node, pong.link, probe);
            self.refresh();
        }
        Ok(())
    }

    fn take_probe(&mut self, source: Source, length: usize, probe: Pmtud) -> Result<(), Drop> {
        self.check_link(source, probe.link)?;
        self.count_rx(source.node, probe.link, length);
        let sent = self.send_control(source.node, probe.link, Body::PmtudReply(probe));
        self.count_tx(source.node, probe.link, |tx| tx.pmtud.count(sent));
        Ok(())
    }

    fn take_probe_reply(
        &mut self,
        now: Instant,
        source: Source,
        length: usize,
        reply: Pmtud,
    ) -> Result<(), Drop> {
        self.check_link(source, reply.link)?;
        self.count_rx(source.node, reply.link, length);
        let host = self.hosts.get_mut(&source.node).ok_or(Drop::NoSuchHost)?;
        let link = host.links.get_mut(&reply.link).ok_or(Drop::WrongLink)?;
        let next = link.take_probe_reply(now, reply.size).map_err(|()| Drop::UnexpectedReply)?;
        self.deadline_moved = true;
        self.send_probe(source.node, reply.link, next);
        self.refresh();
        Ok(())
    }

    /// A packet that names its link must have come over it and, if the access list is on, from the
    /// host's address there.
    ///
    /// Differs: the reference takes the number modulo 8 and does not compare it with the socket.
    fn check_link(&self, source: Source, link: u8) -> Result<(), Drop> {
        let host = self.hosts.get(&source.node).ok_or(Drop::NoSuchHost)?;
        if link != source.link || !host.links.contains_key(&link) {
            return Err(Drop::WrongLink);
        }
        if self.config.config.block_unlisted_ips && !host.is_address_of(link, source.from.ip()) {
            return Err(Drop::WrongAddress);
        }
        Ok(())
    }

    fn count_rx(&mut self, node: NodeId, link: u8, length: usize) {
        if let Some(link) = self.hosts.get_mut(&node).and_then(|host| host.links.get_mut(&link)) {
            link.stats.rx.pmtud.count(length);
        }
    }
}

fn check_data(header: &DataHeader) -> Result<(), Drop> {
    match header {
        DataHeader { channel, .. } if *channel != 0 => Err(Drop::BadChannel),
        DataHeader { compression, .. } if *compression != 0 => Err(Drop::Compressed),
        DataHeader { fragments: 0, .. } => Err(Drop::BadFragment),
        _ => Ok(()),
    }
}

/// The field `target_nodeid` of a ring packet; `None` if it is none.
fn target_of(packet: &[u8]) -> Option<u32> {
    let (magic, rest) = packet.split_first_chunk::<2>()?;
    let target = *rest.get(7..)?.first_chunk()?;
    match magic {
        [0x70, 0xc0] => Some(u32::from_le_bytes(target)),
        [0xc0, 0x70] => Some(u32::from_be_bytes(target)),
        _ => None,
    }
}

/// The time stamp of a ping: seconds and nanoseconds, since this node's epoch.
pub(super) fn time_of(elapsed: Duration) -> [u8; 16] {
    let mut time = [0; 16];
    time[..8].copy_from_slice(&elapsed.as_secs().to_le_bytes());
    time[8..].copy_from_slice(&u64::from(elapsed.subsec_nanos()).to_le_bytes());
    time
}

fn duration_of(time: [u8; 16]) -> Option<Duration> {
    let (seconds, rest) = time.split_first_chunk()?;
    let seconds = u64::from_le_bytes(*seconds);
    let nanos = u32::try_from(u64::from_le_bytes(*rest.first_chunk()?)).ok()?;
    // A time that this node cannot have given would not fit into an instant.
    (nanos < 1_000_000_000 && seconds < 1 << 32).then(|| Duration::new(seconds, nanos))
}
