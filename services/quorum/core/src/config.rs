//! What the engine is told about its cluster. It is not negotiated: nodes with different options come to
//! different conclusions.

use std::time::Duration;

use quorate_types::NodeId;

/// Which half of an even split stays quorate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TieBreaker {
    /// The half with the lowest node id.
    Lowest,
    /// The half with the highest node id.
    Highest,
    /// The half with the first of these nodes; a later one counts only if those before it were not there.
    List(Vec<NodeId>),
}

/// The options of votequorum, checked and complete.
///
/// All of them may change at run time. Differs: corosync changes votes, expected votes and `two_node` with
/// what it implies, and wants a restart for the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumConfig {
    /// This node's votes. May be 0: the node is a member but does not count.
    pub votes: u32,
    /// Votes of the whole cluster.
    pub expected_votes: u32,
    /// How many nodes the nodelist has.
    pub nodes: usize,
    /// One vote of two is a quorum. Ignored with more than two nodes.
    pub two_node: bool,
    /// Quorate for the first time only after all nodes were seen at once. Already decided: `two_node`
    /// implies it unless it is set explicitly.
    pub wait_for_all: bool,
    /// Expected votes go down to the votes present, a window after nodes were lost.
    pub last_man_standing: bool,
    /// That window, 10 s by default.
    pub last_man_standing_window: Duration,
    /// Half of the votes may be enough.
    pub auto_tie_breaker: Option<TieBreaker>,
    /// A clean leave lowers expected votes, down to `expected_votes`.
    pub allow_downscale: bool,
    /// The highest expected votes are stored and count after a restart.
    pub expected_votes_tracking: bool,
    /// The quorum device. Not to be combined with `two_node`, `last_man_standing`, `auto_tie_breaker` and
    /// `allow_downscale`.
    pub device: Option<DeviceConfig>,
}

/// An arbiter outside of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Its votes. They are among the expected votes.
    pub votes: u32,
}

impl QuorumConfig {
    /// Default of `last_man_standing_window`. Source: votequorum(5).
    pub const LAST_MAN_STANDING_WINDOW: Duration = Duration::from_secs(10);

    /// Plain majority, without any option.
    #[must_use]
    pub const fn majority(votes: u32, expected_votes: u32, nodes: usize) -> Self {
        Self {
            votes,
            expected_votes,
            nodes,
            two_node: false,
            wait_for_all: false,
            last_man_standing: false,
            last_man_standing_window: Self::LAST_MAN_STANDING_WINDOW,
            auto_tie_breaker: None,
            allow_downscale: false,
            expected_votes_tracking: false,
            device: None,
        }
    }

    /// `two_node` as far as it applies.
    pub(crate) const fn is_two_node(&self) -> bool {
        self.two_node && self.nodes <= 2
    }
}
