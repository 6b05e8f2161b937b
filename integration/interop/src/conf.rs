//! The corosync.conf that all nodes of a ring read.

use crate::namespace::{LINKS, address};

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
}

impl Wire {
    fn lines(self) -> &'static str {
        match self {
            Self::Udpu => "  transport: udpu\n",
            Self::Udp => "  transport: udp\n",
            Self::KnetPlain => "  transport: knet\n  crypto_cipher: none\n  crypto_hash: none\n",
            Self::Knet | Self::KnetTwoLinks => "  transport: knet\n  secauth: on\n  link_mode: passive\n",
            Self::KnetActive => "  transport: knet\n  secauth: on\n  link_mode: active\n",
        }
    }

    fn links(self) -> u32 {
        match self {
            Self::KnetTwoLinks | Self::KnetActive => LINKS,
            Self::Udpu | Self::Udp | Self::Knet | Self::KnetPlain => 1,
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

/// A file for nodes 1 to `nodes`, with one vote each.
pub(crate) fn corosync_conf(nodes: u32, setup: Setup) -> String {
    let Timers { token, retransmits } = setup.timers;
    let wire = setup.wire.lines();
    let node = |id| {
        let addresses: String = (0..setup.wire.links())
            .map(|link| format!("    ring{link}_addr: {}\n", address(link, id)))
            .collect();
        format!("  node {{\n    name: node{id}\n    nodeid: {id}\n    quorum_votes: 1\n{addresses}  }}\n")
    };
    let list: String = (1..=nodes).map(node).collect();
    format!(
        "totem {{
  version: 2
  cluster_name: interop
  config_version: 1
{wire}  token: {token}
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
