//! Process groups: named groups of processes on all nodes, with ordered messages among them.
//!
//! - [`name`]: group names; [`message`]: the wire formats
//! - [`table`]: who is in which group, equal on all members
//! - `partial`: messages that clients cut into parts
//!
//! This module knows nothing of local clients: what it returns concerns every process of a group,
//! and `stack` tells those that live here.
//!
//! Source: corosync services, section 4; corosync `cpg.c`.

pub mod message;
pub mod name;
mod partial;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_types::NodeId;

pub use message::{ChangeReason, CpgMessage, MCAST_PAYLOAD_MAX, Part};
pub use name::{GROUP_NAME_MAX, GroupName, GroupNameError};
pub use partial::PARTIAL_MAX;
use partial::{Accepted, Partials};
pub use table::{Member, ProcessTable};

use crate::service::ServiceMessage;

/// The process groups as one node sees them.
#[derive(Debug)]
pub struct Cpg {
    me: NodeId,
    table: ProcessTable,
    /// Members of the last synchronisation that was activated here.
    old_members: BTreeSet<NodeId>,
    round: Option<Round>,
    partials: Partials,
    stats: CpgStats,
}

/// Counters of the process groups.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CpgStats {
    /// Messages delivered to groups.
    pub messages: u64,
    /// Messages that did not decode.
    pub malformed: u64,
    /// Messages of nodes without a process in the group.
    pub not_member: u64,
    /// Partial messages that could not be put together.
    pub partial_dropped: u64,
}

/// What a synchronisation collects until it is activated.
#[derive(Debug)]
struct Round {
    members: BTreeSet<NodeId>,
    left: BTreeSet<NodeId>,
    join_lists: BTreeMap<NodeId, BTreeSet<(u32, GroupName)>>,
    /// Processes that left since the round began: a join list written before does not revive them.
    gone: BTreeSet<(Member, GroupName)>,
}

/// What the processes of a group must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The members of a group changed.
    Membership(Membership),
    /// A message for a group.
    Message {
        /// The group.
        group: GroupName,
        /// The process that sent it.
        from: Member,
        /// What it sent.
        payload: Bytes,
        /// Nodes joined while it was being sent: they do not get it.
        spans_change: bool,
    },
}

/// A change of the members of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group: GroupName,
    /// Its members after the change.
    pub members: Vec<Member>,
    /// Who joined, and why.
    pub joined: Vec<(Member, ChangeReason)>,
    /// Who left, and why.
    pub left: Vec<(Member, ChangeReason)>,
}

impl Cpg {
    /// Empty groups.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            table: ProcessTable::default(),
            old_members: BTreeSet::new(),
            round: None,
            partials: Partials::default(),
            stats: CpgStats::default(),
        }
    }

    /// Who is in which group.
    #[must_use]
    pub fn table(&self) -> &ProcessTable {
        &self.table
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> CpgStats {
        self.stats
    }

    /// A synchronisation begins. `transitional` are those that came along from the last
    /// configuration.
    pub fn start_sync(&mut self, transitional: &BTreeSet<NodeId>, members: &[NodeId]) {
        self.round = Some(Round {
            members: members.iter().copied().collect(),
            left: self.old_members.difference(transitional).copied().collect(),
            join_lists: BTreeMap::new(),
            gone: BTreeSet::new(),
        });
    }

    /// The messages of this node's process step: what it lost, and its own processes.
    #[must_use]
    pub fn sync_messages(&self) -> Vec<Bytes> {
        let left = self.round.iter().flat_map(|round| round.left.iter().copied());
        let mut messages = vec![CpgMessage::downlist(self.old_members.len(), left)];
        let own = self.table.of_node(self.me);
        if !own.is_empty() {
            messages.push(CpgMessage::join_list(&own));
        }
        messages
    }

    /// The synchronisation was given up: what was collected is void, or it would revive processes
    /// of a node that is gone by the next round.
    pub fn abort_sync(&mut self) {
        self.round = None;
    }

    /// All members have sent their processes: take over what they said.
    pub fn activate(&mut self) -> Vec<Event> {
        let Some(round) = self.round.take() else {
            return Vec::new();
        };
        let is_gone = |node| round.left.contains(&node) || !round.members.contains(&node);
        self.partials.forget_nodes(is_gone);
        let lost = self.table.remove_where(|_, member| is_gone(member.node));
        let mut events = self.left_events(lost, ChangeReason::NodeDown);
        events.extend(self.add_listed(&round));
        let me = self.me;
        let unlisted = self.table.remove_where(|group, member| {
            let listed = round.join_lists.get(&member.node);
            member.node != me && !listed.is_some_and(|list| list.contains(&(member.pid, group.clone())))
        });
        events.extend(self.left_events(unlisted, ChangeReason::ProcessDown));
        self.old_members = round.members;
        events.into_iter().map(Event::Membership).collect()
    }

    /// Nodes joined: messages of which parts are still to come are incomplete for them.
    pub fn nodes_joined(&mut self) {
        self.partials.nodes_joined();
    }

    /// Takes a message of this service, in ring order. `spans_change`: nodes joined while it was
    /// being sent.
    pub fn accept(&mut self, from: NodeId, message: &ServiceMessage, spans_change: bool) -> Option<Event> {
        let Ok(message) = CpgMessage::from_wire(message.function, &message.bytes) else {
            self.stats.malformed += 1;
            return None;
        };
        let member = |pid| Member { node: from, pid };
        match message {
            CpgMessage::ProcJoin { group, pid, reason } => self.join(group, member(pid), reason),
            CpgMessage::ProcLeave { group, pid, reason } => self.leave(group, member(pid), reason),
            CpgMessage::Mcast { group, pid, payload } => {
                let may_send = self.check_sender(&group, from);
                may_send.then(|| self.deliver(group, member(pid), payload, spans_change))
            }
            CpgMessage::PartialMcast { group, pid, total, part, payload } => {
                if !self.check_sender(&group, from) {
                    return None;
                }
                match self.partials.accept(member(pid), &group, (part, total), &payload, spans_change) {
                    Accepted::Complete { payload, spans_change } => {
                        Some(self.deliver(group, member(pid), payload, spans_change))
                    }
                    Accepted::Waiting => None,
                    Accepted::Dropped => {
                        self.stats.partial_dropped += 1;
                        None
                    }
                }
            }
            CpgMessage::JoinList(processes) => {
                if let Some(round) = self.round.as_mut().filter(|round| round.members.contains(&from)) {
                    round.join_lists.insert(from, processes.into_iter().collect());
                }
                None
            }
            CpgMessage::Downlist { old_members, left } => {
                tracing::debug!(%from, old_members, ?left, "downlist");
                None
            }
            CpgMessage::Ignored => None,
        }
    }

    fn join(&mut self, group: GroupName, member: Member, reason: ChangeReason) -> Option<Event> {
        if let Some(round) = &mut self.round {
            round.gone.remove(&(member, group.clone()));
        }
        let is_new = self.table.insert(&group, member);
        (is_new || member.node == self.me).then(|| {
            let members = self.table.members(&group);
            Event::Membership(Membership { group, members, joined: vec![(member, reason)], left: vec![] })
        })
    }

    fn leave(&mut self, group: GroupName, member: Member, reason: ChangeReason) -> Option<Event> {
        if let Some(round) = &mut self.round {
            round.gone.insert((member, group.clone()));
        }
        self.partials.forget(member);
        self.table.remove(&group, member).then(|| {
            let members = self.table.members(&group);
            Event::Membership(Membership { group, members, joined: vec![], left: vec![(member, reason)] })
        })
    }

    fn check_sender(&mut self, group: &GroupName, from: NodeId) -> bool {
        let may_send = self.table.has_node(group, from);
        self.stats.not_member += u64::from(!may_send);
        may_send
    }

    fn deliver(&mut self, group: GroupName, from: Member, payload: Bytes, spans_change: bool) -> Event {
        self.stats.messages += 1;
        Event::Message { group, from, payload, spans_change }
    }

    /// Adds the processes that other nodes listed.
    fn add_listed(&mut self, round: &Round) -> Vec<Membership> {
        let mut added: BTreeMap<GroupName, Vec<(Member, ChangeReason)>> = BTreeMap::new();
        for (&node, processes) in round.join_lists.iter().filter(|(node, _)| **node != self.me) {
            for (pid, group) in processes {
                let member = Member { node, pid: *pid };
                let left_since = round.gone.contains(&(member, group.clone()));
                if !left_since && self.table.insert(group, member) {
                    added.entry(group.clone()).or_default().push((member, ChangeReason::NodeUp));
                }
            }
        }
        let membership = |(group, joined): (GroupName, _)| {
            let members = self.table.members(&group);
            Membership { group, members, joined, left: vec![] }
        };
        added.into_iter().map(membership).collect()
    }

    fn left_events(&self, lost: Vec<(GroupName, Vec<Member>)>, reason: ChangeReason) -> Vec<Membership> {
        let membership = |(group, lost): (GroupName, Vec<Member>)| {
            let members = self.table.members(&group);
            let left = lost.into_iter().map(|member| (member, reason)).collect();
            Membership { group, members, joined: vec![], left }
        };
        lost.into_iter().map(membership).collect()
    }
}

#[cfg(test)]
mod tests;
