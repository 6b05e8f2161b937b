//! A world for replicas: a totally ordered group with rings, partitions, transitional configurations
//! with holes, disks that lose what was not synced, stopped processes and a clock, all from one seed.
//!
//! What must hold at any time is checked in `checks.rs` as it happens.

#![allow(dead_code, unreachable_pub, reason = "shared by several test programs, each of which uses a part")]

mod chance;
mod checks;
mod machine;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use config_store_core::{
    Expect, Extensions, Input, Operation, OperationRequest, Output, QuorumView, Replica, RequestId, Space,
    State,
};
use quorate_types::{NodeId, RingId};

pub use self::{chance::Chance, checks::Checks, machine::Machine};

pub fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

/// What the group hands to a member, in order.
#[derive(Debug, Clone)]
pub enum Event {
    Members { ring: RingId, members: Vec<NodeId> },
    Transitional,
    Message { from: NodeId, payload: Bytes },
}

/// A ring with its group and the order of what happens in it.
#[derive(Debug, Default)]
pub struct Component {
    pub ring: RingId,
    pub machines: BTreeSet<NodeId>,
    pub group: BTreeSet<NodeId>,
    pub order: Vec<Event>,
}

pub struct World {
    pub now: Instant,
    pub chance: Chance,
    pub machines: BTreeMap<NodeId, Machine>,
    pub components: Vec<Component>,
    pub checks: Checks,
    /// A ring that breaks delivers nothing more than what was delivered.
    pub cut_off: bool,
    next_seq: u64,
    next_handle: u64,
    next_incarnation: u64,
}

impl World {
    /// `count` machines in one ring, replicas running, nothing delivered yet.
    pub fn new(seed: u64, count: u32) -> Self {
        let ids: BTreeSet<NodeId> = (1..=count).map(node).collect();
        let machines = ids.iter().map(|id| (*id, Machine::default())).collect();
        let mut world = Self {
            now: Instant::now(),
            chance: Chance::new(seed),
            machines,
            components: Vec::new(),
            checks: Checks::default(),
            cut_off: false,
            next_seq: 4,
            next_handle: 1,
            next_incarnation: 1,
        };
        for id in &ids {
            world.start_process(*id);
        }
        world.partition(&[ids.into_iter().collect()]);
        world
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.machines.keys().copied().collect()
    }

    fn component_of(&mut self, id: NodeId) -> Option<&mut Component> {
        self.components.iter_mut().find(|component| component.machines.contains(&id))
    }

    // ---- faults ----

    /// The rings become these; machines that are in none are switched off.
    pub fn partition(&mut self, parts: &[Vec<NodeId>]) {
        let old = std::mem::take(&mut self.components);
        for component in &old {
            for part in parts {
                let together: Vec<NodeId> =
                    part.iter().copied().filter(|id| component.group.contains(id)).collect();
                self.finish_ring(component, &together);
            }
        }
        for part in parts {
            let machines: BTreeSet<NodeId> = part.iter().copied().collect();
            let ring = RingId::new(*machines.first().unwrap(), self.next_seq);
            self.next_seq += 4;
            let group = machines.iter().copied().filter(|id| self.machines[id].is_running()).collect();
            self.components.push(Component { ring, machines, group, order: Vec::new() });
            let last = self.components.len() - 1;
            self.announce_group(last);
        }
        self.announce_votes();
    }

    /// Extended virtual synchrony: those who go on together deliver the same, first without holes, then
    /// in the transitional configuration what the ones that left did not cut off.
    fn finish_ring(&mut self, component: &Component, together: &[NodeId]) {
        let Some(reached) = together.iter().map(|id| self.machines[id].cursor).max() else { return };
        let more = if self.cut_off { 0 } else { self.chance.below(component.order.len() - reached + 1) };
        let regular = reached + more;
        for id in together {
            let machine = self.machines.get_mut(id).unwrap();
            machine.inbox.extend(component.order[machine.cursor..regular].iter().cloned());
            machine.inbox.push_back(Event::Transitional);
            let rest = component.order[regular..].iter();
            let ours =
                rest.filter(|event| matches!(event, Event::Message { from, .. } if together.contains(from)));
            machine.inbox.extend(ours.cloned());
            machine.cursor = 0;
        }
    }

    fn announce_group(&mut self, index: usize) {
        let component = &mut self.components[index];
        let members: Vec<NodeId> = component.group.iter().copied().collect();
        component.order.push(Event::Members { ring: component.ring, members });
        let group = component.group.clone();
        if component.order.len() == 1 {
            for id in group {
                self.machines.get_mut(&id).unwrap().cursor = 0;
            }
        }
    }

    fn announce_votes(&mut self) {
        let total = self.machines.len() as u32;
        for component in &self.components {
            let votes: BTreeMap<NodeId, u32> = component.machines.iter().map(|id| (*id, 1)).collect();
            let absent =
                self.machines.keys().copied().filter(|id| !component.machines.contains(id)).collect();
            let quorum = total / 2 + 1;
            let view = QuorumView {
                ring: component.ring,
                quorate: votes.len() as u32 >= quorum,
                expected_votes: total,
                quorum,
                votes,
                absent,
            };
            for id in &component.machines {
                self.machines.get_mut(id).unwrap().view = Some(view.clone());
            }
        }
    }

    /// The process dies. Its unsynced writes are lost, or not, if the machine stays up.
    pub fn kill_process(&mut self, id: NodeId) {
        let keep = self.chance.below(2) == 0;
        self.machines.get_mut(&id).unwrap().stop(keep);
        self.leave_group(id);
    }

    fn leave_group(&mut self, id: NodeId) {
        let Some(index) = self.components.iter().position(|component| component.group.contains(&id)) else {
            return;
        };
        self.components[index].group.remove(&id);
        self.announce_group(index);
    }

    /// The power fails: unsynced writes are lost, and the machine is in no ring.
    pub fn power_off(&mut self, id: NodeId) {
        self.machines.get_mut(&id).unwrap().stop(false);
        let parts: Vec<Vec<NodeId>> = self
            .components
            .iter()
            .map(|component| {
                component.machines.iter().copied().filter(|other| *other != id).collect::<Vec<_>>()
            })
            .filter(|part| !part.is_empty())
            .collect();
        self.partition(&parts);
    }

    /// The process starts from its disk; it joins the group of its ring if it is in one.
    pub fn start_process(&mut self, id: NodeId) {
        self.next_incarnation += 1;
        self.machines.get_mut(&id).unwrap().start(id, self.next_incarnation);
        self.checks.restarted(id);
        let Some(index) = self.components.iter().position(|component| component.machines.contains(&id))
        else {
            return;
        };
        let component = &mut self.components[index];
        component.group.insert(id);
        let position = component.order.len();
        self.announce_group(index);
        self.machines.get_mut(&id).unwrap().cursor = position;
        self.announce_votes();
    }

    // ---- steps ----

    /// Hands an input to a replica and carries out what it says.
    pub fn input(&mut self, id: NodeId, input: Input) {
        let now = self.now;
        let machine = self.machines.get_mut(&id).unwrap();
        let Some(replica) = &mut machine.replica else { return };
        replica.handle_input(now, input);
        let mut outputs = Vec::new();
        while let Some(output) = replica.poll_output() {
            outputs.push(output);
        }
        for output in outputs {
            self.checks.output(id, &output);
            let machine = self.machines.get_mut(&id).unwrap();
            match output {
                Output::Multicast(payload) => machine.outgoing.push_back(payload),
                Output::Store(batch) => machine.storing.push_back(batch),
                _ => {}
            }
        }
        let machine = &self.machines[&id];
        self.checks.observe(id, machine.replica.as_ref().unwrap());
    }

    /// The ring takes a message of this member into its order.
    pub fn send(&mut self, id: NodeId) -> bool {
        let Some(payload) = self.machines.get_mut(&id).unwrap().outgoing.pop_front() else { return false };
        if let Some(component) = self.component_of(id)
            && component.group.contains(&id)
        {
            component.order.push(Event::Message { from: id, payload });
        }
        true
    }

    /// The ring delivers up to `most` events to this member's process.
    pub fn deliver(&mut self, id: NodeId, most: usize) -> bool {
        let Some(index) = self.components.iter().position(|component| component.group.contains(&id)) else {
            return false;
        };
        let component = &self.components[index];
        let machine = self.machines.get_mut(&id).unwrap();
        let end = component.order.len().min(machine.cursor + most);
        let news = component.order[machine.cursor..end].to_vec();
        machine.cursor = end;
        let any = !news.is_empty();
        machine.inbox.extend(news);
        any
    }

    /// The process takes up to `most` events from its inbox, as one batch.
    pub fn consume(&mut self, id: NodeId, most: usize) -> bool {
        let machine = self.machines.get_mut(&id).unwrap();
        if machine.stopped || !machine.is_running() {
            return false;
        }
        let count = machine.inbox.len().min(most);
        let events: Vec<Event> = machine.inbox.drain(..count).collect();
        for event in events {
            let input = match event {
                Event::Members { ring, members } => Input::Members { ring, members },
                Event::Transitional => Input::Transitional,
                Event::Message { from, payload } => Input::Message { from, payload },
            };
            self.input(id, input);
        }
        if count > 0 {
            self.input(id, Input::EndOfBatch);
        }
        count > 0
    }

    /// The disk finishes the batch under way.
    pub fn store(&mut self, id: NodeId) -> bool {
        let machine = self.machines.get_mut(&id).unwrap();
        let Some(batch) = machine.storing.pop_front() else { return false };
        machine.write(&batch);
        self.input(id, Input::Stored { batch: batch.id });
        true
    }

    /// The quorum service tells its view.
    pub fn vote(&mut self, id: NodeId) -> bool {
        let machine = self.machines.get_mut(&id).unwrap();
        if machine.stopped || !machine.is_running() {
            return false;
        }
        let Some(view) = machine.view.take() else { return false };
        self.input(id, Input::Quorum(view));
        true
    }

    /// Time passes; timers that are due fire.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        for id in self.ids() {
            let machine = &self.machines[&id];
            let due = machine.replica.as_ref().and_then(|replica| replica.next_deadline());
            if !machine.stopped && due.is_some_and(|due| due <= self.now) {
                self.input(id, Input::Timer);
            }
        }
    }

    /// A local caller asks for an operation.
    pub fn request(
        &mut self,
        id: NodeId,
        request: [u8; 16],
        operation: Operation,
        patience: Duration,
    ) -> u64 {
        let handle = self.next_handle;
        self.next_handle += 1;
        if self.machines[&id].stopped || !self.machines[&id].is_running() {
            return handle;
        }
        self.checks.asked(handle, Some(RequestId(request)));
        let request = OperationRequest {
            id: RequestId(request),
            mtime: 1_700_000_000,
            trace: None,
            extensions: Extensions::default(),
            operation,
        };
        let deadline = self.now + patience;
        self.input(id, Input::Request { handle, request, deadline });
        handle
    }

    /// A local caller asks for a barrier.
    pub fn barrier(&mut self, id: NodeId, patience: Duration) -> u64 {
        let handle = self.next_handle;
        self.next_handle += 1;
        if self.machines[&id].stopped || !self.machines[&id].is_running() {
            return handle;
        }
        self.checks.asked(handle, None);
        let mut unique = [0xbb; 16];
        unique[..8].copy_from_slice(&handle.to_le_bytes());
        let deadline = self.now + patience;
        self.input(id, Input::Barrier { handle, id: RequestId(unique), deadline });
        handle
    }

    /// A request id that was not used before.
    pub fn fresh_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next_handle.to_le_bytes());
        id
    }

    pub fn put(&mut self, id: NodeId, path: &str, content: &[u8]) -> u64 {
        let content = Bytes::copy_from_slice(content);
        let operation = Operation::Put { path: path.parse().unwrap(), expect: Expect::Any, content };
        let request = self.fresh_id();
        self.request(id, request, operation, Duration::from_secs(20))
    }

    /// Everything that can happen without time passing happens.
    pub fn drain(&mut self) {
        self.drain_but(|_, _| false);
    }

    /// The same, but disks for which `held` says so finish nothing.
    pub fn drain_but(&mut self, held: impl Fn(&Self, NodeId) -> bool) {
        loop {
            let mut busy = false;
            for id in self.ids() {
                busy |= self.vote(id);
                while self.send(id) {
                    busy = true;
                }
                busy |= self.deliver(id, usize::MAX / 2);
                busy |= self.consume(id, usize::MAX);
                busy |= !self.machines[&id].stopped && !held(self, id) && self.store(id);
            }
            if !busy {
                return;
            }
        }
    }

    /// Only this member sends, receives and stores.
    pub fn drain_alone(&mut self, id: NodeId) {
        while self.send(id) | self.deliver(id, usize::MAX / 2) | self.consume(id, usize::MAX) | self.store(id)
        {
        }
    }

    pub fn replica(&self, id: NodeId) -> &Replica {
        self.machines[&id].replica.as_ref().unwrap()
    }

    pub fn content(&self, id: NodeId, path: &str) -> Option<Bytes> {
        let path = path.parse().unwrap();
        self.replica(id).tree().get(&path).map(|entry| entry.content().clone())
    }

    /// Drains, with time, until `done` or the virtual time is over.
    pub fn run_until(&mut self, what: &str, seconds: u64, done: impl Fn(&Self) -> bool) {
        for _ in 0..seconds * 10 {
            self.drain();
            if done(self) {
                return;
            }
            self.pass(Duration::from_millis(100));
        }
        let states: Vec<_> = self.machines.values().map(Machine::state).collect();
        panic!("not reached within {seconds} s: {what}; states {states:?}");
    }

    pub fn all_synced(&self) -> bool {
        self.machines.values().all(|machine| machine.state() == Some(State::Synced))
    }

    pub fn same_trees(&self) -> bool {
        let sums = self.machines.values().filter_map(|machine| machine.replica.as_ref());
        let sums: BTreeSet<_> =
            sums.map(|replica| (replica.tree().version(), replica.tree().checksum())).collect();
        sums.len() == 1
    }

    pub fn conflict_keys(&self, id: NodeId) -> usize {
        self.machines[&id].disk.keys().filter(|(space, _)| *space == Space::Conflict).count()
    }
}

/// Changes the messages that wait in a machine's inbox.
pub fn machine_events(world: &mut World, id: NodeId, change: impl Fn(&mut Vec<u8>)) {
    for event in &mut world.machines.get_mut(&id).unwrap().inbox {
        if let Event::Message { payload, .. } = event {
            let mut bytes = payload.to_vec();
            change(&mut bytes);
            *payload = Bytes::from(bytes);
        }
    }
}
