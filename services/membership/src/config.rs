//! corosync.conf as this daemon needs it: who is in the ring, at which address, with which timers.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
};

use corosync_conf::{ClusterConf, ConfErrors, Interface, IpVersion, Node, Totem, Transport};
use membership_core::srp::{Params, ParamsError, TotemSettings};
use quorate_daemon::{Daemon, Root};
use quorate_types::{NodeId, NodeName};

use crate::transport::{Group, KnetConfig};

/// UDP port of link 0; each further link has the next one. Source: corosync.conf(5), `mcastport`.
const PORT: u16 = 5405;
/// Bytes of each packet that the Totem and recovery headers take. Source: spec `totem.md`, 6.2.
const HEADERS: u32 = 2 * 45;

/// Bytes of the largest packet's content on knet, whatever the path carries. Source: spec `knet.md`, 6.
const KNET_NET_MTU: u32 = 65_536 - HEADERS;

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
    /// A node has no address on a link that this node has.
    #[error("{path}: node '{node}' has no ring{link}_addr; every node needs an address on every link")]
    NoAddress {
        /// The file.
        path: PathBuf,
        /// The node.
        node: String,
        /// The link.
        link: u8,
    },
    /// The transport cannot carry the id of a node.
    #[error("{path}: node '{node}' has nodeid {id}, but knet carries ids up to {max} only", max = u16::MAX)]
    NodeIdTooLarge {
        /// The file.
        path: PathBuf,
        /// The node.
        node: String,
        /// Its id.
        id: NodeId,
    },
    /// `mcastaddr` is no multicast group.
    #[error(
        "{path}: totem.interface.mcastaddr '{value}' is no multicast address of the nodes' family, such as 239.192.1.1"
    )]
    NoGroup {
        /// The file.
        path: PathBuf,
        /// What it says.
        value: String,
    },
    /// The key of the ring cannot be read.
    #[error(
        "cannot read {path}, the key of the ring; copy it from another member, or make one with 'corosync-keygen' for all"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// A host name has no address.
    #[error(
        "{path}: ring{link}_addr '{address}' of node '{node}' does not resolve; use an IP address, or add the name to /etc/hosts on every node"
    )]
    Resolve {
        /// The file.
        path: PathBuf,
        /// The link.
        link: u8,
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
    /// Its address on each link; one on the first link of this node at least.
    pub addresses: BTreeMap<u8, IpAddr>,
}

/// How packets travel.
#[derive(Debug, Clone)]
pub enum TransportConfig {
    /// Several links, protected if so configured.
    Knet(Box<KnetConfig>),
    /// One datagram per member.
    Udpu,
    /// One datagram for all.
    Udp(Group),
}

impl TransportConfig {
    /// The word in corosync.conf.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().as_str()
    }

    fn kind(&self) -> Transport {
        match self {
            Self::Knet(_) => Transport::Knet,
            Self::Udpu => Transport::Udpu,
            Self::Udp(_) => Transport::Udp,
        }
    }

    /// Whether packets are authenticated.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        matches!(self, Self::Knet(knet) if knet.protection.needs_key())
    }

    /// Whether the other can take its place without new sockets.
    fn fits_in_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Udp(one), Self::Udp(two)) => one == two,
            _ => self.kind() == other.kind(),
        }
    }
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
    /// UDP port of each link that this node has.
    pub ports: BTreeMap<u8, u16>,
    /// How packets travel.
    pub transport: TransportConfig,
    /// Whether the ring's thread may run in real time.
    pub real_time: bool,
    /// Timers and limits.
    pub params: Params,
}

impl RingConfig {
    /// Where this node's socket on its first link is bound.
    ///
    /// # Panics
    /// Never: the configuration was checked to list this node with an address.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        *self.local_addresses().values().next().expect("this node is listed with an address")
    }

    /// Where this node's sockets are bound, by link.
    #[must_use]
    pub fn local_addresses(&self) -> BTreeMap<u8, SocketAddr> {
        self.members.iter().find(|member| member.node == self.me).map_or_else(BTreeMap::new, |me| self.at(me))
    }

    /// Where the other nodes are, by node and link.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, BTreeMap<u8, SocketAddr>)> + '_ {
        let others = self.members.iter().filter(|member| member.node != self.me);
        others.map(|member| (member.node, self.at(member)))
    }

    /// Where the other nodes are, for transports of one link.
    #[must_use]
    pub fn peer_addresses(&self) -> BTreeMap<NodeId, SocketAddr> {
        self.peers().filter_map(|(node, links)| Some((node, *links.values().next()?))).collect()
    }

    fn at(&self, member: &MemberConfig) -> BTreeMap<u8, SocketAddr> {
        let at = |(&link, &address): (&u8, &IpAddr)| {
            Some((link, SocketAddr::new(address, *self.ports.get(&link)?)))
        };
        member.addresses.iter().filter_map(at).collect()
    }

    /// Whether the other configuration is for this very node and transport, so that it may take this one's place
    /// while the ring runs.
    #[must_use]
    pub fn fits_in_place(&self, other: &Self) -> bool {
        let same_links = matches!(self.transport, TransportConfig::Knet(_))
            || self.local_address() == other.local_address();
        self.me == other.me
            && self.cluster_name == other.cluster_name
            && self.transport.fits_in_place(&other.transport)
            && same_links
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
    real_time: bool,
}

impl ConfigSource {
    /// The files of this daemon's node.
    #[must_use]
    pub fn new(daemon: &Daemon) -> Self {
        Self {
            root: daemon.root.clone(),
            node_name: daemon.node.name.clone(),
            real_time: daemon.node.real_time,
        }
    }

    /// This node's name.
    #[must_use]
    pub fn node_name(&self) -> &str {
        self.node_name.as_str()
    }

    /// Judges the text of a corosync.conf as if it stood in this node's file.
    ///
    /// # Errors
    /// As [`ConfigSource::load`].
    pub fn check(&self, text: &str) -> Result<RingConfig, ConfigError> {
        parse(text, &self.node_name, self.root.corosync_conf(), &self.root)
    }

    /// Reads corosync.conf; `None` while this node is in no cluster.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and what is wrong in it.
    pub fn load(&self) -> Result<Option<RingConfig>, ConfigError> {
        let path = self.root.corosync_conf();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let config = self.check(&text)?;
                Ok(Some(RingConfig { real_time: config.real_time && self.real_time, ..config }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }
}

fn parse(text: &str, name: &NodeName, path: PathBuf, root: &Root) -> Result<RingConfig, ConfigError> {
    let conf =
        ClusterConf::parse(text).map_err(|source| ConfigError::Mistakes { path: path.clone(), source })?;
    let Some(me) = conf.node_named(name.as_str()) else {
        let names: Vec<_> = conf.nodes.iter().map(|node| node.name.as_str()).collect();
        return Err(ConfigError::NotListed { path, name: name.clone(), known: names.join(", ") });
    };
    for warning in &conf.warnings {
        tracing::warn!(file = %path.display(), %warning, "corosync.conf");
    }
    let links: BTreeSet<u8> = me.addresses.keys().copied().collect();
    let version = conf.totem.ip_version;
    let member = |node: &Node| member(node, &links, version, &path);
    let members: Vec<MemberConfig> = conf.nodes.iter().map(member).collect::<Result<_, _>>()?;
    let transport = transport(&conf, me, &members, &path, root)?;
    let params = Params::derive(&settings(&conf.totem, &transport), conf.nodes.len())
        .map_err(|source| ConfigError::Params { path, source })?;
    let port = |link: u8| {
        let interface = interface(&conf.totem, link).and_then(|interface| interface.mcastport);
        (link, interface.unwrap_or(PORT + u16::from(link)))
    };
    Ok(RingConfig {
        me: me.id,
        ports: links.iter().copied().map(port).collect(),
        cluster_name: conf.totem.cluster_name,
        config_version: conf.totem.config_version,
        members,
        transport,
        real_time: conf.sched_rr,
        params,
    })
}

fn interface(totem: &Totem, link: u8) -> Option<&Interface> {
    totem.interfaces.iter().find(|interface| interface.link == link)
}

fn transport(
    conf: &ClusterConf,
    me: &Node,
    members: &[MemberConfig],
    path: &Path,
    root: &Root,
) -> Result<TransportConfig, ConfigError> {
    let totem = &conf.totem;
    match totem.transport {
        Transport::Udpu => Ok(TransportConfig::Udpu),
        Transport::Udp => {
            let ipv6 = members
                .iter()
                .find(|member| member.node == me.id)
                .is_some_and(|me| me.addresses.values().next().is_some_and(IpAddr::is_ipv6));
            group(totem, ipv6, path).map(TransportConfig::Udp)
        }
        Transport::Knet => {
            if let Some(node) = conf.nodes.iter().find(|node| node.id.get() > u16::MAX.into()) {
                let (path, node, id) = (path.to_owned(), node.name.to_string(), node.id);
                return Err(ConfigError::NodeIdTooLarge { path, node, id });
            }
            let key = if totem.is_protected() { read_key(totem, root)? } else { Vec::new() };
            Ok(TransportConfig::Knet(Box::new(KnetConfig::new(totem, key))))
        }
    }
}

/// The multicast group of the one link. Source: corosync.conf(5), `mcastaddr` and `broadcast`.
fn group(totem: &Totem, ipv6: bool, path: &Path) -> Result<Group, ConfigError> {
    let interface = interface(totem, 0).cloned().unwrap_or_default();
    if interface.broadcast == Some(true) {
        return Ok(Group::BROADCAST);
    }
    let ttl = interface.ttl.unwrap_or(Group::BROADCAST.ttl);
    let Some(value) = interface.mcastaddr else {
        return Ok(Group { address: Group::address_of(&totem.cluster_name, 0, ipv6), ttl });
    };
    match value.parse::<IpAddr>() {
        Ok(address) if address.is_multicast() && address.is_ipv6() == ipv6 => Ok(Group { address, ttl }),
        _ => Err(ConfigError::NoGroup { path: path.to_owned(), value }),
    }
}

/// The key of the ring: `totem.keyfile`, or the usual place below this node's root.
fn read_key(totem: &Totem, root: &Root) -> Result<Vec<u8>, ConfigError> {
    let path = totem.keyfile.as_ref().map_or_else(|| root.authkey(), PathBuf::from);
    std::fs::read(&path).map_err(|source| ConfigError::Key { path, source })
}

fn member(
    node: &Node,
    links: &BTreeSet<u8>,
    version: IpVersion,
    path: &Path,
) -> Result<MemberConfig, ConfigError> {
    let name = node.name.to_string();
    let mut addresses = BTreeMap::new();
    for &link in links {
        let Some(address) = node.addresses.get(&link) else {
            return Err(ConfigError::NoAddress { path: path.to_owned(), node: name, link });
        };
        let resolved = resolve(address, version).map_err(|source| {
            let (node, address) = (name.clone(), address.clone());
            ConfigError::Resolve { path: path.to_owned(), link, node, address, source }
        })?;
        addresses.insert(link, resolved);
    }
    Ok(MemberConfig { node: node.id, name, addresses })
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

fn settings(totem: &Totem, transport: &TransportConfig) -> TotemSettings {
    let timing = &totem.timing;
    // knet cuts packets itself, to what the path carries.
    let net_mtu = match transport {
        TransportConfig::Knet(_) => Some(KNET_NET_MTU),
        TransportConfig::Udpu | TransportConfig::Udp(_) => {
            timing.netmtu.map(|mtu| mtu.saturating_sub(HEADERS))
        }
    };
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
        net_mtu,
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
        let root = Root::new("/nonexistent");
        parse(&lines.join("\n"), &name.parse().expect("a name"), PathBuf::from("corosync.conf"), &root)
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
    fn knet_has_a_port_for_each_link_and_needs_an_address_on_each() {
        let text = TWO_NODES
            .replace("udpu", "knet")
            .replace("127.0.0.1", "127.0.0.1\n ring1_addr: 127.0.1.1")
            .replace("127.0.0.2", "127.0.0.2\n ring1_addr: 127.0.1.2");
        let config = load(&text, "hp2").expect("valid");

        let local: Vec<_> =
            config.local_addresses().into_values().map(|address| address.to_string()).collect();
        assert_eq!(local, ["127.0.0.2:5405", "127.0.1.2:5406"]);
        assert_eq!(config.params.net_mtu, 65_446);
        let error = load(&text.replace("\n ring1_addr: 127.0.1.1", ""), "hp2").expect_err("no address");
        assert!(error.to_string().contains("node 'hp1' has no ring1_addr"), "{error}");
    }

    #[test]
    fn a_ring_with_secauth_needs_its_key() {
        let text = TWO_NODES.replace("transport: udpu", "secauth: on");
        let error = load(&text, "hp1").expect_err("no key");
        assert!(error.to_string().contains("etc/corosync/authkey, the key of the ring"), "{error}");
    }

    #[test]
    fn knet_refuses_ids_that_its_packets_cannot_carry() {
        let text = TWO_NODES.replace("udpu", "knet").replace("nodeid: 2", "nodeid: 70000");
        let error = load(&text, "hp1").expect_err("too large");
        assert!(error.to_string().contains("node 'hp2' has nodeid 70000"), "{error}");
    }

    #[test]
    fn the_multicast_group_is_derived_or_given() {
        let group = |text: &str| match load(text, "hp1").map(|config| config.transport) {
            Ok(TransportConfig::Udp(group)) => Ok(group.address.to_string()),
            Ok(other) => panic!("not udp: {other:?}"),
            Err(error) => Err(error.to_string()),
        };
        let udp = TWO_NODES.replace("udpu", "udp");
        assert_eq!(
            group(&udp.replace("cluster_name: lab", "cluster_name: wirelab")),
            Ok("239.192.55.52".into())
        );
        let with =
            |line: &str| udp.replace("token: 1000", &format!("interface {{\n linknumber: 0\n {line}\n }}"));
        assert_eq!(group(&with("mcastaddr: 239.1.2.3")), Ok("239.1.2.3".into()));
        assert_eq!(group(&with("broadcast: yes")), Ok("255.255.255.255".into()));
        assert!(group(&with("mcastaddr: 10.0.0.1")).is_err_and(|error| error.contains("'10.0.0.1'")));
        assert!(group(&with("mcastaddr: ff15::1")).is_err());
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
