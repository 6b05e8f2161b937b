//! What the client is told about its arbiter: `quorum.device` of corosync.conf. Source: corosync-qdevice(8).

use std::time::Duration;

use quorate_types::NodeId;

/// By which rule the arbiter gives its vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `test`: as the arbiter's administrator says; for developers.
    Test,
    /// `ffsplit`: one vote, to the larger part; of two halves to the one with the better score.
    Ffsplit,
    /// `2nodelms`: as `lms`, for two nodes; for developers.
    TwoNodeLms,
    /// `lms`: as many votes as make a node quorate that is alone.
    Lms,
}

/// Which of two equal parts gets the vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TieBreaker {
    /// The one with the lowest node id.
    #[default]
    Lowest,
    /// The one with the highest node id.
    Highest,
    /// The one with this node.
    Node(NodeId),
}

/// Whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encryption {
    /// Never.
    Off,
    /// If the arbiter can.
    #[default]
    On,
    /// Always: an arbiter that cannot is not used.
    Required,
}

/// The configuration of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the cluster: for the arbiter all that comes under one name is one cluster.
    pub cluster: String,
    /// This node.
    pub me: NodeId,
    /// Name or address of the arbiter.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// See [`Encryption`].
    pub encryption: Encryption,
    /// See [`Algorithm`].
    pub algorithm: Algorithm,
    /// See [`TieBreaker`].
    pub tie_breaker: TieBreaker,
    /// Whether a tie goes to the part that was quorate before, ahead of the tie breaker.
    pub keep_active_partition: bool,
    /// The longest silence that the arbiter is told to expect. It takes a node for dead after one and a half
    /// times that.
    pub heartbeat: Duration,
    /// Time for a connection to be established and the arbiter to accept this node.
    pub connect_timeout: Duration,
    /// All nodes of the cluster.
    pub nodes: Vec<NodeId>,
    /// Version of the configuration that says so.
    pub config_version: u64,
}

impl Config {
    /// Whether a client needs a new connection to use this instead of the other configuration.
    #[must_use]
    pub fn needs_new_connection(&self, other: &Self) -> bool {
        let comparable = |config: &Self| Self { nodes: Vec::new(), config_version: 0, ..config.clone() };
        comparable(self) != comparable(other)
    }
}
