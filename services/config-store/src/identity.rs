//! Which node of which cluster this replica belongs to, by corosync.conf.

use std::io;

use corosync_conf::ClusterConf;
use quorate_daemon::{Daemon, Root};
use quorate_types::{NodeId, NodeName};

use crate::error::Error;

/// Who the replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Node id in the cluster; `None` while this node is in no cluster.
    pub(crate) node: Option<NodeId>,
    /// Name of the cluster; empty while in none.
    pub(crate) cluster: String,
}

/// Where the identity is read from.
#[derive(Debug, Clone)]
pub(crate) struct IdentitySource {
    root: Root,
    name: NodeName,
}

impl IdentitySource {
    pub(crate) fn new(daemon: &Daemon) -> Self {
        Self { root: daemon.root.clone(), name: daemon.node.name.clone() }
    }

    /// For tests without a daemon.
    #[cfg(test)]
    pub(crate) fn of(root: Root, name: &str) -> Self {
        Self { root, name: name.parse().expect("a name of a node") }
    }

    /// The root of all paths.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Name of this node.
    pub(crate) fn name(&self) -> &NodeName {
        &self.name
    }

    /// Whether corosync.conf lists this node and others, which have copies of the tree.
    pub(crate) fn has_peers(&self) -> bool {
        let text = std::fs::read_to_string(self.root.corosync_conf()).unwrap_or_default();
        ClusterConf::parse(&text)
            .is_ok_and(|conf| conf.nodes.len() > 1 && conf.node_named(self.name.as_str()).is_some())
    }

    /// Reads corosync.conf. A node that is not listed in it any more is in no ring; its tree stays a
    /// read-only replica of the cluster it was in, so it keeps an id.
    pub(crate) fn read(&self) -> Result<Identity, Error> {
        let path = self.root.corosync_conf();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Identity { node: None, cluster: String::new() });
            }
            Err(source) => return Err(Error::ReadConf { path, source }),
        };
        let conf = ClusterConf::parse(&text).map_err(|source| Error::Conf { path: path.clone(), source })?;
        let node = conf.node_named(self.name.as_str()).map(|node| node.id).or_else(|| conf.free_node_id());
        Ok(Identity { node, cluster: conf.totem.cluster_name })
    }
}
