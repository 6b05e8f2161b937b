//! What corosync.conf says about votes, seen from this node.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use corosync_conf::{ClusterConf, ConfErrors};
use quorate_daemon::Daemon;
use quorate_types::{NodeId, NodeName};
use quorum_core::{DeviceConfig, QuorumConfig};

/// The cluster that this node belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// The whole of corosync.conf.
    pub(crate) conf: ClusterConf,
    /// This node's id.
    pub(crate) me: NodeId,
}

/// What corosync.conf makes of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// There is no corosync.conf.
    NoCluster,
    /// There is one, but this node is not in its nodelist: it was removed.
    NotListed,
    /// A node of a cluster.
    Node(Box<Cluster>),
}

impl Cluster {
    /// The options of votequorum on this node.
    pub(crate) fn quorum_config(&self) -> QuorumConfig {
        let options = &self.conf.quorum;
        QuorumConfig {
            votes: self.conf.node(self.me).map_or(0, |node| node.votes),
            expected_votes: self.conf.expected_votes(),
            nodes: self.conf.nodes.len(),
            two_node: options.two_node,
            wait_for_all: options.wait_for_all,
            last_man_standing: options.last_man_standing,
            last_man_standing_window: Duration::from_millis(options.last_man_standing_window.into()),
            auto_tie_breaker: options.auto_tie_breaker.as_ref().map(tie_breaker),
            allow_downscale: options.allow_downscale,
            expected_votes_tracking: options.expected_votes_tracking,
            device: self.conf.device_votes().map(|votes| DeviceConfig { votes }),
        }
    }
}

fn tie_breaker(rule: &corosync_conf::TieBreaker) -> quorum_core::TieBreaker {
    match rule {
        corosync_conf::TieBreaker::Lowest => quorum_core::TieBreaker::Lowest,
        corosync_conf::TieBreaker::Highest => quorum_core::TieBreaker::Highest,
        corosync_conf::TieBreaker::List(nodes) => quorum_core::TieBreaker::List(nodes.clone()),
    }
}

impl Role {
    /// `totem.config_version`; 0 if in no cluster.
    pub(crate) fn config_version(&self) -> u64 {
        match self {
            Self::Node(cluster) => cluster.conf.totem.config_version,
            Self::NoCluster | Self::NotListed => 0,
        }
    }

    /// This node's id, if it is in a cluster.
    pub(crate) fn node_id(&self) -> Option<NodeId> {
        match self {
            Self::Node(cluster) => Some(cluster.me),
            Self::NoCluster | Self::NotListed => None,
        }
    }
}

/// Why corosync.conf could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file exists but cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its text makes no sense; all mistakes.
    #[error("{}", each_with_path(path, mistakes))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with lines and keys.
        mistakes: ConfErrors,
    },
    /// This node is no longer in the nodelist.
    #[error("{}: nodelist: no node has the name '{name}'", path.display())]
    NotListed {
        /// The file.
        path: PathBuf,
        /// The name looked for.
        name: NodeName,
    },
}

fn each_with_path(path: &Path, mistakes: &ConfErrors) -> String {
    let lines: Vec<_> = mistakes.0.iter().map(|mistake| format!("{}: {mistake}", path.display())).collect();
    lines.join("\n")
}

/// Reads corosync.conf.
///
/// # Errors
/// [`ConfigError`]; a missing file is none.
pub(crate) fn load(daemon: &Daemon) -> Result<Role, ConfigError> {
    let path = daemon.root.corosync_conf();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Role::NoCluster),
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    let conf = match ClusterConf::parse(&text) {
        Ok(conf) => conf,
        Err(mistakes) => return Err(ConfigError::Malformed { path, mistakes }),
    };
    for warning in &conf.warnings {
        tracing::warn!(path = %path.display(), %warning, "corosync.conf");
    }
    match conf.node_named(daemon.node.name.as_str()).map(|node| node.id) {
        Some(me) => Ok(Role::Node(Box::new(Cluster { conf, me }))),
        None => Ok(Role::NotListed),
    }
}

/// The same for a node that runs: it does not leave its cluster because of a nodelist that forgot it.
///
/// # Errors
/// [`ConfigError`]; [`ConfigError::NotListed`] among them.
pub(crate) fn reload(daemon: &Daemon) -> Result<Role, ConfigError> {
    match load(daemon)? {
        Role::NotListed => {
            Err(ConfigError::NotListed { path: daemon.root.corosync_conf(), name: daemon.node.name.clone() })
        }
        role => Ok(role),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use quorate_daemon::{NodeConfig, Root};

    use super::*;

    fn daemon(dir: &Path, text: Option<&str>) -> Daemon {
        let daemon = Daemon::new(crate::NAME, Root::new(dir), NodeConfig::named("hp1".parse().unwrap()));
        if let Some(text) = text {
            let path = daemon.root.corosync_conf();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        daemon
    }

    const CONF: &str = "totem {\n  version: 2\n  cluster_name: demo\n  config_version: 7\n}\n\
        nodelist {\n  node {\n    name: NAME\n    nodeid: 3\n    ring0_addr: 10.0.0.1\n  }\n}\n\
        quorum {\n  provider: corosync_votequorum\n}\n";

    #[test]
    fn without_a_file_there_is_no_cluster() {
        let dir = tempfile::tempdir().unwrap();

        assert_eq!(load(&daemon(dir.path(), None)).unwrap(), Role::NoCluster);
    }

    #[test]
    fn a_node_finds_itself_by_name() {
        let dir = tempfile::tempdir().unwrap();

        let role = load(&daemon(dir.path(), Some(&CONF.replace("NAME", "hp1")))).unwrap();

        assert!(matches!(role, Role::Node(cluster) if cluster.me == NodeId::new(3).unwrap()));
    }

    #[test]
    fn a_nodelist_without_this_node_is_refused_only_at_reload() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = daemon(dir.path(), Some(&CONF.replace("NAME", "hp2")));

        assert_eq!(load(&daemon).unwrap(), Role::NotListed);
        let err = reload(&daemon).unwrap_err();
        assert!(err.to_string().ends_with("corosync.conf: nodelist: no node has the name 'hp1'"), "{err}");
    }

    #[test]
    fn every_mistake_is_reported_with_file_line_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let text = CONF.replace("NAME", "hp1").replace("nodeid: 3", "nodeid: 0\n    quorum_votes: x");

        let err = load(&daemon(dir.path(), Some(&text))).unwrap_err().to_string();

        let lines: Vec<_> = err.lines().collect();
        assert_eq!(lines.len(), 2, "{err}");
        assert!(lines[0].contains("etc/corosync/corosync.conf: line 9: nodelist.node.nodeid: "), "{err}");
        assert!(
            lines[1].contains("etc/corosync/corosync.conf: line 10: nodelist.node.quorum_votes: "),
            "{err}"
        );
    }
}
