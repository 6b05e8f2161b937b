//! The cluster's nodes, as the generated files name them: from the tree's corosync.conf, else from the local copy.

use config_store_core::{ConfigPath, Tree};
use corosync_conf::{ClusterConf, Node};
use quorate_daemon::Root;
use quorate_types::NodeId;

use crate::conf_guard::COROSYNC_CONF;

/// The cluster by corosync.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// `cluster_name`.
    pub(crate) name: String,
    /// `config_version`.
    pub(crate) config_version: u64,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Reads it; `None` on a node that has no local corosync.conf, which is in no cluster.
    pub(crate) fn read(root: &Root, tree: &Tree) -> Option<Self> {
        let local = std::fs::read_to_string(root.corosync_conf()).ok()?;
        let local = Self::parse(&local);
        let path: ConfigPath = COROSYNC_CONF.parse().expect("a plain name is a path");
        let shared =
            tree.get(&path).and_then(|entry| Self::parse(std::str::from_utf8(entry.content()).ok()?));
        match (shared, local) {
            (Some(shared), Some(local)) if shared.config_version >= local.config_version => Some(shared),
            (shared, local) => local.or(shared),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let conf = ClusterConf::parse(text).ok()?;
        let (name, config_version) = (conf.totem.cluster_name, conf.totem.config_version);
        Some(Self { name, config_version, nodes: conf.nodes })
    }

    /// The nodes, by id.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name.as_str() == name)
    }

    /// The name of a node; its id in digits if corosync.conf does not list it.
    pub(crate) fn name_of(&self, id: NodeId) -> String {
        let node = self.nodes.iter().find(|node| node.id == id);
        node.map_or_else(|| id.to_string(), |node| node.name.to_string())
    }
}
