//! corosync.conf as this daemon needs it: who is in the ring, at which address, with which timers.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
};

use corosync_conf::{ClusterConf, ConfErrors, IpVersion, Node, Totem, Transport};
use membership_core::srp::{Params, ParamsError, TotemSettings};
use quorate_daemon::{Daemon, Root};
use quorate_types::{NodeId, NodeName};

/// UDP port of link 0. Source: corosync.conf(5), `mcastport`.
const PORT: u16 = 5405;
/// Bytes of each packet that the Totem and recovery headers take. Source: spec `totem.md`, 6.2.
const HEADERS: u32 = 2 * 45;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there but cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The file is no valid corosync.conf.
    #[error("{path} has mistakes")]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them, with line and key.
        #[source]
        source: ConfErrors,
    },
    /// No node of the file has this node's name.
    #[error(
        "{path}: nodelist has no node named '{name}'; known are {known}. Set 'name' in node.toml or the node's 'name' in corosync.conf"
    )]
    NotListed {
        /// The file.
        path: PathBuf,
        /// This node's name.
        name: NodeName,
        /// The names that are there.
        known: String,
    },
    /// The transport is not available.
    #[error("{path}: totem.transport is {transport}, only udpu is available")]
    Transport {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        transport: Transport,
    },
    /// A node has no address on link 0.
    #[error("{path}: node '{node}' has no ring0_addr")]
    NoAddress {
        /// The file.
        path: PathBuf,
        /// The node.
        node: String,
    },
    /// A host name has no address.
    #[error(
        "{path}: ring0_addr '{address}' of node '{node}' does not resolve; use an IP address, or add the name to /etc/hosts on every node"
    )]
    Resolve {
        /// The file.
        path: PathBuf,
        /// The node.
        node: String,
        /// What was looked up.
        address: String,
        /// What the resolver says.
        #[source]
        source: io::Error,
    },
    /// Timers contradict each other.
    #[error("{path} has settings of the totem section that cannot work")]
    Params {
        /// The file.
        path: PathBuf,
        /// Which.
        #[source]
        source: ParamsError,
    },
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its address on link 0.
    pub addresses: Vec<IpAddr>,
}

/// What the ring needs to know.
#[derive(Debug, Clone)]
pub struct RingConfig {
    /// Name of the cluster.
    pub cluster_name: String,
    /// `totem.config_version`; announced to the others.
    pub config_version: u64,
    /// This node.
    pub me: NodeId,
    /// All nodes, this one too, by id.
    pub members: Vec<MemberConfig>,
    /// UDP port.
    pub port: u16,
    /// Timers and limits.
    pub params: Params,
}

impl RingConfig {
    /// Where this node's socket is bound.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        let address =
            self.members.iter().find(|member| member.node == self.me).and_then(|me| me.addresses.first());
        SocketAddr::new(
            *address.expect("the configuration was checked to list this node with an address"),
            self.port,
        )
    }

    /// Where the other nodes are.
    #[must_use]
    pub fn peer_addresses(&self) -> BTreeMap<NodeId, SocketAddr> {
        let others = self.members.iter().filter(|member| member.node != self.me);
        others
            .filter_map(|member| Some((member.node, SocketAddr::new(*member.addresses.first()?, self.port))))
            .collect()
    }

    /// Ids of all nodes.
    #[must_use]
    pub fn member_ids(&self) -> BTreeSet<NodeId> {
        self.members.iter().map(|member| member.node).collect()
    }
}

/// Where the configuration comes from, each time it is (re)loaded.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    root: Root,
    node_name: NodeName,
}

impl ConfigSource {
    /// The files of this daemon's node.
    #[must_use]
    pub fn new(daemon: &Daemon) -> Self {
        Self { root: daemon.root.clone(), node_name: daemon.node.name.clone() }
    }

    /// This node's name.
    #[must_use]
    pub fn node_name(&self) -> &str {
        self.node_name.as_str()
    }

    /// Reads corosync.conf; `None` while this node is in no cluster.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and what is wrong in it.
    pub fn load(&self) -> Result<Option<RingConfig>, ConfigError> {
        let path = self.root.corosync_conf();
        match std::fs::read_to_string(&path) {
            Ok(text) => parse(&text, &self.node_name, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }
}

fn parse(text: &str, name: &NodeName, path: PathBuf) -> Result<RingConfig, ConfigError> {
    let conf =
        ClusterConf::parse(text).map_err(|source| ConfigError::Mistakes { path: path.clone(), source })?;
    let Some(me) = conf.node_named(name.as_str()).map(|node| node.id) else {
        let names: Vec<_> = conf.nodes.iter().map(|node| node.name.as_str()).collect();
        return Err(ConfigError::NotListed { path, name: name.clone(), known: names.join(", ") });
    };
    if conf.totem.transport != Transport::Udpu {
        return Err(ConfigError::Transport { path, transport: conf.totem.transport });
    }
    for warning in &conf.warnings {
        tracing::warn!(file = %path.display(), %warning, "corosync.conf");
    }
    let members =
        conf.nodes.iter().map(|node| member(node, conf.totem.ip_version, &path)).collect::<Result<_, _>>()?;
    let params = Params::derive(&settings(&conf.totem), conf.nodes.len())
        .map_err(|source| ConfigError::Params { path, source })?;
    let port = conf
        .totem
        .interfaces
        .iter()
        .find(|interface| interface.link == 0)
        .and_then(|interface| interface.mcastport);
    Ok(RingConfig {
        cluster_name: conf.totem.cluster_name,
        config_version: conf.totem.config_version,
        me,
        members,
        port: port.unwrap_or(PORT),
        params,
    })
}

fn member(node: &Node, version: IpVersion, path: &Path) -> Result<MemberConfig, ConfigError> {
    let name = node.name.to_string();
    let Some(address) = node.addresses.get(&0) else {
        return Err(ConfigError::NoAddress { path: path.to_owned(), node: name });
    };
    match resolve(address, version) {
        Ok(address) => Ok(MemberConfig { node: node.id, name, addresses: vec![address] }),
        Err(source) => {
            Err(ConfigError::Resolve { path: path.to_owned(), node: name, address: address.clone(), source })
        }
    }
}

/// A literal address as it is; else the first address of the wanted family. Source: spec `pvecm.md`, 3.3.
fn resolve(address: &str, version: IpVersion) -> io::Result<IpAddr> {
    if let Ok(literal) = address.parse() {
        return Ok(literal);
    }
    let found: Vec<IpAddr> = (address, 0).to_socket_addrs()?.map(|found| found.ip()).collect();
    let v4 = found.iter().copied().find(IpAddr::is_ipv4);
    let v6 = found.iter().copied().find(IpAddr::is_ipv6);
    let chosen = match version {
        IpVersion::Ipv4 => v4,
        IpVersion::Ipv6 => v6,
        IpVersion::Ipv4Then6 => v4.or(v6),
        IpVersion::Ipv6Then4 => v6.or(v4),
    };
    chosen.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "it has no address of the family that totem.ip_version asks for",
        )
    })
}

fn settings(totem: &Totem) -> TotemSettings {
    let timing = &totem.timing;
    TotemSettings {
        token: timing.token,
        token_coefficient: timing.token_coefficient,
        token_warning: timing.token_warning,
        token_retransmits_before_loss_const: timing.token_retransmits_before_loss_const,
        token_retransmit: timing.token_retransmit,
        hold: timing.hold,
        join: timing.join,
        send_join: timing.send_join,
        consensus: timing.consensus,
        merge: timing.merge,
        downcheck: timing.downcheck,
        fail_recv_const: timing.fail_recv_const,
        seqno_unchanged_const: timing.seqno_unchanged_const,
        heartbeat_failures_allowed: timing.heartbeat_failures_allowed,
        max_network_delay: timing.max_network_delay,
        window_size: timing.window_size,
        max_messages: timing.max_messages,
        miss_count_const: timing.miss_count_const,
        quorate_fast_detection: Some(totem.quorate_fast_detection),
        net_mtu: timing.netmtu.map(|mtu| mtu.saturating_sub(HEADERS)),
        ..TotemSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TWO_NODES: &str = "
        totem { 
          version: 2
          cluster_name: lab
          config_version: 3
          transport: udpu
          token: 1000
        }
        nodelist {
          node {
            name: hp1
            nodeid: 1
            ring0_addr: 127.0.0.1
          }
          node {
            name: hp2
            nodeid: 2
            ring0_addr: 127.0.0.2
          }
        }
        quorum {
          provider: corosync_votequorum
        }
    ";

    fn load(text: &str, name: &str) -> Result<RingConfig, ConfigError> {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        parse(&lines.join("\n"), &name.parse().expect("a name"), PathBuf::from("corosync.conf"))
    }

    #[test]
    fn own_and_other_addresses_come_from_the_nodelist() {
        let config = load(TWO_NODES, "hp2").expect("valid");

        assert_eq!(config.local_address(), "127.0.0.2:5405".parse().expect("address"));
        let peers: Vec<_> =
            config.peer_addresses().into_iter().map(|(node, to)| (node.get(), to.to_string())).collect();
        assert_eq!(peers, [(1, "127.0.0.1:5405".to_owned())]);
        assert_eq!(config.params.token, Duration::from_secs(1));
    }

    #[test]
    fn fast_detection_is_agreed_to_unless_the_file_says_no() {
        assert!(load(TWO_NODES, "hp1").expect("valid").params.fast_detection);
        let off = TWO_NODES.replace("token: 1000", "quorate_fast_detection: no");
        assert!(!load(&off, "hp1").expect("valid").params.fast_detection);
    }

    #[test]
    fn a_node_that_is_not_listed_is_told_which_are() {
        let error = load(TWO_NODES, "hp9").expect_err("not listed");
        assert!(error.to_string().contains("known are hp1, hp2"), "{error}");
    }

    #[test]
    fn a_transport_that_is_not_there_is_named() {
        let error = load(&TWO_NODES.replace("udpu", "knet"), "hp1").expect_err("no knet");
        assert!(error.to_string().contains("totem.transport is knet"), "{error}");
    }

    #[test]
    fn a_host_name_that_does_not_resolve_is_named_with_its_node() {
        let error =
            load(&TWO_NODES.replace("127.0.0.2", "no-such-host.invalid"), "hp1").expect_err("unresolvable");
        assert!(error.to_string().contains("'no-such-host.invalid' of node 'hp2'"), "{error}");
    }

    #[test]
    fn timers_that_cannot_work_are_refused() {
        let error = load(&TWO_NODES.replace("token: 1000", "token: 5"), "hp1").expect_err("too short");
        assert!(matches!(error, ConfigError::Params { .. }), "{error}");
    }
}
