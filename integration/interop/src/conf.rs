//! The corosync.conf that all nodes of a ring read.

use crate::namespace::address;

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

/// A file for nodes 1 to `nodes`, with one vote each.
pub(crate) fn corosync_conf(nodes: u32, timers: Timers) -> String {
    let Timers { token, retransmits } = timers;
    let node = |id| {
        let address = address(id);
        format!(
            "  node {{\n    name: node{id}\n    nodeid: {id}\n    quorum_votes: 1\n    ring0_addr: {address}\n  }}\n"
        )
    };
    let list: String = (1..=nodes).map(node).collect();
    format!(
        "totem {{
  version: 2
  cluster_name: interop
  config_version: 1
  transport: udpu
  token: {token}
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
