//! The `totem` section: the cluster's name, the version of the configuration, transport and timing.

use std::fmt;

use crate::{
    Protection, Reason, Tree, protection,
    read::{Mistakes, Scope},
};

/// Links that a transport can have.
pub(crate) const LINKS_MAX: u8 = 8;

/// How packets travel between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// kronosnet: up to eight links, with encryption. The default of corosync 3.
    #[default]
    Knet,
    /// One UDP datagram per receiver.
    Udpu,
    /// UDP multicast.
    Udp,
}

impl Transport {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Knet => "knet",
            Self::Udpu => "udpu",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `link_mode`: which of several links a packet takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkMode {
    /// The usable link with the highest priority.
    #[default]
    Passive,
    /// All usable links.
    Active,
    /// One usable link after the other.
    RoundRobin,
}

impl LinkMode {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passive => "passive",
            Self::Active => "active",
            Self::RoundRobin => "rr",
        }
    }
}

/// Which addresses of a host name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IpVersion {
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// IPv4 if there is one, else IPv6.
    Ipv4Then6,
    /// IPv6 if there is one, else IPv4: the default of corosync 3.
    #[default]
    Ipv6Then4,
}

/// The `totem` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totem {
    /// `cluster_name`: one word. Fixed for the life of the cluster. Longer and freer than what
    /// `pvecm create` takes for a new cluster, as old files and plain corosync have such names.
    pub cluster_name: String,
    /// `config_version`. Grows with every change.
    pub config_version: u64,
    /// `transport`, default knet.
    pub transport: Transport,
    /// `ip_version`, default `ipv6-4`.
    pub ip_version: IpVersion,
    /// How packets are protected: `secauth`, `crypto_cipher`, `crypto_hash`; by default not at all.
    pub protection: Protection,
    /// `keyfile`: path of the shared key, default `/etc/corosync/authkey`.
    pub keyfile: Option<String>,
    /// `link_mode`, or `rrp_mode` of older files; default passive.
    pub link_mode: LinkMode,
    /// `block_unlisted_ips`, default yes: packets from addresses of no node are dropped.
    pub block_unlisted_ips: bool,
    /// `knet_pmtud_interval` in seconds: time between two searches for the largest packet. Default 30.
    pub knet_pmtud_interval: Option<u32>,
    /// `knet_mtu` in bytes, of the packet with its IP header: no search. 0 (default) searches.
    pub knet_mtu: Option<u32>,
    /// Timers and limits of the ring.
    pub timing: Timing,
    /// `quorate_fast_detection`, default yes: the node agrees to faster timers in a ring of Quorate nodes. A key of our
    /// own; corosync reads over it.
    pub quorate_fast_detection: bool,
    /// The `interface` sections by link number.
    pub interfaces: Vec<Interface>,
}

impl Totem {
    /// Whether packets are authenticated: strangers can send none.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.protection.needs_key()
    }
}

/// An `interface` section: what is particular about one link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// `linknumber` or `ringnumber`, default 0.
    pub link: u8,
    /// `bindnetaddr`: address or network to bind to. Ignored with a nodelist, but kept by old files.
    pub bindnetaddr: Option<String>,
    /// `mcastaddr`: group of the udp transport, default derived from the cluster's name.
    pub mcastaddr: Option<String>,
    /// `mcastport`: UDP port, default 5405 plus the link's number.
    pub mcastport: Option<u16>,
    /// `ttl` of multicast packets, default 1.
    pub ttl: Option<u8>,
    /// `broadcast` in place of multicast.
    pub broadcast: Option<bool>,
    /// `knet_link_priority`: the highest is used first in passive mode.
    pub knet_link_priority: Option<u8>,
    /// `knet_ping_interval` in milliseconds.
    pub knet_ping_interval: Option<u32>,
    /// `knet_ping_timeout` in milliseconds.
    pub knet_ping_timeout: Option<u32>,
    /// `knet_ping_precision`: samples of the latency average.
    pub knet_ping_precision: Option<u32>,
    /// `knet_pong_count`: pongs until a link counts as up.
    pub knet_pong_count: Option<u32>,
}

macro_rules! timing {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Timers (milliseconds) and limits of the ring, as far as they are set. Their defaults and how they
        /// depend on each other is for the ring to say.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct Timing {
            $($(#[$doc])* pub $field: Option<u32>,)*
        }

        impl Timing {
            fn read(totem: &Scope<'_>, mistakes: &mut Mistakes) -> Self {
                Self { $($field: totem.u32(mistakes, stringify!($field)),)* }
            }
        }
    };
}

timing! {
    /// Base of the token timeout.
    token,
    /// Added to `token` for each node above two.
    token_coefficient,
    /// Percent of the token timeout after which a warning is logged.
    token_warning,
    /// Tries to send the token again before it counts as lost.
    token_retransmits_before_loss_const,
    /// Time until the token is sent again.
    token_retransmit,
    /// How long the representative keeps the token of an idle ring.
    hold,
    /// Time between two join messages.
    join,
    /// Most random delay before a join message.
    send_join,
    /// Time to agree on a membership.
    consensus,
    /// Time between two merge detect messages of an idle ring.
    merge,
    /// Time between two looks at a network interface that is down.
    downcheck,
    /// Token rotations without progress until a node counts as unable to receive.
    fail_recv_const,
    /// Token rotations without traffic until the token is held.
    seqno_unchanged_const,
    /// Heartbeats that may be missed; 0 is off.
    heartbeat_failures_allowed,
    /// Most delay of the network, for heartbeats.
    max_network_delay,
    /// Messages of all nodes in one rotation.
    window_size,
    /// Messages of one node in one rotation.
    max_messages,
    /// Visits of the token a message may be missing for.
    miss_count_const,
    /// Bytes of the largest packet.
    netmtu,
}

pub(crate) fn read(tree: &Tree, mistakes: &mut Mistakes) -> Option<Totem> {
    let totem = Scope::all(tree, "totem");
    if !totem.is_there() {
        mistakes.add(0, "totem", Reason::Missing);
        return None;
    }
    for key in ["cluster_name", "config_version"] {
        totem.require(mistakes, key);
    }
    totem.number::<u8>(mistakes, "version", (2, 2));
    let keyfile = totem.text("keyfile").map(str::to_owned);
    // Everything is read before the first `?`, so that all mistakes are found.
    let cluster_name = read_cluster_name(&totem, mistakes);
    let config_version = totem.number(mistakes, "config_version", (0, u64::MAX));
    let transport = read_transport(&totem, mistakes);
    let ip_version = read_ip_version(&totem, mistakes);
    let protection = protection::read(&totem, transport, mistakes);
    let link_mode = read_link_mode(&totem, mistakes);
    let block_unlisted_ips = totem.word_switch(mistakes, "block_unlisted_ips").unwrap_or(true);
    let knet_pmtud_interval = totem.u32(mistakes, "knet_pmtud_interval");
    let knet_mtu = totem.number(mistakes, "knet_mtu", (0, u16::MAX.into()));
    let timing = Timing::read(&totem, mistakes);
    let quorate_fast_detection = totem.word_switch(mistakes, "quorate_fast_detection").unwrap_or(true);
    let interfaces = read_interfaces(tree, mistakes);
    Some(Totem {
        cluster_name: cluster_name?,
        config_version: config_version?,
        transport,
        ip_version,
        protection,
        keyfile,
        link_mode,
        block_unlisted_ips,
        knet_pmtud_interval,
        knet_mtu,
        timing,
        quorate_fast_detection,
        interfaces,
    })
}

fn read_cluster_name(totem: &Scope<'_>, mistakes: &mut Mistakes) -> Option<String> {
    const KEY: &str = "cluster_name";
    let value = totem.text(KEY)?.to_owned();
    if value.bytes().all(|b| b.is_ascii_graphic()) {
        return Some(value);
    }
    mistakes.add(totem.line_of(KEY), totem.path(KEY), Reason::ClusterName { value });
    None
}

fn read_transport(totem: &Scope<'_>, mistakes: &mut Mistakes) -> Transport {
    let words = [Transport::Knet, Transport::Udpu, Transport::Udp].map(|it| (it.as_str(), it));
    totem.word(mistakes, "transport", "knet, udpu, udp", &words).unwrap_or_default()
}

/// `rrp_mode` is what files before corosync 3 say; its modes are those of two links.
fn read_link_mode(totem: &Scope<'_>, mistakes: &mut Mistakes) -> LinkMode {
    let words = [("passive", LinkMode::Passive), ("active", LinkMode::Active), ("rr", LinkMode::RoundRobin)];
    let older = [("none", LinkMode::Passive), ("passive", LinkMode::Passive), ("active", LinkMode::Active)];
    let mode = totem.word(mistakes, "link_mode", "passive, active, rr", &words);
    let older = totem.word(mistakes, "rrp_mode", "none, passive, active", &older);
    mode.or(older).unwrap_or_default()
}

fn read_ip_version(totem: &Scope<'_>, mistakes: &mut Mistakes) -> IpVersion {
    let words = [
        ("ipv4", IpVersion::Ipv4),
        ("ipv6", IpVersion::Ipv6),
        ("ipv4-6", IpVersion::Ipv4Then6),
        ("ipv6-4", IpVersion::Ipv6Then4),
    ];
    totem.word(mistakes, "ip_version", "ipv4, ipv6, ipv4-6, ipv6-4", &words).unwrap_or_default()
}

fn read_interfaces(tree: &Tree, mistakes: &mut Mistakes) -> Vec<Interface> {
    let mut interfaces: Vec<(Interface, u32)> = Vec::new();
    for scope in Scope::each(tree, "totem.interface") {
        let interface = read_interface(&scope, mistakes);
        match interfaces.iter().find(|(earlier, _)| earlier.link == interface.link) {
            Some((_, first_line)) => {
                let duplicate =
                    Reason::Duplicate { value: interface.link.to_string(), first_line: *first_line };
                mistakes.add(scope.line(), scope.path("linknumber"), duplicate);
            }
            None => interfaces.push((interface, scope.line())),
        }
    }
    interfaces.sort_by_key(|(interface, _)| interface.link);
    interfaces.into_iter().map(|(interface, _)| interface).collect()
}

fn read_interface(scope: &Scope<'_>, mistakes: &mut Mistakes) -> Interface {
    let owned = |key| scope.text(key).map(str::to_owned);
    let links = (0, u64::from(LINKS_MAX) - 1);
    let link = scope.number(mistakes, "linknumber", links);
    let ring = scope.number(mistakes, "ringnumber", links);
    Interface {
        link: link.or(ring).unwrap_or(0),
        bindnetaddr: owned("bindnetaddr"),
        mcastaddr: owned("mcastaddr"),
        mcastport: scope.number(mistakes, "mcastport", (1, u16::MAX.into())),
        ttl: scope.number(mistakes, "ttl", (0, u8::MAX.into())),
        broadcast: scope.word_switch(mistakes, "broadcast"),
        knet_link_priority: scope.number(mistakes, "knet_link_priority", (0, u8::MAX.into())),
        knet_ping_interval: scope.u32(mistakes, "knet_ping_interval"),
        knet_ping_timeout: scope.u32(mistakes, "knet_ping_timeout"),
        knet_ping_precision: scope.u32(mistakes, "knet_ping_precision"),
        knet_pong_count: scope.u32(mistakes, "knet_pong_count"),
    }
}
