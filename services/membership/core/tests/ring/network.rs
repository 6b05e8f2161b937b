//! Rings in one process: a network in memory, virtual time, one seed.

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::{Duration, Instant},
};

use bytes::Bytes;
use membership_core::srp::{
    ConfigurationChange, Delivery, Destination, Guarantee, Input, Output, Params, Phase, Ring, StateName,
};
use quorate_types::{NodeId, RingId};

/// A small generator (splitmix64): the same seed gives the same run.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

/// What a node told its application, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Started,
    Deliver(Delivery),
    Change(ConfigurationChange),
    Safe(RingId, u32),
}

pub(crate) struct Node {
    pub(crate) ring: Ring,
    pub(crate) up: bool,
    pub(crate) frozen_until: Option<Instant>,
    pub(crate) log: Vec<Event>,
    pub(crate) stored_ring_seq: u64,
    pub(crate) states: Vec<(Duration, StateName)>,
    timer_at: Option<Instant>,
    frozen_mail: Vec<Bytes>,
    /// Counts the starts, so that what belonged to an earlier life is dropped.
    life: u64,
}

/// How the network treats each datagram, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplicate: u64,
    pub(crate) reorder: u64,
    /// A few bytes are changed: nothing but survival is expected then.
    pub(crate) corrupt: u64,
}

enum What {
    Datagram { to: NodeId, packet: Bytes },
    Timer { node: NodeId },
    Thaw { node: NodeId },
    Stored { node: NodeId, life: u64, ring_seq: u64 },
}

struct Happening {
    at: Instant,
    tie: u64,
    what: What,
}

impl PartialEq for Happening {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.tie) == (other.at, other.tie)
    }
}
impl Eq for Happening {}
impl PartialOrd for Happening {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Happening {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.tie).cmp(&(self.at, self.tie))
    }
}

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) rng: Rng,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) faults: Faults,
    pub(crate) params: Params,
    /// Nodes hear each other if they have the same group.
    pub(crate) groups: BTreeMap<NodeId, u32>,
    /// The second never hears the first.
    pub(crate) deaf: BTreeSet<(NodeId, NodeId)>,
    /// Most time that storing takes, in milliseconds.
    pub(crate) store_delay: u64,
    pub(crate) sent: u64,
    pub(crate) packets: BTreeMap<u8, u64>,
    /// Drops the next datagrams of this type, whoever sends them.
    pub(crate) drop_next: Option<(u8, u32)>,
    queue: BinaryHeap<Happening>,
    tie: u64,
    /// Payload per (ring, seq): all members must see the same.
    pub(crate) ordered: BTreeMap<(RingId, u32), Delivery>,
}

pub(crate) fn id(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

impl Network {
    pub(crate) fn new(count: u32, seed: u64, params: Params) -> Self {
        let start = Instant::now();
        let mut network = Self {
            now: start,
            start,
            rng: Rng::new(seed),
            nodes: BTreeMap::new(),
            faults: Faults::default(),
            groups: (1..=count).map(|n| (id(n), 0)).collect(),
            params,
            deaf: BTreeSet::new(),
            store_delay: 0,
            sent: 0,
            packets: BTreeMap::new(),
            drop_next: None,
            queue: BinaryHeap::new(),
            tie: 0,
            ordered: BTreeMap::new(),
        };
        for n in 1..=count {
            let ring = Ring::new(id(n), network.params.clone(), network.rng.next());
            network.nodes.insert(
                id(n),
                Node {
                    ring,
                    up: false,
                    frozen_until: None,
                    log: Vec::new(),
                    stored_ring_seq: 0,
                    states: Vec::new(),
                    timer_at: None,
                    frozen_mail: Vec::new(),
                    life: 0,
                },
            );
        }
        network
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn up(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, n)| n.up).map(|(id, _)| *id).collect()
    }

    pub(crate) fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).unwrap()
    }

    pub(crate) fn start_node(&mut self, node: NodeId) {
        let seed = self.rng.next();
        let params = self.params.clone();
        let n = self.node(node);
        assert!(!n.up);
        n.ring = Ring::new(node, params, seed);
        n.up = true;
        n.life += 1;
        n.frozen_until = None;
        n.frozen_mail.clear();
        n.timer_at = None;
        n.log.push(Event::Started);
        let stored_ring_seq = n.stored_ring_seq;
        self.input(node, Input::Start { stored_ring_seq });
    }

    pub(crate) fn start_all(&mut self) {
        for node in self.ids() {
            self.start_node(node);
        }
    }

    pub(crate) fn crash(&mut self, node: NodeId) {
        self.node(node).up = false;
    }

    pub(crate) fn leave(&mut self, node: NodeId) {
        self.input(node, Input::Leave);
        self.node(node).up = false;
    }

    /// The process is not scheduled for this long; datagrams wait in its sockets.
    pub(crate) fn freeze(&mut self, node: NodeId, time: Duration) {
        let until = self.now + time;
        self.node(node).frozen_until = Some(until);
        self.push(until, What::Thaw { node });
    }

    pub(crate) fn partition(&mut self, groups: &[&[u32]]) {
        for (index, group) in groups.iter().enumerate() {
            for n in *group {
                self.groups.insert(id(*n), index as u32);
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        for group in self.groups.values_mut() {
            *group = 0;
        }
        self.deaf.clear();
    }

    pub(crate) fn multicast(&mut self, node: NodeId, payload: impl Into<Bytes>) {
        let payload = payload.into();
        self.input(node, Input::Multicast { payload, phase: Phase::Normal, guarantee: Guarantee::Agreed });
    }

    fn push(&mut self, at: Instant, what: What) {
        self.tie += 1;
        self.queue.push(Happening { at, tie: self.tie, what });
    }

    pub(crate) fn input(&mut self, node: NodeId, input: Input) {
        let now = self.now;
        let n = self.nodes.get_mut(&node).unwrap();
        n.ring.handle_input(now, input);
        self.drain(node);
    }

    fn drain(&mut self, node: NodeId) {
        let now = self.now;
        loop {
            let n = self.nodes.get_mut(&node).unwrap();
            let Some(output) = n.ring.poll_output() else { break };
            match output {
                Output::Send { to: Destination::Node(to), packet } => self.transmit(node, to, packet),
                Output::Send { to: Destination::All, packet } => {
                    for to in self.ids() {
                        if to != node {
                            self.transmit(node, to, packet.clone());
                        }
                    }
                }
                Output::Deliver(delivery) => {
                    let key = (delivery.ring, delivery.seq);
                    let known = self.ordered.entry(key).or_insert_with(|| delivery.clone());
                    let corrupt = self.faults.corrupt > 0;
                    assert!(corrupt || *known == delivery, "node {node}: another message at the same place");
                    n.log.push(Event::Deliver(delivery));
                }
                Output::Configuration(change) => {
                    let regular = matches!(change, ConfigurationChange::Regular { .. });
                    n.log.push(Event::Change(change));
                    if regular {
                        // Nothing synchronises above: the normal queue may go on at once.
                        n.ring.handle_input(now, Input::TransitionalAck);
                    }
                }
                Output::SafeUpTo { ring, seq } => n.log.push(Event::Safe(ring, seq)),
                Output::TokenSent => {}
                Output::StoreRingSeq(seq) => {
                    let life = n.life;
                    if self.store_delay == 0 {
                        n.stored_ring_seq = seq;
                        n.ring.handle_input(now, Input::Stored { ring_seq: seq });
                    } else {
                        let at = now + Duration::from_millis(self.rng.below(self.store_delay));
                        self.push(at, What::Stored { node, life, ring_seq: seq });
                    }
                }
                Output::StateChanged { to, .. } => n.states.push((now - self.start, to)),
            }
        }
        let n = self.nodes.get_mut(&node).unwrap();
        if let Some(deadline) = n.ring.next_deadline()
            && n.timer_at.is_none_or(|at| deadline < at)
        {
            n.timer_at = Some(deadline);
            let at = deadline.max(now);
            self.push(at, What::Timer { node });
        }
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, packet: Bytes) {
        self.sent += 1;
        *self.packets.entry(packet[3]).or_default() += 1;
        if self.groups[&from] != self.groups[&to] || self.deaf.contains(&(from, to)) {
            return;
        }
        if let Some((kind, left)) = &mut self.drop_next
            && *kind == packet[3]
            && *left > 0
        {
            *left -= 1;
            return;
        }
        if self.rng.percent(self.faults.loss) {
            return;
        }
        let copies = 1 + u64::from(self.rng.percent(self.faults.duplicate));
        for _ in 0..copies {
            let mut delay = 50 + self.rng.below(30);
            if self.rng.percent(self.faults.reorder) {
                delay += self.rng.below(5000);
            }
            let at = self.now + Duration::from_micros(delay);
            let packet =
                if self.rng.percent(self.faults.corrupt) { self.damage(&packet) } else { packet.clone() };
            self.push(at, What::Datagram { to, packet });
        }
    }

    /// Changes one field or one byte, or cuts the packet.
    fn damage(&mut self, packet: &Bytes) -> Bytes {
        let mut bytes = packet.to_vec();
        let at = self.rng.below(bytes.len() as u64) as usize;
        match self.rng.below(4) {
            0 => bytes.truncate(at),
            1 => bytes[at] = self.rng.next() as u8,
            _ if at + 4 <= bytes.len() => {
                let values = [0, 1, 2, 3, 30, 31, 16384, 16385, 0x7fff_ffff, 0x8000_0001, u32::MAX];
                let value = values[self.rng.below(values.len() as u64) as usize];
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            _ => {}
        }
        Bytes::from(bytes)
    }

    /// Runs for this long.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step_until(until) {}
        self.now = until;
    }

    /// Runs until the condition holds, or panics after `limit`.
    pub(crate) fn run_until(&mut self, limit: Duration, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let until = self.now + limit;
        while !holds(self) {
            if !self.step_until(until) {
                let seen: Vec<_> = self.nodes.iter().map(|(id, n)| (*id, n.up, n.ring.status())).collect();
                panic!("not within {limit:?}: {what}\n{seen:#?}");
            }
        }
    }

    fn step_until(&mut self, until: Instant) -> bool {
        let Some(next) = self.queue.peek() else { return false };
        if next.at > until {
            return false;
        }
        let Happening { at, what, .. } = self.queue.pop().unwrap();
        self.now = self.now.max(at);
        match what {
            What::Datagram { to, packet } => {
                let n = self.node(to);
                if !n.up {
                } else if n.frozen_until.is_some() {
                    n.frozen_mail.push(packet);
                } else {
                    self.input(to, Input::Datagram(packet));
                }
            }
            What::Timer { node } => self.timer(node),
            What::Stored { node, life, ring_seq } => {
                let n = self.node(node);
                if n.up && n.life == life {
                    n.stored_ring_seq = n.stored_ring_seq.max(ring_seq);
                    self.input(node, Input::Stored { ring_seq });
                }
            }
            What::Thaw { node } => {
                let now = self.now;
                let n = self.node(node);
                if n.frozen_until.is_some_and(|until| until <= now) {
                    n.frozen_until = None;
                    let mail = std::mem::take(&mut n.frozen_mail);
                    if n.up {
                        self.timer(node);
                        for packet in mail {
                            self.input(node, Input::Datagram(packet));
                        }
                    }
                }
            }
        }
        true
    }

    fn timer(&mut self, node: NodeId) {
        let now = self.now;
        let n = self.node(node);
        n.timer_at = None;
        if !n.up || n.frozen_until.is_some() {
            return;
        }
        if n.ring.next_deadline().is_some_and(|at| at <= now) {
            self.input(node, Input::Timer);
        } else {
            self.drain(node);
        }
    }

    /// All nodes that are up and hear each other share one operational ring.
    pub(crate) fn is_settled(&self) -> bool {
        self.up().iter().all(|me| {
            let peers: Vec<NodeId> =
                self.up().into_iter().filter(|n| self.groups[n] == self.groups[me]).collect();
            let status = self.nodes[me].ring.status();
            status.state == StateName::Operational
                && status.members == peers
                && peers.iter().all(|p| self.nodes[p].ring.status().ring == status.ring)
        })
    }

    pub(crate) fn settle(&mut self, limit: Duration) {
        self.run_until(limit, "one operational ring per group", Self::is_settled);
    }

    /// Payloads delivered by a node since it started last.
    pub(crate) fn delivered(&self, node: NodeId) -> Vec<Bytes> {
        let log = &self.nodes[&node].log;
        let from = log.iter().rposition(|e| *e == Event::Started).unwrap_or(0);
        let payload = |event: &Event| match event {
            Event::Deliver(delivery) => Some(delivery.payload.clone()),
            _ => None,
        };
        log[from..].iter().filter_map(payload).collect()
    }
}
