//! Some nodes in memory: a clock, and a network between their links that loses, delays and is narrow
//! as the test wants it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use membership_core::{
    knet::{CheckedConfig, Config, CryptoConfig, Input, LinkMode, LinkSettings, LinkStatus, Links, Output},
    srp::Destination,
};
use quorate_types::NodeId;

/// One way through the network.
pub(crate) type Path = (u32, u32, u8);

/// The network and its nodes.
pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) nodes: BTreeMap<u32, Links>,
    pub(crate) config: Template,
    /// By node: what was delivered, and from whom.
    pub(crate) delivered: BTreeMap<u32, Vec<(u32, Bytes)>>,
    /// Links and hosts that changed, and when, counted from the start.
    pub(crate) changes: Vec<(Duration, u32, Output)>,
    /// Ways that are cut.
    pub(crate) cut: BTreeSet<Path>,
    /// Largest size on the wire by link; the sender's kernel knows `interface_mtu` only.
    pub(crate) path_mtu: BTreeMap<u8, usize>,
    pub(crate) interface_mtu: usize,
    /// Every so many datagrams one is lost; 0 = none.
    pub(crate) lose_every: u64,
    pub(crate) datagrams: u64,
    /// Data datagrams by way.
    pub(crate) data: BTreeMap<Path, u64>,
    start: Instant,
    delay: Duration,
    flying: Vec<(Instant, u64, u32, Input)>,
}

/// What all nodes are configured with.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) nodes: u32,
    pub(crate) links: u8,
    pub(crate) mode: LinkMode,
    pub(crate) settings: BTreeMap<u8, LinkSettings>,
    pub(crate) mtu: Option<u16>,
    pub(crate) crypto: CryptoConfig,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            nodes: 2,
            links: 1,
            mode: LinkMode::Passive,
            settings: BTreeMap::new(),
            mtu: None,
            crypto: CryptoConfig::default(),
        }
    }
}

pub(crate) fn id(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

pub(crate) fn address(node: u32, link: u8) -> SocketAddr {
    format!("10.7{link}.0.{node}:{}", 5405 + u16::from(link)).parse().unwrap()
}

/// A packet of the ring: a valid head, then bytes that depend on `mark`.
pub(crate) fn packet(length: usize, mark: u8) -> Bytes {
    let mut packet: Vec<u8> = (0..length).map(|i| (i % 251) as u8 ^ mark).collect();
    packet[..4].copy_from_slice(&[0x70, 0xc0, 3, 1]);
    packet[9..13].copy_from_slice(&0xffff_ffffu32.to_le_bytes());
    packet.into()
}

/// The same as it is delivered: with its target.
pub(crate) fn to(target: u32, packet: &Bytes) -> Bytes {
    let mut packet = packet.to_vec();
    packet[9..13].copy_from_slice(&target.to_le_bytes());
    packet.into()
}

impl Template {
    pub(crate) fn config(&self, me: u32) -> Config {
        let addresses = |node: u32| (0..self.links).map(|link| (link, address(node, link))).collect();
        let others = (1..=self.nodes).filter(|n| *n != me);
        Config {
            link_mode: self.mode,
            hosts: others.map(|n| (id(n), addresses(n))).collect(),
            local: addresses(me),
            links: self.settings.clone(),
            mtu: self.mtu,
            ..Config::new(id(me))
        }
    }

    pub(crate) fn checked(&self, me: u32) -> CheckedConfig {
        self.config(me).check().unwrap()
    }
}

impl Network {
    pub(crate) fn new(config: Template) -> Self {
        let now = Instant::now();
        let mut network = Self {
            now,
            nodes: BTreeMap::new(),
            config,
            delivered: BTreeMap::new(),
            changes: Vec::new(),
            cut: BTreeSet::new(),
            path_mtu: BTreeMap::new(),
            interface_mtu: 1500,
            lose_every: 0,
            datagrams: 0,
            data: BTreeMap::new(),
            start: now,
            delay: Duration::from_micros(300),
            flying: Vec::new(),
        };
        for node in 1..=network.config.nodes {
            network.start(node);
        }
        network
    }

    /// Starts a node, or starts it again.
    pub(crate) fn start(&mut self, node: u32) {
        let seed = [node as u8; 32];
        let links = Links::new(self.now, self.config.checked(node), &self.config.crypto, seed).unwrap();
        self.nodes.insert(node, links);
    }

    /// Lets this much time pass.
    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let timers = self.nodes.iter().filter_map(|(&n, links)| Some((links.next_deadline()?, 0, n)));
            let arrivals = self.flying.iter().map(|(at, order, node, _)| (*at, *order, *node));
            let Some(next) = timers.chain(arrivals).min().filter(|(at, _, _)| *at <= end) else {
                break;
            };
            self.now = self.now.max(next.0);
            match self.flying.iter().position(|(at, order, node, _)| (*at, *order, *node) == next) {
                Some(index) => {
                    let (_, _, node, input) = self.flying.remove(index);
                    self.input(node, input);
                }
                None => self.input(next.2, Input::Timer),
            }
        }
        self.now = end;
    }

    /// Runs until all nodes reach each other and know their MTU.
    pub(crate) fn settle(&mut self) {
        self.run(15_000);
        for links in self.nodes.values() {
            assert_eq!(links.reachable().count(), self.nodes.len() - 1);
        }
        self.changes.clear();
        self.data.clear();
    }

    pub(crate) fn send(&mut self, node: u32, to: Destination, packet: &Bytes) {
        self.input(node, Input::Send { to, packet: packet.clone() });
    }

    pub(crate) fn input(&mut self, node: u32, input: Input) {
        let now = self.now;
        if let Some(links) = self.nodes.get_mut(&node) {
            links.handle_input(now, input);
        }
        self.drain(node);
    }

    /// Carries out what a node wants.
    pub(crate) fn drain(&mut self, node: u32) {
        while let Some(output) = self.nodes.get_mut(&node).and_then(Links::poll_output) {
            match output {
                Output::Send { link, ref to, ref datagram, probe } => {
                    for to in to.as_slice() {
                        self.carry(node, link, *to, datagram, probe);
                    }
                }
                Output::Deliver { from, packet } => {
                    self.delivered.entry(node).or_default().push((from.get(), packet));
                }
                change => self.changes.push((self.now - self.start, node, change)),
            }
        }
    }

    fn carry(&mut self, node: u32, link: u8, to: SocketAddr, datagram: &Bytes, _probe: bool) {
        let size = datagram.len() + 28;
        if size > self.interface_mtu {
            let datagram_len = datagram.len();
            let interface_mtu = Some(self.interface_mtu);
            let now = self.now;
            let input = Input::TooLong { link, to, datagram_len, interface_mtu };
            self.nodes.get_mut(&node).unwrap().handle_input(now, input);
            return;
        }
        let target = (1..=self.config.nodes).find(|n| address(*n, link) == to).expect("a configured address");
        self.datagrams += 1;
        if datagram.get(1) == Some(&0) {
            *self.data.entry((node, target, link)).or_default() += 1;
        }
        let is_lost = self.lose_every > 0 && self.datagrams.is_multiple_of(self.lose_every);
        let is_too_long = self.path_mtu.get(&link).is_some_and(|mtu| size > *mtu);
        if is_lost || is_too_long || self.cut.contains(&(node, target, link)) {
            return;
        }
        let from = address(node, link);
        let input = Input::Datagram { link, from, datagram: datagram.clone() };
        self.flying.push((self.now + self.delay, self.datagrams, target, input));
    }

    pub(crate) fn status(&self, node: u32, other: u32, link: u8) -> LinkStatus {
        let mut all = self.nodes[&node].link_status();
        all.find(|status| status.node == id(other) && status.link == link).unwrap()
    }

    pub(crate) fn take_delivered(&mut self, node: u32) -> Vec<(u32, Bytes)> {
        self.delivered.remove(&node).unwrap_or_default()
    }

    /// Cuts or heals one link between two nodes, both ways.
    pub(crate) fn cut_link(&mut self, a: u32, b: u32, link: u8) {
        self.cut.extend([(a, b, link), (b, a, link)]);
    }
}
