//! The process table: which processes of which nodes are in which group.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::NodeId;

use super::GroupName;

/// A process of the cluster. Ordered by node, then pid: the order of every member list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its node.
    pub node: NodeId,
    /// Its process id there.
    pub pid: u32,
}

/// All groups and their members, equal on all members of the ring after synchronisation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ProcessTable {
    groups: BTreeMap<GroupName, BTreeSet<Member>>,
}

impl ProcessTable {
    /// Groups in the order of their names, each with its members. No group is empty.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, &BTreeSet<Member>)> {
        self.groups.iter()
    }

    /// The members of a group; none if there is no such group.
    #[must_use]
    pub fn members(&self, group: &GroupName) -> Vec<Member> {
        self.groups.get(group).into_iter().flatten().copied().collect()
    }

    /// Whether a node has a process in a group.
    #[must_use]
    pub fn has_node(&self, group: &GroupName, node: NodeId) -> bool {
        let all = Member { node, pid: 0 }..=Member { node, pid: u32::MAX };
        self.groups.get(group).is_some_and(|members| members.range(all).next().is_some())
    }

    /// Adds a process; false if it was there.
    pub(super) fn insert(&mut self, group: &GroupName, member: Member) -> bool {
        self.groups.entry(group.clone()).or_default().insert(member)
    }

    /// Removes a process; false if it was not there.
    pub(super) fn remove(&mut self, group: &GroupName, member: Member) -> bool {
        let Some(members) = self.groups.get_mut(group) else {
            return false;
        };
        let removed = members.remove(&member);
        if members.is_empty() {
            self.groups.remove(group);
        }
        removed
    }

    /// Removes the processes for which `gone` holds; returns them by group.
    pub(super) fn remove_where(
        &mut self,
        gone: impl Fn(&GroupName, Member) -> bool,
    ) -> Vec<(GroupName, Vec<Member>)> {
        let mut removed = Vec::new();
        for (group, members) in &mut self.groups {
            let lost: Vec<_> = members.iter().copied().filter(|member| gone(group, *member)).collect();
            members.retain(|member| lost.binary_search(member).is_err());
            if !lost.is_empty() {
                removed.push((group.clone(), lost));
            }
        }
        self.groups.retain(|_, members| !members.is_empty());
        removed
    }

    /// The processes of one node.
    pub(super) fn of_node(&self, node: NodeId) -> Vec<(u32, GroupName)> {
        let entries = self.groups.iter().flat_map(|(group, members)| {
            members.iter().filter(|member| member.node == node).map(|member| (member.pid, group.clone()))
        });
        entries.collect()
    }
}
