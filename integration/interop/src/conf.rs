//! The corosync.conf that all nodes of a ring read.

use crate::namespace::{Family, LINKS, address};

/// Timers of the ring, in milliseconds, as in corosync.conf(5).
#[derive(Debug, Clone, Copy)]
pub struct Timers {
    /// `token`, with `token_coefficient: 0`.
    pub token: u32,
    /// `token_retransmits_before_loss_const`.
    pub retransmits: u32,
}

impl Timers {
    /// Short, so that a test that waits for a token loss is short, too.
    pub const SHORT: Self = Self { token: 1000, retransmits: 4 };
    /// With many retransmissions of the token, for networks that lose packets.
    pub const LOSSY: Self = Self { token: 2000, retransmits: 20 };
    /// Long enough that a busy machine loses no token.
    pub const PATIENT: Self = Self { token: 3000, retransmits: 4 };
}

/// How the nodes' packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// One datagram per node.
    Udpu,
    /// Multicast.
    Udp,
    /// knet with aes256 and sha256, as `pvecm create` writes it.
    Knet,
    /// knet without protection.
    KnetPlain,
    /// knet with aes256 and sha256 over two links, one at a time.
    KnetTwoLinks,
    /// The same, both links at once.
    KnetActive,
    /// As `Udpu`, with IPv6 addresses.
    UdpuV6,
    /// As `Udp`, with IPv6 addresses.
    UdpV6,
    /// As `KnetTwoLinks`, with IPv6 addresses on both.
    KnetV6,
}

impl Wire {
    fn lines(self) -> &'static str {
        match self {
            Self::Udpu | Self::UdpuV6 => "  transport: udpu\n",
            Self::Udp => "  transport: udp\n",
            // corosync takes no IPv6 address over udp without being told to.
            Self::UdpV6 => "  transport: udp\n  ip_version: ipv6\n",
            Self::KnetPlain => "  transport: knet\n  crypto_cipher: none\n  crypto_hash: none\n",
            Self::Knet | Self::KnetTwoLinks | Self::KnetV6 => {
                "  transport: knet\n  secauth: on\n  link_mode: passive\n"
            }
            Self::KnetActive => "  transport: knet\n  secauth: on\n  link_mode: active\n",
        }
    }

    fn links(self) -> u32 {
        match self {
            Self::KnetTwoLinks | Self::KnetActive | Self::KnetV6 => LINKS,
            Self::Udpu | Self::UdpuV6 | Self::Udp | Self::UdpV6 | Self::Knet | Self::KnetPlain => 1,
        }
    }

    fn family(self) -> Family {
        match self {
            Self::UdpuV6 | Self::UdpV6 | Self::KnetV6 => Family::V6,
            Self::Udpu | Self::Udp | Self::Knet | Self::KnetPlain | Self::KnetTwoLinks | Self::KnetActive => {
                Family::V4
            }
        }
    }
}

/// What a ring is set up with.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Timers.
    pub timers: Timers,
    /// How packets travel.
    pub wire: Wire,
}

/// udpu, where the wire makes no difference to a test.
impl From<Timers> for Setup {
    fn from(timers: Timers) -> Self {
        timers.over(Wire::Udpu)
    }
}

impl Timers {
    /// With packets that travel this way.
    #[must_use]
    pub fn over(self, wire: Wire) -> Setup {
        Setup { timers: self, wire }
    }
}

/// Nodes that may send their joins all at once.
const JOINS_AT_ONCE_MAX: u32 = 8;

/// A file for nodes 1 to `nodes`, with one vote each.
pub(crate) fn corosync_conf(nodes: u32, setup: Setup) -> String {
    let Timers { token, retransmits } = setup.timers;
    let wire = setup.wire.lines();
    let node = |id| {
        let addresses: String = (0..setup.wire.links())
            .map(|link| format!("    ring{link}_addr: {}\n", address(setup.wire.family(), link, id)))
            .collect();
        format!("  node {{\n    name: node{id}\n    nodeid: {id}\n    quorum_votes: 1\n{addresses}  }}\n")
    };
    let list: String = (1..=nodes).map(node).collect();
    // Otherwise the joins of many nodes at once take a consensus timeout: docs/protocols/scale.md.
    let spread = if nodes > JOINS_AT_ONCE_MAX { "  send_join: 80\n" } else { "" };
    format!(
        "totem {{
  version: 2
  cluster_name: interop
  config_version: 1
{wire}{spread}  token: {token}
  token_coefficient: 0
  token_retransmits_before_loss_const: {retransmits}
}}
nodelist {{
{list}}}
quorum {{
  provider: corosync_votequorum
}}
system {{
  sched_rr: no
}}
logging {{
  to_syslog: no
  to_stderr: yes
  timestamp: hires
}}
"
    )
}
