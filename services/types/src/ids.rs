//! Numbers that identify nodes and rings on the wire.

use std::fmt;

/// Identifies a node of the cluster for its lifetime: corosync's `nodeid`, never 0.
///
/// Ring order, the representative and every tie break compare node ids as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

/// A node id of 0: reserved (it marks a leave message and the quorum device).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("node id 0 is reserved; node ids start at 1")]
pub struct NodeIdError;

impl NodeId {
    /// Checks and wraps a number.
    ///
    /// # Errors
    /// [`NodeIdError`] for 0.
    pub const fn new(id: u32) -> Result<Self, NodeIdError> {
        if id == 0 { Err(NodeIdError) } else { Ok(Self(id)) }
    }

    /// The number, as it travels on the wire.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for NodeId {
    type Error = NodeIdError;

    fn try_from(id: u32) -> Result<Self, NodeIdError> {
        Self::new(id)
    }
}

impl From<NodeId> for u32 {
    fn from(id: NodeId) -> u32 {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies one configuration of the ring: its representative and a sequence that grows with
/// every configuration that any of its members has seen.
///
/// Ordered by `seq` first, so that "later ring" is `>`. Source: corosync `memb_ring_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RingId {
    /// Node id of the representative, the member with the lowest id. 0 only before the first ring.
    pub rep: u32,
    /// Grows by 4 with every configuration; unique per representative, also across restarts.
    pub seq: u64,
}

impl RingId {
    /// The ring with this representative and sequence.
    #[must_use]
    pub const fn new(rep: NodeId, seq: u64) -> Self {
        Self { rep: rep.0, seq }
    }
}

impl PartialOrd for RingId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RingId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.seq, self.rep).cmp(&(other.seq, other.rep))
    }
}

/// As `corosync-quorumtool` prints it: representative in hex, a dot, sequence in hex.
impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.rep, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_id_zero_is_refused() {
        assert_eq!(NodeId::new(0), Err(NodeIdError));
        assert_eq!(NodeId::new(7).map(NodeId::get), Ok(7));
    }

    #[test]
    fn a_later_ring_is_greater_whoever_represents_it() {
        let earlier = RingId { rep: 3, seq: 4 };
        let later = RingId { rep: 1, seq: 8 };
        assert!(earlier < later);
    }

    #[test]
    fn ring_id_prints_as_corosync_does() {
        assert_eq!(RingId { rep: 1, seq: 0x2f4 }.to_string(), "1.2f4");
    }
}
