//! The `knet` transport: the sockets of [`membership_core::knet::Links`], one for each link.
//!
//! The links decide everything; this file carries datagrams. Where the kernel can, many datagrams cross its border
//! with one call: pieces of one packet leave as one buffer that the kernel cuts (GSO), and datagrams of one sender
//! arrive as one buffer (GRO).
//!
//! Source: spec `knet.md`, 2: a node sends from the port that it listens on, with the don't-fragment flag.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, IoSliceMut},
    net::SocketAddr,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use corosync_conf::{Cipher, Hash, LinkMode, Protection, Totem};
use membership_core::{
    knet::{self, CheckedConfig, CryptoConfig, Input, Key, LinkSettings, Links, Output, Recipients},
    srp::Destination,
    strangers::Strangers,
};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use quorate_types::NodeId;
use rand::RngCore as _;
use tokio::{io::Interest, net::UdpSocket};

use super::{bind_failed, peers::LinkCounters, socket};
use crate::{
    config::RingConfig,
    error::Error,
    view::{LinkView, PingView},
};

/// `knet_pong_count` when the file does not say. Source: corosync.conf(5).
const PONG_COUNT: u8 = 2;
/// `knet_pmtud_interval` when the file does not say. Source: corosync.conf(5).
const PMTUD_INTERVAL: Duration = Duration::from_secs(30);
/// Most bytes of one call to the kernel: the largest UDP payload over IPv4.
const BURST_MAX: usize = 65_507;

/// What corosync.conf says of knet.
#[derive(Debug, Clone)]
pub struct KnetConfig {
    /// How packets are protected.
    pub protection: Protection,
    key: Key,
    link_mode: LinkMode,
    interfaces: BTreeMap<u8, corosync_conf::Interface>,
    mtu: Option<u16>,
    pmtud_interval: Duration,
    block_unlisted_ips: bool,
}

impl KnetConfig {
    /// From the `totem` section and the content of the key file, which may be empty if nothing is protected.
    #[must_use]
    pub fn new(totem: &Totem, key: Vec<u8>) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Self {
            protection: totem.protection,
            key: key.into(),
            link_mode: totem.link_mode,
            interfaces: totem
                .interfaces
                .iter()
                .map(|interface| (interface.link, interface.clone()))
                .collect(),
            mtu: totem.knet_mtu.and_then(|mtu| u16::try_from(mtu).ok()).filter(|&mtu| mtu > 0),
            pmtud_interval: totem.knet_pmtud_interval.filter(|&it| it > 0).map_or(PMTUD_INTERVAL, seconds),
            block_unlisted_ips: totem.block_unlisted_ips,
        }
    }

    fn crypto(&self) -> CryptoConfig {
        CryptoConfig {
            cipher: match self.protection.cipher {
                Cipher::None => knet::Cipher::None,
                Cipher::Aes128 => knet::Cipher::Aes128,
                Cipher::Aes192 => knet::Cipher::Aes192,
                Cipher::Aes256 => knet::Cipher::Aes256,
            },
            hash: match self.protection.hash {
                Hash::None => knet::Hash::None,
                Hash::Md5 => knet::Hash::Md5,
                Hash::Sha1 => knet::Hash::Sha1,
                Hash::Sha256 => knet::Hash::Sha256,
                Hash::Sha384 => knet::Hash::Sha384,
                Hash::Sha512 => knet::Hash::Sha512,
            },
            key: self.key.clone(),
        }
    }

    /// Timers follow the token timeout, so that a link is given up before the token is.
    fn link(&self, link: u8, token: Duration) -> LinkSettings {
        let Some(interface) = self.interfaces.get(&link) else {
            return LinkSettings::derive(token, PONG_COUNT);
        };
        let pong_count = interface.knet_pong_count.and_then(|count| u8::try_from(count).ok());
        let mut settings = LinkSettings::derive(token, pong_count.unwrap_or(PONG_COUNT));
        let millis = |millis: u32| Duration::from_millis(millis.into());
        if let Some(priority) = interface.knet_link_priority {
            settings.priority = priority;
        }
        // 0 is the default. Source: corosync.conf(5).
        if let Some(interval) = interface.knet_ping_interval.filter(|&it| it > 0) {
            settings.ping_interval = millis(interval);
        }
        if let Some(timeout) = interface.knet_ping_timeout.filter(|&it| it > 0) {
            settings.ping_timeout = millis(timeout);
        }
        if let Some(precision) = interface.knet_ping_precision.filter(|&it| it > 0) {
            settings.ping_precision = precision;
        }
        settings
    }
}

fn links_config(config: &RingConfig, knet: &KnetConfig, token: Duration) -> Result<CheckedConfig, Error> {
    let links = knet::Config {
        link_mode: match knet.link_mode {
            LinkMode::Passive => knet::LinkMode::Passive,
            LinkMode::Active => knet::LinkMode::Active,
            LinkMode::RoundRobin => knet::LinkMode::RoundRobin,
        },
        hosts: config.peers().collect(),
        local: config.local_addresses(),
        links: config.ports.keys().map(|&link| (link, knet.link(link, token))).collect(),
        mtu: knet.mtu,
        pmtud_interval: knet.pmtud_interval,
        block_unlisted_ips: knet.block_unlisted_ips,
        ..knet::Config::new(config.me)
    };
    links.check().map_err(Error::Links)
}

/// The socket of one link.
struct LinkSocket {
    local: SocketAddr,
    socket: UdpSocket,
    state: UdpSocketState,
}

impl LinkSocket {
    fn open(local: SocketAddr) -> Result<Self, Error> {
        let open = || {
            let socket = socket::bound(local)?;
            let state = UdpSocketState::new((&socket).into())?;
            Ok((socket, state))
        };
        let (socket, state) = open().map_err(|source| bind_failed(local, source))?;
        Ok(Self { local, socket, state })
    }

    /// Straight to the kernel: the runtime's idea of writability lags behind.
    fn send(&self, to: SocketAddr, contents: &[u8], segment: Option<usize>) -> io::Result<()> {
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size: segment, src_ip: None };
        self.state.try_send((&self.socket).into(), &transmit)
    }
}

/// Datagrams of one length to the same nodes, which leave together.
#[derive(Default)]
struct Burst {
    link: u8,
    to: Option<Recipients>,
    /// Length of all datagrams but the last, which may be shorter.
    segment: usize,
    count: usize,
    bytes: Vec<u8>,
}

impl Burst {
    fn takes(&self, link: u8, to: &Recipients, length: usize, segments_max: usize) -> bool {
        self.to.as_ref() == Some(to)
            && self.link == link
            && self.count < segments_max
            && length <= self.segment
            && self.bytes.len() == self.count * self.segment
            && self.bytes.len() + length <= BURST_MAX
    }
}

/// All links of this node.
pub(crate) struct Knet {
    links: Links,
    sockets: BTreeMap<u8, LinkSocket>,
    crypto: CryptoConfig,
    /// Token timeout in force, which the links' timers follow.
    token: Duration,
    /// New crypto settings are loaded and not yet in use by all.
    changing_crypto: bool,
    burst: Burst,
    delivered: VecDeque<(NodeId, Bytes)>,
    buffers: Vec<Vec<u8>>,
}

impl Knet {
    /// Opens a socket for each link. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Bind`], [`Error::Links`], [`Error::Crypto`].
    pub(super) fn open(now: Instant, config: &RingConfig, knet: &KnetConfig) -> Result<Self, Error> {
        let crypto = knet.crypto();
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let links = Links::new(now, links_config(config, knet, config.params.token)?, &crypto, seed)
            .map_err(Error::Crypto)?;
        let open = |(link, local)| Ok((link, LinkSocket::open(local)?));
        let sockets = config.local_addresses().into_iter().map(open).collect::<Result<_, Error>>()?;
        Ok(Self {
            links,
            sockets,
            crypto,
            token: config.params.token,
            changing_crypto: false,
            burst: Burst::default(),
            delivered: VecDeque::new(),
            buffers: vec![vec![0; socket::DATAGRAM_MAX]; BATCH_SIZE],
        })
    }

    /// Takes over other nodes, links, addresses, timers and keys; says whether a change of keys has begun.
    ///
    /// # Errors
    /// As [`Knet::open`]; everything is as before then.
    pub(super) fn reconfigure(
        &mut self,
        now: Instant,
        config: &RingConfig,
        knet: &KnetConfig,
    ) -> Result<bool, Error> {
        let links = links_config(config, knet, self.token)?;
        let mut sockets = BTreeMap::new();
        for (link, local) in config.local_addresses() {
            let stays = self.sockets.get(&link).is_some_and(|socket| socket.local == local);
            if !stays {
                sockets.insert(link, LinkSocket::open(local)?);
            }
        }
        let crypto = knet.crypto();
        let begins = crypto != self.crypto;
        if begins {
            self.links.load_new_crypto(&crypto).map_err(Error::Crypto)?;
            self.crypto = crypto;
            self.changing_crypto = true;
        }
        self.sockets.retain(|link, _| config.ports.contains_key(link));
        self.sockets.append(&mut sockets);
        self.feed(now, Input::Reconfigure(Box::new(links)));
        Ok(begins)
    }

    /// Lets the links' timers follow another token timeout; those that corosync.conf sets stay.
    pub(super) fn set_token_timeout(
        &mut self,
        now: Instant,
        config: &RingConfig,
        knet: &KnetConfig,
        token: Duration,
    ) {
        if self.token == token {
            return;
        }
        match links_config(config, knet, token) {
            Ok(links) => {
                self.token = token;
                self.feed(now, Input::Reconfigure(Box::new(links)));
            }
            Err(error) => tracing::warn!(%error, ?token, "the links keep their timers"),
        }
    }

    /// A step of a change of keys came back in the order of the ring: 1 sends with the new ones, 2 refuses the old.
    pub(super) fn crypto_phase(&mut self, now: Instant, phase: u32) {
        match phase {
            1 if self.changing_crypto => match self.links.switch_sending(now) {
                Ok(()) => tracing::info!("packets are sent with the new key"),
                Err(error) => tracing::error!(%error, "the key was not changed"),
            },
            2 if std::mem::take(&mut self.changing_crypto) => {
                self.links.drop_old();
                tracing::info!("packets with the old key are refused");
            }
            _ => {}
        }
        self.drain(now);
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for socket in self.sockets.values() {
            if let Poll::Ready(ready) = socket.socket.poll_recv_ready(context) {
                return Poll::Ready(ready);
            }
        }
        Poll::Pending
    }

    pub(super) fn receive(&mut self, now: Instant) -> Option<(NodeId, Bytes)> {
        loop {
            if let Some(delivered) = self.delivered.pop_front() {
                return Some(delivered);
            }
            if !self.read(now) {
                return None;
            }
        }
    }

    pub(super) fn send(&mut self, now: Instant, to: Destination, packet: Bytes) {
        self.feed(now, Input::Send { to, packet });
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.links.next_deadline()
    }

    pub(super) fn handle_timer(&mut self, now: Instant) {
        self.feed(now, Input::Timer);
    }

    /// Reads what one call to the kernel gives, of the first socket that has something; whether there was anything.
    fn read(&mut self, now: Instant) -> bool {
        let numbers: Vec<u8> = self.sockets.keys().copied().collect();
        numbers.into_iter().any(|link| self.read_link(now, link))
    }

    fn read_link(&mut self, now: Instant, link: u8) -> bool {
        let Some(LinkSocket { socket, state, .. }) = self.sockets.get(&link) else { return false };
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<IoSliceMut<'_>> =
            self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let received =
            socket.try_io(Interest::READABLE, || state.recv(socket.into(), &mut slices, &mut meta));
        drop(slices);
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            // Such as a port unreachable for an earlier send: the next turn reads on.
            Err(error) => {
                tracing::trace!(%error, link, "receive");
                return false;
            }
        };
        let mut datagrams = Vec::new();
        for (buffer, meta) in self.buffers.iter().zip(&meta[..count]) {
            let whole = &buffer[..meta.len.min(buffer.len())];
            if whole.is_empty() {
                datagrams.push((meta.addr, Bytes::new()));
            }
            datagrams.extend(
                whole
                    .chunks(meta.stride.max(1))
                    .map(|datagram| (meta.addr, Bytes::copy_from_slice(datagram))),
            );
        }
        for (from, datagram) in datagrams {
            self.links.handle_input(now, Input::Datagram { link, from, datagram });
        }
        self.drain(now);
        count > 0
    }

    fn feed(&mut self, now: Instant, input: Input) {
        self.links.handle_input(now, input);
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        loop {
            while let Some(output) = self.links.poll_output() {
                match output {
                    Output::Send { link, to, datagram, probe } => self.add(now, link, to, &datagram, probe),
                    Output::Deliver { from, packet } => self.delivered.push_back((from, packet)),
                    // The core has logged them.
                    Output::LinkChanged { .. } | Output::HostChanged { .. } | Output::MtuChanged { .. } => {}
                }
            }
            // What the kernel refuses is told to the links, which may have an answer to it.
            if !self.flush(now) {
                return;
            }
        }
    }

    /// Puts a datagram to those that leave together, or sends them and begins anew with this one.
    fn add(&mut self, now: Instant, link: u8, to: Recipients, datagram: &[u8], probe: bool) {
        let segments_max = self.sockets.get(&link).map_or(1, |socket| socket.state.max_gso_segments());
        if probe || !self.burst.takes(link, &to, datagram.len(), segments_max) {
            self.flush(now);
            self.burst.link = link;
            self.burst.to = Some(to);
            self.burst.segment = datagram.len();
            self.burst.count = 0;
            self.burst.bytes.clear();
        }
        self.burst.bytes.extend_from_slice(datagram);
        self.burst.count += 1;
        if probe {
            self.flush(now);
        }
    }

    /// Sends what waits; whether there was anything.
    fn flush(&mut self, now: Instant) -> bool {
        let Some(to) = self.burst.to.take() else { return false };
        let Burst { link, segment, count, bytes, .. } = &self.burst;
        let (link, segment) = (*link, *segment);
        let Some(socket) = self.sockets.get(&link) else { return true };
        let mut refused = Vec::new();
        for &address in to.as_slice() {
            let segments = (*count > 1).then_some(segment);
            match socket.send(address, bytes, segments) {
                Ok(()) => {}
                Err(error) if quinn_udp::is_msg_size_err(&error) => {
                    refused.push(Input::TooLong {
                        link,
                        to: address,
                        datagram_len: segment,
                        interface_mtu: None,
                    });
                }
                Err(error) => {
                    tracing::trace!(%error, to = %address, "send");
                    refused.push(Input::SendFailed { link, to: address });
                }
            }
        }
        for input in refused {
            self.links.handle_input(now, input);
        }
        true
    }

    pub(super) fn links(&self) -> Vec<LinkView> {
        let views =
            self.links.link_status().zip(self.links.link_stats()).filter_map(|(status, (_, _, stats))| {
                let (tx, rx) = (&stats.tx, &stats.rx);
                let sum = |direction: &knet::Direction, pick: fn(&knet::Traffic) -> u64| {
                    [&direction.data, &direction.ping, &direction.pong, &direction.pmtud]
                        .into_iter()
                        .map(pick)
                        .sum()
                };
                Some(LinkView {
                    node: status.node,
                    link: status.link,
                    local: status.local?,
                    remote: status.remote,
                    connected: status.connected,
                    counters: LinkCounters {
                        tx_packets: sum(tx, |traffic| traffic.packets),
                        tx_bytes: sum(tx, |traffic| traffic.bytes),
                        rx_packets: sum(rx, |traffic| traffic.packets),
                        rx_bytes: sum(rx, |traffic| traffic.bytes),
                        tx_errors: stats.tx_errors,
                        last_rx: None,
                    },
                    pings: Some(PingView {
                        latency: stats.latency.average,
                        latency_min: stats.latency.min,
                        latency_max: stats.latency.max,
                        jitter: stats.latency.jitter,
                        sent: tx.ping.packets,
                        answered: rx.pong.packets,
                        mtu: status.mtu.unwrap_or(0).into(),
                        ups: stats.up_count,
                        downs: stats.down_count,
                    }),
                })
            });
        views.collect()
    }

    pub(super) fn strangers(&self) -> &Strangers {
        self.links.strangers()
    }

    pub(super) fn dropped(&self) -> Vec<(&'static str, u64)> {
        let stats = self.links.stats();
        knet::Drop::ALL.into_iter().map(|reason| (reason.name(), stats.dropped(reason))).collect()
    }
}
