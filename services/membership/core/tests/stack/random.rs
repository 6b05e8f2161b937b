//! Random crashes, partitions, losses and messages; then the order, the members and the end state
//! are checked. Each seed is one repeatable story.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use membership_core::{
    cpg::{ChangeReason, Member},
    srp::{ConfigurationChange, Guarantee},
    stack::{ClientId, GroupEvent, Input, LeaveReason, Output},
};
use quorate_types::RingId;

use crate::network::{Chance, Network, Node, Votes, events, group, member};

const NODES: u32 = 4;
const SEEDS: u64 = 100;
const ACTIONS: usize = 60;

/// One story: the network, and which client each node has now.
struct Story {
    network: Network,
    chance: Chance,
    clients: BTreeMap<u32, ClientId>,
    next: u64,
    /// Logs of all lives of all nodes, with the clients that lived in them.
    past: Vec<(Node, Vec<ClientId>)>,
    lives: BTreeMap<u32, Vec<ClientId>>,
    vanished: BTreeSet<ClientId>,
}

impl Story {
    fn new(seed: u64) -> Self {
        // half of the stories are told where sequence numbers wrap
        let initial_seq = if seed.is_multiple_of(2) { 0 } else { 0xffff_fe00 };
        let mut network = Network::new(NODES).with_initial_seq(initial_seq).form_all();
        network.chance = Chance::new(seed + 1000);
        let chance = Chance::new(seed);
        let lives = (1..=NODES).map(|id| (id, Vec::new())).collect();
        let vanished = BTreeSet::new();
        Self { network, chance, clients: BTreeMap::new(), next: 1, past: Vec::new(), lives, vanished }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn act(&mut self) {
        let id = self.chance.below(u64::from(NODES)) as u32 + 1;
        let is_up = self.network.nodes.contains_key(&id);
        match self.chance.below(20) {
            0 => self.split(),
            1 | 2 => self.network.heal(),
            3 if is_up && self.network.nodes.len() > 2 => {
                let dead = self.network.crash(id);
                self.clients.remove(&id);
                let lived = self.lives.insert(id, Vec::new()).unwrap_or_default();
                self.past.push((dead, lived));
            }
            3 | 4 if !is_up => self.network.start(id, Votes::Answers),
            5 if is_up => self.leave(id),
            6 => self.network.loss = [0, 0, 20, 100][self.chance.below(4) as usize],
            _ if is_up => self.send(id),
            _ => {}
        }
        let pause = [0, 1, 5, 300, 4000][self.chance.below(5) as usize];
        self.network.run_for(Duration::from_millis(pause));
    }

    fn split(&mut self) {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for id in self.network.nodes.keys().copied() {
            if self.chance.below(2) == 0 { one.push(id) } else { other.push(id) }
        }
        self.network.partition(&[&one, &other]);
    }

    fn send(&mut self, id: u32) {
        let client = match self.clients.get(&id) {
            Some(client) => *client,
            None => self.join(id),
        };
        let length = match self.chance.below(6) {
            0 => self.chance.below(200_000),
            1 => 1380 + self.chance.below(40),
            _ => self.chance.below(500),
        };
        let number = self.number();
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(8 + length as usize, number as u8);
        self.network.input(id, Input::GroupMulticast { client, payload: payload.into() });
    }

    fn join(&mut self, id: u32) -> ClientId {
        let client = self.number();
        let delivery = if self.chance.below(3) == 0 { Guarantee::Safe } else { Guarantee::Agreed };
        self.network.join(id, client, id * 10, "g", delivery);
        self.clients.insert(id, client);
        self.lives.entry(id).or_default().push(client);
        client
    }

    fn leave(&mut self, id: u32) {
        if let Some(client) = self.clients.remove(&id) {
            let vanished = self.chance.below(2) == 0;
            if vanished {
                self.vanished.insert(client);
            }
            let reason = if vanished { LeaveReason::ProcessDown } else { LeaveReason::Leave };
            self.network.input(id, Input::GroupLeave { client, reason });
        }
    }

    /// Everything is repaired; all must find together and agree.
    fn end(&mut self) {
        self.network.loss = 0;
        self.network.heal();
        for id in 1..=NODES {
            if !self.network.nodes.contains_key(&id) {
                self.network.start(id, Votes::Answers);
            }
        }
        self.network.form(&(1..=NODES).collect::<Vec<_>>());
        for _ in 0..2 {
            // the first time some only join
            for id in 1..=NODES {
                self.send(id);
            }
            self.network.run_for(Duration::from_secs(3));
        }
    }
}

/// The messages that a client got: where in the order, and which.
fn numbered(node: &Node, client: ClientId) -> Vec<((RingId, u32), Bytes)> {
    let message = |event| match event {
        GroupEvent::Message { ring, seq, payload, .. } => Some(((ring, seq), payload.slice(..8))),
        _ => None,
    };
    events(node, client).into_iter().filter_map(message).collect()
}

/// What two clients both got, they got in the same order and at the same place; nothing twice.
#[track_caller]
fn check_order(lives: &[(&Node, ClientId)]) {
    let stories: Vec<_> = lives.iter().map(|(node, client)| numbered(node, *client)).collect();
    for one in &stories {
        let set: BTreeSet<_> = one.iter().map(|(_, number)| number).collect();
        assert_eq!(set.len(), one.len(), "a message was delivered twice");
        for other in &stories {
            let of_other: BTreeSet<_> = other.iter().collect();
            let common: Vec<_> = one.iter().filter(|entry| of_other.contains(entry)).collect();
            let of_one: BTreeSet<_> = one.iter().collect();
            let same: Vec<_> = other.iter().filter(|entry| of_one.contains(entry)).collect();
            assert_eq!(common, same, "two clients saw different orders");
            let places: BTreeMap<_, _> = other.iter().map(|(place, number)| (number, place)).collect();
            let moved = one.iter().any(|(place, number)| places.get(number).is_some_and(|at| *at != place));
            assert!(!moved, "a message was delivered at two places");
        }
    }
}

/// Every membership that a client is told follows from the one before.
#[track_caller]
fn check_members(node: &Node, client: ClientId) -> Option<BTreeSet<Member>> {
    let mut view: Option<BTreeSet<Member>> = None;
    for event in events(node, client) {
        if let GroupEvent::Members { members, joined, left, .. } = event {
            if let Some(view) = &mut view {
                view.extend(joined.iter().map(|(member, _)| *member));
                left.iter().for_each(|(member, _)| assert!(view.remove(member), "{member:?} was not there"));
            }
            let told: BTreeSet<_> = members.into_iter().collect();
            assert_eq!(*view.get_or_insert_with(|| told.clone()), told);
        }
    }
    view
}

/// What the client of a node got in one regular configuration.
struct Part {
    ring: RingId,
    numbers: Vec<Bytes>,
    clients: BTreeSet<ClientId>,
    /// Nobody joined or left meanwhile, so another node's client must have got the same.
    is_whole: bool,
}

fn by_configuration(node: &Node, vanished: &BTreeSet<ClientId>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for output in &node.log {
        match (output, parts.last_mut()) {
            (Output::Configuration(ConfigurationChange::Regular { ring, .. }), _) => {
                let (numbers, clients) = (Vec::new(), BTreeSet::new());
                parts.push(Part { ring: *ring, numbers, clients, is_whole: true });
            }
            (Output::Group { client, event }, Some(part)) => match event {
                GroupEvent::Message { spans_change: true, .. } => {}
                GroupEvent::Message { payload, .. } => {
                    part.numbers.push(payload.slice(..8));
                    part.clients.insert(*client);
                    part.is_whole &= !vanished.contains(client);
                }
                GroupEvent::Joined { .. } => part.is_whole = false,
                GroupEvent::Members { left, .. } => {
                    part.is_whole &= left.iter().all(|(_, reason)| *reason == ChangeReason::NodeDown);
                }
                GroupEvent::Configuration { .. } => {}
            },
            _ => {}
        }
    }
    parts
}

/// Two nodes that went from one configuration to the same next one delivered the same in it, except
/// what had begun before one of them joined. Returns how many were compared.
#[track_caller]
fn check_agreement(nodes: &[&Node], vanished: &BTreeSet<ClientId>) -> usize {
    let mut compared = 0;
    let parts: Vec<_> = nodes.iter().map(|node| by_configuration(node, vanished)).collect();
    let rings = |window: &[Part]| [window[0].ring, window[1].ring];
    for (index, one) in parts.iter().enumerate() {
        for ours in one.windows(2) {
            let others = parts[index + 1..].iter().flat_map(|other| other.windows(2));
            for theirs in others.filter(|theirs| rings(theirs) == rings(ours)) {
                let (ours, theirs) = (&ours[0], &theirs[0]);
                if [ours, theirs].iter().all(|part| part.is_whole && part.clients.len() == 1) {
                    assert_eq!(ours.numbers, theirs.numbers, "ring {}", ours.ring);
                    compared += 1;
                }
            }
        }
    }
    compared
}

fn tell(seed: u64) -> usize {
    let mut story = Story::new(seed);
    for _ in 0..ACTIONS {
        story.act();
    }
    story.end();
    let living: BTreeSet<_> = story.clients.keys().map(|id| member(*id, id * 10)).collect();
    let all = story.past.iter().map(|(node, clients)| (node, clients.clone()));
    let now = story.network.nodes.iter().map(|(id, node)| (node, story.lives[id].clone()));
    let all: Vec<_> = all.chain(now).collect();
    let lives: Vec<_> =
        all.iter().flat_map(|(node, clients)| clients.iter().map(move |client| (*node, *client))).collect();
    check_order(&lives);
    for (node, client) in &lives {
        check_members(node, *client);
    }
    for (id, client) in &story.clients {
        let node = &story.network.nodes[id];
        assert_eq!(check_members(node, *client).as_ref(), Some(&living), "node {id}");
        let last: BTreeSet<_> = numbered(node, *client).into_iter().rev().take(4).collect();
        assert_eq!(last.len(), 4, "node {id} got the last messages");
        let table: BTreeSet<_> = node.stack.groups().members(&group("g")).into_iter().collect();
        assert_eq!(table, living, "node {id}");
    }
    check_agreement(&all.iter().map(|(node, _)| *node).collect::<Vec<_>>(), &story.vanished)
}

#[test]
fn random_stories_end_well() {
    let mut compared = 0;
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in first.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let told = std::panic::catch_unwind(|| tell(seed));
        compared += told.unwrap_or_else(|_| panic!("seed {seed} failed"));
    }
    assert!(compared > 20 || first.is_some(), "only {compared} configurations could be compared");
}
