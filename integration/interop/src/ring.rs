//! All nodes of one ring.

use std::{
    collections::BTreeMap,
    fs,
    ops::{Index, IndexMut},
};

use anyhow::bail;
use tempfile::TempDir;

use crate::{
    Kind, Node, PATIENCE, Votes,
    conf::{Setup, corosync_conf},
    namespace::{Family, Namespace, Switch, address},
    requirements, until,
};

/// Nodes 1, 2, ... of one ring; `ring[2]` is node 2.
#[derive(Debug)]
pub struct Ring {
    // Nodes end before what they stand on.
    nodes: Vec<Node>,
    switch: Switch,
    conf: String,
    _directory: TempDir,
}

impl Ring {
    /// Sets up the nodes; none is started. `None`, with the reason printed, where these tests cannot run.
    ///
    /// # Errors
    /// A namespace or a file that cannot be made.
    pub fn new(kinds: &[Kind], setup: impl Into<Setup>) -> anyhow::Result<Option<Self>> {
        if let Some(reason) = requirements::missing() {
            eprintln!("skipped: {reason}");
            return Ok(None);
        }
        let directory = tempfile::Builder::new().prefix("interop").tempdir()?;
        let count = u32::try_from(kinds.len())?;
        let conf = corosync_conf(count, setup.into());
        let hosts = directory.path().join("hosts");
        let names: String =
            (1..=count).map(|id| format!("{} node{id}\n", address(Family::V4, 0, id))).collect();
        fs::write(&hosts, format!("127.0.0.1 localhost\n{names}"))?;
        let switch = Switch::new()?;
        let mut nodes = Vec::new();
        for (id, kind) in (1..=count).zip(kinds) {
            let own = directory.path().join(format!("node{id}"));
            fs::create_dir_all(&own)?;
            let namespace = Namespace::new(&switch, id, &own, &hosts)?;
            nodes.push(Node::new(id, *kind, namespace, &own, &conf)?);
        }
        Ok(Some(Self { nodes, switch, conf, _directory: directory }))
    }

    /// The same, with all nodes started and agreed.
    ///
    /// # Errors
    /// As [`Ring::new`], or they do not agree.
    pub async fn formed(kinds: &[Kind], setup: impl Into<Setup>) -> anyhow::Result<Option<Self>> {
        let Some(mut ring) = Self::new(kinds, setup)? else { return Ok(None) };
        for node in &mut ring.nodes {
            node.start().await?;
        }
        let all: Vec<u32> = ring.nodes.iter().map(Node::id).collect();
        ring.agree(&all).await?;
        Ok(Some(ring))
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The corosync.conf that it was set up with.
    #[must_use]
    pub fn conf(&self) -> &str {
        &self.conf
    }

    /// Puts another corosync.conf in the place of every node's; nobody is told.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_conf(&self, text: &str) -> anyhow::Result<()> {
        self.nodes.iter().try_for_each(|node| node.write_conf(text))
    }

    /// Waits until these nodes, and they alone, are one ring: each says so, with the same ring id, and counts the
    /// same votes, as corosync.conf has them.
    ///
    /// # Errors
    /// What each of them said last, and the ends of their logs.
    pub async fn agree(&mut self, members: &[u32]) -> anyhow::Result<Votes> {
        let expected = u32::try_from(self.nodes.len())?;
        self.agree_with_expected(members, expected).await
    }

    /// The same with other expected votes than corosync.conf's.
    ///
    /// # Errors
    /// As [`Ring::agree`].
    pub async fn agree_with_expected(&mut self, members: &[u32], expected: u32) -> anyhow::Result<Votes> {
        let total = u32::try_from(members.len())?;
        let quorum = expected / 2 + 1;
        let wanted = |ring| Votes {
            ring,
            quorate: total >= quorum,
            expected,
            highest: expected,
            total,
            quorum,
            members: members.iter().map(|id| (*id, 1)).collect(),
        };
        let nodes = &self.nodes;
        let what = format!("nodes {members:?} agree on {total} of {expected} votes");
        let seen = until(&what, PATIENCE, || async {
            let mut seen = BTreeMap::new();
            for id in members {
                let votes = nodes[*id as usize - 1].votes().await.map_err(|error| error.to_string());
                seen.insert(*id, votes);
            }
            let ring = seen.values().find_map(|votes| votes.as_ref().ok()).map(|votes| votes.ring);
            match ring.map(wanted) {
                Some(wanted) if seen.values().all(|votes| votes.as_ref() == Ok(&wanted)) => Ok(wanted),
                _ => Err(format!("{seen:#?}")),
            }
        })
        .await;
        let mut ended = Vec::new();
        for id in members {
            ended.extend(self[*id].ended().into_iter().map(|name| format!("{name} of node {id}")));
        }
        match seen {
            Ok(votes) if ended.is_empty() => Ok(votes),
            Ok(votes) => bail!("{votes:?}, but ended: {ended:?}\n{}", self.last_words()),
            Err(error) => bail!("{error}\nended: {ended:?}\n{}", self.last_words()),
        }
    }

    fn last_words(&self) -> String {
        self.nodes.iter().map(Node::last_words).collect()
    }

    /// Cuts these nodes off from all others.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn separate(&self, nodes: &[u32]) -> anyhow::Result<()> {
        nodes.iter().try_for_each(|id| self.switch.plug(*id, 1))
    }

    /// Ends [`Ring::separate`].
    ///
    /// # Errors
    /// `ip` fails.
    pub fn heal(&self) -> anyhow::Result<()> {
        self.nodes.iter().try_for_each(|node| self.switch.plug(node.id(), 0))
    }

    /// Loses this many percent of all packets that arrive at any node.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn lose(&self, percent: u32) -> anyhow::Result<()> {
        self.nodes.iter().try_for_each(|node| node.lose(percent))
    }
}

impl Index<u32> for Ring {
    type Output = Node;

    fn index(&self, id: u32) -> &Node {
        &self.nodes[id as usize - 1]
    }
}

impl IndexMut<u32> for Ring {
    fn index_mut(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }
}
