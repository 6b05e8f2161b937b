//! Local clients of process groups: who gets which event, and when.
//!
//! A client is *joining* until its own join comes back through the ring, *member* then, and
//! *leaving* until its own leave comes back. Own messages come back in the order in which they
//! were sent, so a queue tells whose join or leave it is, even when a pid is used again.
//!
//! Clients with safe delivery: an event is held back until every member of the ring has all
//! messages up to it. At most the ring's window of messages is ever held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_types::{NodeId, RingId};

use super::io::{ClientId, ConfigurationKind, GroupEvent, LeaveReason, Output, RefuseReason};
use crate::{
    cpg::{self, ChangeReason, GroupName, Member, Membership, ProcessTable},
    srp::{Guarantee, seq_le},
};

/// Local clients at most.
pub const CLIENTS_MAX: usize = 1024;

/// A place in the total order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) ring: RingId,
    pub(super) seq: u32,
}

/// All local clients.
#[derive(Debug)]
pub(super) struct Clients {
    me: NodeId,
    clients: BTreeMap<ClientId, Client>,
    by_group: BTreeMap<GroupName, BTreeSet<ClientId>>,
    /// Joins and leaves on their way through the ring.
    joins: VecDeque<(Process, ClientId)>,
    leaves: VecDeque<(Process, ClientId)>,
    /// Up to here all members have everything.
    safe: Option<Position>,
    /// Between a transitional and the next regular configuration nothing is held back.
    in_transition: bool,
}

type Process = (u32, GroupName);

#[derive(Debug)]
struct Client {
    process: Process,
    delivery: Guarantee,
    /// Its own join has come back.
    is_member: bool,
    /// Its leave is on the way.
    is_leaving: bool,
    held: VecDeque<(Position, GroupEvent)>,
}

impl Clients {
    pub(super) fn new(me: NodeId) -> Self {
        Self {
            me,
            clients: BTreeMap::new(),
            by_group: BTreeMap::new(),
            joins: VecDeque::new(),
            leaves: VecDeque::new(),
            safe: None,
            in_transition: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// A client wants to join; its join is to be sent if this succeeds.
    pub(super) fn join(
        &mut self,
        client: ClientId,
        pid: u32,
        group: GroupName,
        delivery: Guarantee,
    ) -> Result<(), RefuseReason> {
        let process = (pid, group.clone());
        let is_taken = |other: &Client| other.process == process && !other.is_leaving;
        let same_group = self.by_group.get(&group).into_iter().flatten();
        let mut same_group = same_group.filter_map(|id| self.clients.get(id));
        if self.clients.contains_key(&client) || same_group.any(is_taken) {
            return Err(RefuseReason::AlreadyJoined);
        }
        if self.clients.len() >= CLIENTS_MAX {
            return Err(RefuseReason::TooManyClients);
        }
        self.joins.push_back((process.clone(), client));
        self.by_group.entry(group).or_default().insert(client);
        let held = VecDeque::new();
        let entry = Client { process, delivery, is_member: false, is_leaving: false, held };
        self.clients.insert(client, entry);
        Ok(())
    }

    /// A client wants to leave or is gone; returns whose leave is to be sent.
    pub(super) fn leave(&mut self, client: ClientId, reason: LeaveReason) -> Option<Process> {
        let entry = self.clients.get_mut(&client)?;
        let process = entry.process.clone();
        let is_sent = std::mem::replace(&mut entry.is_leaving, true);
        if reason == LeaveReason::ProcessDown {
            self.forget(client);
        }
        if is_sent {
            return None;
        }
        self.leaves.push_back((process.clone(), client));
        Some(process)
    }

    /// The process of a client that may send, and its delivery.
    pub(super) fn sender(&self, client: ClientId) -> Result<(&Process, Guarantee), RefuseReason> {
        self.clients
            .get(&client)
            .filter(|entry| !entry.is_leaving)
            .map(|entry| (&entry.process, entry.delivery))
            .ok_or(RefuseReason::NotJoined)
    }

    /// Tells the clients of a group.
    pub(super) fn deliver(&mut self, at: Position, event: cpg::Event, out: &mut VecDeque<Output>) {
        match event {
            cpg::Event::Message { group, from, payload, spans_change } => {
                let Position { ring, seq } = at;
                let (origin, pid) = (from.node, from.pid);
                let event = GroupEvent::Message { ring, seq, origin, pid, payload, spans_change };
                self.tell_group(&group, at, &event, out);
            }
            cpg::Event::Membership(change) => self.deliver_membership(at, change, out),
        }
    }

    fn deliver_membership(&mut self, at: Position, change: Membership, out: &mut VecDeque<Output>) {
        let Position { ring, seq } = at;
        for process in own(self.me, &change.joined, &change.group) {
            if let Some(client) = take_first(&mut self.joins, &process) {
                self.joined(client, at, out);
            }
        }
        let leaving: Vec<_> = own(self.me, &change.left, &change.group)
            .filter_map(|process| take_first(&mut self.leaves, &process))
            .collect();
        let Membership { group, members, joined, left } = change;
        self.tell_group(&group, at, &GroupEvent::Members { ring, seq, members, joined, left }, out);
        for client in leaving {
            self.release_all(client, out);
            self.forget(client);
        }
    }

    /// A configuration is synchronised: clients whose group has the same members as before are told
    /// so, so that every client learns at which place in the order the members are certain again.
    pub(super) fn confirm_members(
        &mut self,
        at: Position,
        changed: &BTreeSet<GroupName>,
        table: &ProcessTable,
        out: &mut VecDeque<Output>,
    ) {
        let unchanged: Vec<_> =
            self.by_group.keys().filter(|group| !changed.contains(group)).cloned().collect();
        for group in unchanged {
            let members = table.members(&group);
            let (joined, left) = (Vec::new(), Vec::new());
            let event = GroupEvent::Members { ring: at.ring, seq: at.seq, members, joined, left };
            self.tell_group(&group, at, &event, out);
        }
    }

    fn joined(&mut self, client: ClientId, at: Position, out: &mut VecDeque<Output>) {
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.is_member = true;
            let event = GroupEvent::Joined { ring: at.ring, seq: at.seq };
            self.tell(client, at, event, out);
        }
    }

    /// A transitional configuration: clients are told, then they get what was held back.
    pub(super) fn transitional(&mut self, ring: RingId, members: &[NodeId], out: &mut VecDeque<Output>) {
        self.in_transition = true;
        for client in self.tell_configuration(ring, ConfigurationKind::Transitional, members, out) {
            self.release_all(client, out);
        }
    }

    /// A regular configuration: clients are told.
    pub(super) fn regular(&mut self, ring: RingId, members: &[NodeId], out: &mut VecDeque<Output>) {
        self.in_transition = false;
        self.safe = None;
        self.tell_configuration(ring, ConfigurationKind::Regular, members, out);
    }

    /// Every member has everything up to here.
    pub(super) fn safe_up_to(&mut self, safe: Position, out: &mut VecDeque<Output>) {
        self.safe = Some(safe);
        for (client, entry) in &mut self.clients {
            while entry.held.front().is_some_and(|(at, _)| covers(safe, *at)) {
                let event = entry.held.pop_front().map(|(_, event)| event);
                out.extend(event.map(|event| Output::Group { client: *client, event }));
            }
        }
    }

    fn tell_configuration(
        &mut self,
        ring: RingId,
        kind: ConfigurationKind,
        members: &[NodeId],
        out: &mut VecDeque<Output>,
    ) -> Vec<ClientId> {
        let told: Vec<_> =
            self.clients.iter().filter(|(_, entry)| entry.is_member).map(|(client, _)| *client).collect();
        for &client in &told {
            let event = GroupEvent::Configuration { ring, kind, members: members.to_vec() };
            out.push_back(Output::Group { client, event });
        }
        told
    }

    fn tell_group(
        &mut self,
        group: &GroupName,
        at: Position,
        event: &GroupEvent,
        out: &mut VecDeque<Output>,
    ) {
        let clients: Vec<_> = self.by_group.get(group).into_iter().flatten().copied().collect();
        for client in clients {
            if self.clients.get(&client).is_some_and(|entry| entry.is_member) {
                self.tell(client, at, event.clone(), out);
            }
        }
    }

    fn tell(&mut self, client: ClientId, at: Position, event: GroupEvent, out: &mut VecDeque<Output>) {
        let Some(entry) = self.clients.get_mut(&client) else {
            return;
        };
        let is_safe = self.in_transition || self.safe.is_some_and(|safe| covers(safe, at));
        if entry.delivery == Guarantee::Agreed || (is_safe && entry.held.is_empty()) {
            out.push_back(Output::Group { client, event });
        } else {
            entry.held.push_back((at, event));
        }
    }

    fn release_all(&mut self, client: ClientId, out: &mut VecDeque<Output>) {
        if let Some(entry) = self.clients.get_mut(&client) {
            let held = entry.held.drain(..);
            out.extend(held.map(|(_, event)| Output::Group { client, event }));
        }
    }

    fn forget(&mut self, client: ClientId) {
        let Some(entry) = self.clients.remove(&client) else {
            return;
        };
        let group = &entry.process.1;
        if let Some(clients) = self.by_group.get_mut(group) {
            clients.remove(&client);
            if clients.is_empty() {
                self.by_group.remove(group);
            }
        }
    }
}

/// The processes of this node in a list of changes.
fn own<'a>(
    me: NodeId,
    changes: &'a [(Member, ChangeReason)],
    group: &'a GroupName,
) -> impl Iterator<Item = Process> + 'a {
    changes.iter().filter(move |(member, _)| member.node == me).map(|(member, _)| (member.pid, group.clone()))
}

fn take_first(queue: &mut VecDeque<(Process, ClientId)>, process: &Process) -> Option<ClientId> {
    let index = queue.iter().position(|(queued, _)| queued == process)?;
    queue.remove(index).map(|(_, client)| client)
}

/// Whether `at` lies on the same ring at or before `safe`.
fn covers(safe: Position, at: Position) -> bool {
    at.ring == safe.ring && seq_le(at.seq, safe.seq)
}

#[cfg(test)]
mod tests;
