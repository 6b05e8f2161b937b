//! A process of a process group, on either side, and what it was delivered.

mod corosync;
pub mod quorate;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail};
use tokio::sync::watch;

use crate::{Kind, Node, PATIENCE, payload::hash};

/// A message as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Node of the sender.
    pub node: u32,
    /// Process of the sender.
    pub pid: u32,
    /// Length in bytes.
    pub length: usize,
    /// [`hash`] of its bytes.
    pub hash: u64,
}

/// All that a member saw.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Messages, in the order of their delivery.
    pub messages: Vec<Message>,
    /// Each membership of the group, as (node, process), in the order of their delivery.
    pub memberships: Vec<BTreeSet<(u32, u32)>>,
    /// Whether the member is gone: its daemon ended the connection.
    pub ended: bool,
}

impl Record {
    /// The hash of the delivered sequence.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let lines: String = self
            .messages
            .iter()
            .map(|Message { node, pid, length, hash }| format!("{node} {pid} {length} {hash:016x}\n"))
            .collect();
        hash(lines.as_bytes())
    }

    /// Nodes of the present membership.
    fn nodes(&self) -> BTreeSet<u32> {
        self.memberships.last().into_iter().flatten().map(|(node, _)| *node).collect()
    }
}

enum Hand {
    Corosync(Box<corosync::Client>),
    Quorate(quorate::Client),
}

/// A process of a group.
pub struct GroupMember {
    node: u32,
    pid: u32,
    hand: Hand,
    record: watch::Receiver<Record>,
}

impl GroupMember {
    pub(crate) async fn join(node: &Node, group: &str) -> anyhow::Result<Self> {
        let (sender, record) = watch::channel(Record::default());
        let (hand, pid) = match node.kind() {
            Kind::Corosync => {
                let (client, pid) = corosync::Client::join(node, group, sender).await?;
                (Hand::Corosync(Box::new(client)), pid)
            }
            Kind::Quorate => {
                let (client, pid) = quorate::Client::join(node, group, sender).await?;
                (Hand::Quorate(client), pid)
            }
        };
        let mut member = Self { node: node.id(), pid, hand, record };
        let own = (member.node, pid);
        member
            .wait("the own join", PATIENCE, |record| {
                record.memberships.last().is_some_and(|members| members.contains(&own))
            })
            .await?;
        Ok(member)
    }

    /// The node that it runs on.
    #[must_use]
    pub fn node(&self) -> u32 {
        self.node
    }

    /// Its process id, as other members see it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has seen up to now.
    #[must_use]
    pub fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// Sends `count` messages of `size` bytes, made from `seed`, `seed + 1`, ... It returns before they are delivered.
    ///
    /// # Errors
    /// The member is gone.
    pub async fn send(&mut self, size: usize, seed: u64, count: u64) -> anyhow::Result<()> {
        match &mut self.hand {
            Hand::Corosync(client) => client.send(size, seed, count).await,
            Hand::Quorate(client) => client.send(size, seed, count).await,
        }
    }

    /// Waits until what it has seen is as wanted.
    ///
    /// # Errors
    /// It is not in time; what was seen.
    pub async fn wait(
        &mut self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Record) -> bool,
    ) -> anyhow::Result<()> {
        let waited = tokio::time::timeout(within, self.record.wait_for(|record| wanted(record))).await;
        let outcome = waited.map(|waited| waited.map(drop));
        match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) => {}
            Err(_) => {}
        }
        let record = self.record();
        bail!(
            "process on node {}: not seen: {what}; seen: {} messages, members {:?}, ended: {}",
            self.node,
            record.messages.len(),
            record.memberships,
            record.ended
        )
    }

    /// Waits until the group has processes on these nodes and on no other.
    ///
    /// # Errors
    /// It has not in time.
    pub async fn wait_nodes(&mut self, nodes: &[u32]) -> anyhow::Result<()> {
        let nodes: BTreeSet<u32> = nodes.iter().copied().collect();
        self.wait(&format!("processes on {nodes:?}"), PATIENCE, |record| record.nodes() == nodes).await
    }

    /// Waits until it was delivered this many messages in all.
    ///
    /// # Errors
    /// It was not in time.
    pub async fn wait_messages(&mut self, count: usize) -> anyhow::Result<()> {
        self.wait(&format!("{count} messages"), 2 * PATIENCE, |record| record.messages.len() >= count).await
    }
}

/// Joins a group on each of these nodes, in order, and waits until all have seen all.
///
/// # Errors
/// Not in time.
pub async fn join_all(nodes: &[&Node], group: &str) -> anyhow::Result<Vec<GroupMember>> {
    let mut members = Vec::new();
    for node in nodes {
        members.push(node.join_group(group).await?);
    }
    let ids: Vec<u32> = nodes.iter().map(|node| node.id()).collect();
    for member in &mut members {
        member.wait_nodes(&ids).await?;
    }
    Ok(members)
}

/// Waits until all members were delivered `count` messages, and checks that the sequence was the same everywhere.
/// Returns its hash.
///
/// # Errors
/// The first difference.
pub async fn same_sequence(members: &mut [GroupMember], count: usize) -> anyhow::Result<u64> {
    for member in members.iter_mut() {
        member.wait_messages(count).await?;
    }
    let first = members.first().context("a group has members")?.record();
    for other in &members[1..] {
        let record = other.record();
        if record.digest() != first.digest() {
            let differs = first.messages.iter().zip(&record.messages).position(|(one, two)| one != two);
            bail!(
                "nodes {} and {} were delivered {} and {} messages, different from number {differs:?}: {:?} and {:?}",
                members[0].node,
                other.node,
                first.messages.len(),
                record.messages.len(),
                differs.and_then(|at| first.messages.get(at)),
                differs.and_then(|at| record.messages.get(at)),
            );
        }
    }
    Ok(first.digest())
}
