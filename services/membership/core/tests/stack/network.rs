//! Several stacks in one process: a network without loss, virtual time, partitions and crashes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use membership_core::{
    cpg::{GroupName, Member},
    feature,
    srp::{Destination, Guarantee, Params, TotemSettings},
    stack::{ClientId, GroupEvent, Input, Output, ServiceEvent, Stack, StackConfig},
};
use quorate_types::{NodeId, RingId};

/// One way through the network.
const LATENCY: Duration = Duration::from_micros(100);
/// The service number of votequorum.
pub(crate) const VOTEQUORUM: u16 = 5;

/// What an attached service does when a synchronisation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Votes {
    /// Nobody is attached.
    Absent,
    /// Answers with its node record.
    Answers,
    /// Attached, but never answers.
    Silent,
}

pub(crate) struct Node {
    pub(crate) stack: Stack,
    /// All outputs except datagrams, in order.
    pub(crate) log: Vec<Output>,
    pub(crate) votes: Votes,
    /// Which part of a partitioned network it is in.
    side: u32,
}

/// The nodes and what is on its way between them.
pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) nodes: BTreeMap<u32, Node>,
    on_the_way: VecDeque<(Instant, u32, Bytes)>,
    /// The stored ring sequence of each node; it survives a crash.
    disks: BTreeMap<u32, u64>,
    configured: BTreeSet<NodeId>,
    net_mtu: Option<u32>,
    /// Where the numbers of each ring begin.
    initial_seq: u32,
    /// Of 1000 datagrams, so many are lost.
    pub(crate) loss: u64,
    pub(crate) chance: Chance,
}

/// Repeatable chance (xorshift).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

pub(crate) fn node(id: u32) -> NodeId {
    NodeId::new(id).expect("test ids are not 0")
}

pub(crate) fn group(name: &str) -> GroupName {
    GroupName::new(name).expect("a short name")
}

pub(crate) fn member(id: u32, pid: u32) -> Member {
    Member { node: node(id), pid }
}

/// A node record of votequorum.
pub(crate) fn nodeinfo(about: u32, flags: u32) -> Bytes {
    let fields = [5 << 16, 0, 32, 0, about, 1, 3, flags];
    fields.iter().flat_map(|field: &u32| field.to_le_bytes()).collect()
}

impl Network {
    /// Nodes 1 to `count`, configured but not started.
    pub(crate) fn new(count: u32) -> Self {
        let configured = (1..=count).map(node).collect();
        let now = Instant::now();
        Self {
            now,
            nodes: BTreeMap::new(),
            on_the_way: VecDeque::new(),
            disks: BTreeMap::new(),
            configured,
            net_mtu: None,
            initial_seq: 0,
            loss: 0,
            chance: Chance::new(1),
        }
    }

    /// Nodes 1 to `count`, on one synchronised ring.
    pub(crate) fn formed(count: u32) -> Self {
        Self::new(count).form_all()
    }

    /// The numbers of each ring begin here instead of at 0.
    pub(crate) fn with_initial_seq(mut self, initial_seq: u32) -> Self {
        self.initial_seq = initial_seq;
        self
    }

    /// Starts all nodes and waits for one synchronised ring.
    pub(crate) fn form_all(mut self) -> Self {
        let count = self.configured.len() as u32;
        for id in 1..=count {
            self.start(id, Votes::Answers);
        }
        self.form(&(1..=count).collect::<Vec<_>>());
        self
    }

    /// Larger packets, as the knet transport carries them.
    pub(crate) fn with_net_mtu(mut self, net_mtu: u32) -> Self {
        self.net_mtu = Some(net_mtu);
        self
    }

    /// Starts a node for the first time, or again after a crash.
    pub(crate) fn start(&mut self, id: u32, votes: Votes) {
        let settings = TotemSettings { net_mtu: self.net_mtu, ..TotemSettings::default() };
        let mut params = Params::derive(&settings, self.configured.len()).expect("the defaults are valid");
        params.initial_seq = self.initial_seq;
        let stored_ring_seq = self.disks.get(&id).copied().unwrap_or(0);
        let config = StackConfig {
            me: node(id),
            members: self.configured.clone(),
            params,
            config_version: 7,
            feature_level: Some(feature::LEVEL),
            seed: u64::from(id),
        };
        let side = 0;
        self.nodes.insert(id, Node { stack: Stack::new(config), log: Vec::new(), votes, side });
        if votes != Votes::Absent {
            self.input(id, Input::ServiceAttach { service: VOTEQUORUM });
        }
        self.input(id, Input::Start { stored_ring_seq });
    }

    /// Ends a node without a word. What it told its clients stays in the log.
    pub(crate) fn crash(&mut self, id: u32) -> Node {
        self.nodes.remove(&id).expect("a node that crashes was running")
    }

    /// Splits the network: nodes of different sides do not hear each other.
    pub(crate) fn partition(&mut self, sides: &[&[u32]]) {
        for (side, members) in (0..).zip(sides) {
            for id in *members {
                self.nodes.get_mut(id).expect("a running node").side = side;
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.nodes.values_mut().for_each(|node| node.side = 0);
    }

    pub(crate) fn input(&mut self, id: u32, input: Input) {
        let node = self.nodes.get_mut(&id).expect("a running node");
        node.stack.handle_input(self.now, input);
        while let Some(output) = self.nodes.get_mut(&id).and_then(|node| node.stack.poll_output()) {
            self.handle_output(id, output);
        }
    }

    fn handle_output(&mut self, id: u32, output: Output) {
        let node = self.nodes.get_mut(&id).expect("a running node");
        match output {
            Output::Send { to, packet } => self.send(id, to, &packet),
            Output::StoreRingSeq(seq) => {
                self.disks.insert(id, seq);
                node.log.push(Output::StoreRingSeq(seq));
                self.input(id, Input::Stored { ring_seq: seq });
            }
            output => {
                node.log.push(output.clone());
                if let Output::Service { event: ServiceEvent::SyncStarted { ring, .. }, service } = output
                    && node.votes == Votes::Answers
                {
                    let messages = vec![nodeinfo(id, 0), nodeinfo(0, 0)];
                    self.input(id, Input::SyncMessages { service, ring, messages });
                }
            }
        }
    }

    fn send(&mut self, from: u32, to: Destination, packet: &Bytes) {
        let side = self.nodes[&from].side;
        let reached = self.nodes.iter().filter(|(id, node)| {
            let addressed = match to {
                Destination::Node(one) => one.get() == **id,
                Destination::All => **id != from,
            };
            addressed && node.side == side
        });
        let due = self.now + LATENCY;
        for (id, _) in reached {
            if self.chance.below(1000) >= self.loss {
                self.on_the_way.push_back((due, *id, packet.clone()));
            }
        }
    }

    /// Goes to the next thing that happens.
    fn step(&mut self) {
        let timer = self.nodes.iter().filter_map(|(id, node)| Some((node.stack.next_deadline()?, *id))).min();
        let arrival = self.on_the_way.front().map(|(due, ..)| *due);
        match (arrival, timer) {
            (Some(due), timer) if timer.is_none_or(|(deadline, _)| due <= deadline) => {
                let (_, id, packet) = self.on_the_way.pop_front().expect("it was just looked at");
                self.now = self.now.max(due);
                if self.nodes.contains_key(&id) {
                    self.input(id, Input::Datagram(packet));
                }
            }
            (_, Some((deadline, id))) => {
                self.now = self.now.max(deadline);
                self.input(id, Input::Timer);
            }
            _ => panic!("nothing will ever happen"),
        }
    }

    /// Runs until the condition holds.
    ///
    /// # Panics
    /// When it does not within 60 seconds of virtual time.
    #[track_caller]
    pub(crate) fn run_until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = self.now + Duration::from_secs(60);
        while !condition(self) {
            if self.now >= deadline {
                let states: Vec<_> = self.nodes.values().map(|node| node.stack.status()).collect();
                panic!("gave up waiting: {what}\n{states:#?}");
            }
            self.step();
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }

    /// Runs until these nodes are one synchronised ring.
    #[track_caller]
    pub(crate) fn form(&mut self, ids: &[u32]) {
        let members: Vec<_> = ids.iter().copied().map(node).collect();
        self.run_until("ring formed", |network| {
            let mut rings = BTreeSet::new();
            ids.iter().all(|id| {
                let status = network.nodes[id].stack.status();
                rings.insert((status.ring.ring.rep, status.ring.ring.seq));
                status.synchronised && status.ring.members == members
            }) && rings.len() == 1
        });
    }

    pub(crate) fn join(&mut self, id: u32, client: ClientId, pid: u32, name: &str, delivery: Guarantee) {
        self.input(id, Input::GroupJoin { client, pid, group: group(name), delivery });
    }

    /// One client on each node, numbered like the node, pid ten times that; waits for all joins.
    pub(crate) fn join_all(&mut self, name: &str, delivery: Guarantee) {
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        for id in &ids {
            self.join(*id, u64::from(*id), id * 10, name, delivery);
        }
        let all: Vec<_> = ids.iter().map(|id| member(*id, id * 10)).collect();
        self.run_until("all joined", |network| {
            ids.iter().all(|id| {
                network.nodes[id].stack.groups().members(&group(name)) == all
                    && network.events(*id, u64::from(*id)).iter().any(is_joined)
            })
        });
    }

    pub(crate) fn multicast(&mut self, id: u32, payload: impl Into<Bytes>) {
        self.input(id, Input::GroupMulticast { client: u64::from(id), payload: payload.into() });
    }

    /// What a client was told.
    pub(crate) fn events(&self, id: u32, client: ClientId) -> Vec<GroupEvent> {
        events(&self.nodes[&id], client)
    }

    /// Sender and payload of the messages that the client of a node got.
    pub(crate) fn messages(&self, id: u32) -> Vec<(u32, Bytes)> {
        messages(&self.nodes[&id], u64::from(id))
    }

    /// What an attached service was told.
    pub(crate) fn service_events(&self, id: u32) -> Vec<ServiceEvent> {
        let event = |output: &Output| match output {
            Output::Service { event, .. } => Some(event.clone()),
            _ => None,
        };
        self.nodes[&id].log.iter().filter_map(event).collect()
    }

    pub(crate) fn ring(&self, id: u32) -> RingId {
        self.nodes[&id].stack.status().ring.ring
    }
}

pub(crate) fn events(node: &Node, client: ClientId) -> Vec<GroupEvent> {
    let event = |output: &Output| match output {
        Output::Group { client: told, event } if *told == client => Some(event.clone()),
        _ => None,
    };
    node.log.iter().filter_map(event).collect()
}

pub(crate) fn messages(node: &Node, client: ClientId) -> Vec<(u32, Bytes)> {
    let message = |event| match event {
        GroupEvent::Message { origin, payload, .. } => Some((origin.get(), payload)),
        _ => None,
    };
    events(node, client).into_iter().filter_map(message).collect()
}

fn is_joined(event: &GroupEvent) -> bool {
    matches!(event, GroupEvent::Joined { .. })
}
