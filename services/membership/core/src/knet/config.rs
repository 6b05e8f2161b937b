//! Which nodes, links and timers there are, and the rules that they must keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use quorate_types::NodeId;

/// Links are numbered from 0 to one less than this.
pub const LINKS_MAX: u8 = 8;
/// The least MTU that may be set by hand: what every IPv4 network must carry.
pub const FIXED_MTU_MIN: u16 = 576;

/// `totem.link_mode`: which of its usable links a host is sent data over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkMode {
    /// The one of the highest priority; the lowest number among equals.
    #[default]
    Passive,
    /// All of them; the receiver drops the copies.
    Active,
    /// One after the other, packet by packet.
    RoundRobin,
}

/// Settings of one link, the same towards all hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSettings {
    /// `knet_link_priority`, default 1: the higher wins in passive mode.
    pub priority: u8,
    /// `knet_ping_interval`: between two pings.
    pub ping_interval: Duration,
    /// `knet_ping_timeout`: without a pong for this long, and a little for the latency, it is down.
    pub ping_timeout: Duration,
    /// `knet_ping_precision`, default 2048: samples that the average latency is taken over.
    pub ping_precision: u32,
    /// `knet_pong_count`, default 2: good pongs before the one that brings the link up.
    pub pong_count: u8,
}

impl LinkSettings {
    /// The defaults for an effective token timeout, each in whole milliseconds.
    #[must_use]
    pub fn derive(token: Duration, pong_count: u8) -> Self {
        let share = |parts: u64| {
            let token = u64::try_from(token.as_millis()).unwrap_or(u64::MAX);
            Duration::from_millis(token / parts.max(1))
        };
        Self {
            priority: 1,
            ping_interval: share(2 * u64::from(pong_count)),
            ping_timeout: share(u64::from(pong_count)),
            ping_precision: 2048,
            pong_count,
        }
    }
}

/// For the token timeout of two nodes, 3000 ms.
impl Default for LinkSettings {
    fn default() -> Self {
        Self::derive(Duration::from_secs(3), 2)
    }
}

/// What the links are told from outside. [`CheckedConfig`] is the one that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// How links share the data.
    pub link_mode: LinkMode,
    /// The other nodes and their addresses, by link.
    pub hosts: BTreeMap<NodeId, BTreeMap<u8, SocketAddr>>,
    /// This node's own addresses by link, for [`LinkStatus`](super::LinkStatus) only.
    pub local: BTreeMap<u8, SocketAddr>,
    /// Settings by link; a link without an entry has the defaults.
    pub links: BTreeMap<u8, LinkSettings>,
    /// `knet_mtu`: the MTU of all links in bytes, IP and UDP headers included; `None` = discover.
    pub mtu: Option<u16>,
    /// `knet_pmtud_interval`, default 30 s: between two discoveries of a link's MTU.
    pub pmtud_interval: Duration,
    /// `block_unlisted_ips`, default yes: drop what comes from addresses that are not configured.
    pub block_unlisted_ips: bool,
}

impl Config {
    /// A node without others, with all defaults.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            link_mode: LinkMode::default(),
            hosts: BTreeMap::new(),
            local: BTreeMap::new(),
            links: BTreeMap::new(),
            mtu: None,
            pmtud_interval: Duration::from_secs(30),
            block_unlisted_ips: true,
        }
    }

    /// Checks it.
    ///
    /// # Errors
    /// [`ConfigError`] names the first thing that does not hold.
    pub fn check(self) -> Result<CheckedConfig, ConfigError> {
        let me = wire_id(self.me)?;
        for (&node, links) in &self.hosts {
            wire_id(node)?;
            if node == self.me {
                return Err(ConfigError::OwnNode(node));
            }
            links.keys().try_for_each(|&link| check_link(link))?;
        }
        for (&link, settings) in &self.links {
            check_link(link)?;
            check_settings(link, settings)?;
        }
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu < FIXED_MTU_MIN) {
            return Err(ConfigError::Mtu(mtu));
        }
        if self.pmtud_interval.is_zero() {
            return Err(ConfigError::PmtudInterval);
        }
        let of_host = |links: &BTreeMap<u8, SocketAddr>| -> Vec<(u8, IpAddr)> {
            links.iter().map(|(&link, address)| (link, address.ip().to_canonical())).collect()
        };
        let listed = self.hosts.values().flat_map(of_host).collect();
        Ok(CheckedConfig { config: self, me, listed })
    }
}

/// A configuration that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedConfig {
    pub(super) config: Config,
    /// This node's id as it travels.
    pub(super) me: u16,
    /// The access list: who may send to which link.
    pub(super) listed: BTreeSet<(u8, IpAddr)>,
}

impl CheckedConfig {
    /// The settings of a link.
    #[must_use]
    pub fn link(&self, link: u8) -> LinkSettings {
        self.config.links.get(&link).copied().unwrap_or_default()
    }
}

/// Why a configuration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Node ids have 16 bits on this transport.
    #[error("node id {0} is too large for knet, the largest is 65535")]
    NodeIdTooLarge(NodeId),
    /// This node is in the list of the others.
    #[error("node {0} is this node itself")]
    OwnNode(NodeId),
    /// A link number that does not exist.
    #[error("link {0} does not exist, the last is 7")]
    Link(u8),
    /// A timer or count of 0.
    #[error("{name} of link {link} must not be 0")]
    Zero {
        /// The setting.
        name: &'static str,
        /// The link.
        link: u8,
    },
    /// An MTU that is too small.
    #[error("knet_mtu is {0}, it must be 0 or at least {FIXED_MTU_MIN}")]
    Mtu(u16),
    /// Discovery without a pause.
    #[error("knet_pmtud_interval must not be 0")]
    PmtudInterval,
}

fn wire_id(node: NodeId) -> Result<u16, ConfigError> {
    u16::try_from(node.get()).map_err(|_| ConfigError::NodeIdTooLarge(node))
}

fn check_link(link: u8) -> Result<(), ConfigError> {
    if link < LINKS_MAX { Ok(()) } else { Err(ConfigError::Link(link)) }
}

fn check_settings(link: u8, settings: &LinkSettings) -> Result<(), ConfigError> {
    let zeros = [
        ("knet_ping_interval", settings.ping_interval.is_zero()),
        ("knet_ping_timeout", settings.ping_timeout.is_zero()),
        ("knet_ping_precision", settings.ping_precision == 0),
        ("knet_pong_count", settings.pong_count == 0),
    ];
    match zeros.into_iter().find(|(_, is_zero)| *is_zero) {
        Some((name, _)) => Err(ConfigError::Zero { name, link }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn with_host(node: u32, link: u8) -> Config {
        let address = SocketAddr::from(([10, 0, 0, 9], 5405));
        Config { hosts: [(id(node), [(link, address)].into())].into(), ..Config::new(id(1)) }
    }

    #[test]
    fn default_timers_are_those_of_corosync() {
        let settings = LinkSettings::derive(Duration::from_millis(3650), 2);

        assert_eq!(settings.ping_timeout.as_millis(), 1825);
        assert_eq!(settings.ping_interval.as_millis(), 912);
    }

    #[test]
    fn a_configuration_that_does_not_hold_is_refused_by_name() {
        assert!(with_host(2, 7).check().is_ok());
        assert_eq!(with_host(65_536, 0).check(), Err(ConfigError::NodeIdTooLarge(id(65_536))));
        assert_eq!(Config::new(id(70_000)).check(), Err(ConfigError::NodeIdTooLarge(id(70_000))));
        assert_eq!(with_host(1, 0).check(), Err(ConfigError::OwnNode(id(1))));
        assert_eq!(with_host(2, 8).check(), Err(ConfigError::Link(8)));
        let mtu = Config { mtu: Some(575), ..with_host(2, 0) };
        assert_eq!(mtu.check(), Err(ConfigError::Mtu(575)));
        let settings = LinkSettings { ping_timeout: Duration::ZERO, ..LinkSettings::default() };
        let zero = Config { links: [(3, settings)].into(), ..with_host(2, 0) };
        assert_eq!(zero.check(), Err(ConfigError::Zero { name: "knet_ping_timeout", link: 3 }));
        let interval = Config { pmtud_interval: Duration::ZERO, ..with_host(2, 0) };
        assert_eq!(interval.check(), Err(ConfigError::PmtudInterval));
    }
}
