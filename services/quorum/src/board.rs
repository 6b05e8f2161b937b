//! The state of the votes as the API shows it: the core's count, the names of corosync.conf, and since when.

use std::{collections::BTreeMap, time::SystemTime};

use quorate_proto::quorum::v1::{QuorumNode, QuorumStatus, quorum_node::State};
use quorate_types::NodeId;
use quorum_core::{Flags, NodeState, NodeVotes, Status as Count};

use crate::{
    config::{Cluster, Role},
    device::column,
    membership::Departure,
    reason,
};

/// What is known about the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ring {
    /// There is none, for this reason.
    Absent(String),
    /// It is there, but its members have not yet exchanged their votes.
    Synchronising,
    /// It is there and its votes are counted.
    Synchronised,
}

/// Remembers since when things are as they are.
#[derive(Debug)]
pub(crate) struct Board {
    quorate: bool,
    quorate_since: SystemTime,
    seen: BTreeMap<NodeId, Seen>,
}

/// A node that was in the ring since this daemon started.
#[derive(Debug)]
struct Seen {
    is_member: bool,
    said_good_bye: bool,
    since: SystemTime,
}

impl Board {
    pub(crate) fn new(now: SystemTime) -> Self {
        Self { quorate: false, quorate_since: now, seen: BTreeMap::new() }
    }

    /// Notes how nodes left the ring.
    pub(crate) fn departed(&mut self, departures: &[Departure]) {
        for departure in departures {
            if let Some(seen) = self.seen.get_mut(&departure.node)
                && !seen.is_member
            {
                seen.said_good_bye |= departure.left_cleanly;
            }
        }
    }

    /// The state to be published now.
    pub(crate) fn status(
        &mut self,
        role: &Role,
        ring: &Ring,
        count: Option<&Count>,
        now: SystemTime,
    ) -> QuorumStatus {
        let cluster = match role {
            Role::Node(cluster) => Some(cluster.as_ref()),
            Role::NoCluster | Role::NotListed => None,
        };
        let present = *ring == Ring::Synchronised && cluster.is_some();
        let mut status = match count {
            Some(count) => self.counted(count, present, now),
            None => QuorumStatus::default(),
        };
        status.quorate &= present;
        status.ring_present = present;
        status.node_id = cluster.map_or(0, |cluster| cluster.me.get());
        if let Some(cluster) = cluster {
            name_nodes(&mut status.nodes, cluster);
            status.nodes.retain(|node| is_of_interest(node, cluster));
        }
        status.nodes.sort_by_key(|node| node.node_id);
        if status.quorate != self.quorate {
            self.quorate = status.quorate;
            self.quorate_since = now;
        }
        status.since = Some(self.quorate_since.into());
        status.reason = match (role, ring) {
            _ if status.quorate => String::new(),
            (Role::NoCluster, _) => "this node is not part of a cluster".to_owned(),
            (Role::NotListed, _) => "this node is not in the nodelist of corosync.conf".to_owned(),
            (_, Ring::Absent(reason)) => reason.clone(),
            (_, Ring::Synchronising) => "the members of the ring are exchanging their votes".to_owned(),
            (_, Ring::Synchronised) => {
                reason::too_few_votes(&status, count.is_some_and(|count| count.waiting_for_all), now)
            }
        };
        status
    }

    fn counted(&mut self, count: &Count, present: bool, now: SystemTime) -> QuorumStatus {
        QuorumStatus {
            quorate: count.quorate,
            ring: count.ring.map(Into::into),
            expected_votes: count.expected_votes,
            highest_expected: count.highest_expected,
            total_votes: if present { count.total_votes } else { 0 },
            quorum: count.quorum,
            flags: count.flags.names().into_iter().map(str::to_owned).collect(),
            nodes: count.nodes.iter().map(|node| self.node(node, count.flags, present, now)).collect(),
            ..QuorumStatus::default()
        }
    }

    fn node(
        &mut self,
        NodeVotes { node, votes, state, flags, .. }: &NodeVotes,
        ring: Flags,
        present: bool,
        now: SystemTime,
    ) -> QuorumNode {
        let is_member = present && *state == NodeState::Member;
        if is_member {
            let first = Seen { is_member: true, said_good_bye: false, since: now };
            self.seen.entry(*node).or_insert(first);
        }
        if let Some(seen) = self.seen.get_mut(node) {
            if seen.is_member != is_member {
                *seen = Seen { is_member, said_good_bye: false, since: now };
            }
            seen.said_good_bye |= *state == NodeState::Leaving;
        }
        let (state, since) = match self.seen.get(node) {
            None => (State::Unseen, None),
            Some(Seen { is_member: true, since, .. }) => (State::Member, Some((*since).into())),
            Some(Seen { said_good_bye: true, since, .. }) => (State::Leaving, Some((*since).into())),
            Some(Seen { since, .. }) => (State::Dead, Some((*since).into())),
        };
        let device = if is_member { column(*flags, ring) } else { String::new() };
        let (node_id, votes, state) = (node.get(), *votes, state.into());
        QuorumNode { node_id, votes, state, since, device, ..QuorumNode::default() }
    }
}

/// A node that was removed is not missed; one that is there all the same must be seen.
fn is_of_interest(node: &QuorumNode, cluster: &Cluster) -> bool {
    node.state() == State::Member || cluster.conf.nodes.iter().any(|known| known.id.get() == node.node_id)
}

/// Adds names and addresses, and the configured nodes that the engine has not seen.
fn name_nodes(nodes: &mut Vec<QuorumNode>, cluster: &Cluster) {
    for configured in &cluster.conf.nodes {
        let id = configured.id.get();
        let place = nodes.iter().position(|node| node.node_id == id).unwrap_or_else(|| {
            let votes = configured.votes;
            nodes.push(QuorumNode {
                node_id: id,
                votes,
                state: State::Unseen.into(),
                ..QuorumNode::default()
            });
            nodes.len() - 1
        });
        nodes[place].name = configured.name.to_string();
        nodes[place].address = configured.addresses.values().next().cloned().unwrap_or_default();
    }
}
