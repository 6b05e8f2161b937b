//! What the stack looks like now, for status pages and metrics.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::NodeId;

use crate::{cpg::CpgStats, feature::Agreed, pg::AssemblerStats, srp::RingStatus, sync::SyncStats};

/// What the stack looks like now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackStatus {
    /// This node.
    pub me: NodeId,
    /// The configured nodes.
    pub configured: BTreeSet<NodeId>,
    /// The ring below.
    pub ring: RingStatus,
    /// The synchronisation at work; `None` when there is none.
    pub sync: Option<SyncProgress>,
    /// The members are synchronised and ordinary messages flow.
    pub synchronised: bool,
    /// `totem.config_version` of each member that announced one.
    pub config_versions: BTreeMap<NodeId, Option<u64>>,
    /// What all members have agreed to beyond corosync; nothing until they are synchronised.
    pub features: Agreed,
    /// The feature level of each member that announced one.
    pub feature_levels: BTreeMap<NodeId, u32>,
    /// Services attached from other processes.
    pub attached_services: BTreeSet<u16>,
    /// Local clients of process groups.
    pub clients: usize,
    /// Bytes that wait to be sent, in the packers and in the ring's queue (its packets count full).
    pub backlog_bytes: usize,
}

/// How far a synchronisation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncProgress {
    /// The service at work; `None` while the lists of services are collected.
    pub service: Option<i32>,
    /// Members whose part is missing, ascending.
    pub missing: Vec<NodeId>,
}

/// Counters of the layers above the ring.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct StackStats {
    /// Reassembly of messages.
    pub assembler: AssemblerStats,
    /// Synchronisation.
    pub sync: SyncStats,
    /// Process groups.
    pub cpg: CpgStats,
    /// Synchronisation steps that a silent local service delayed to the limit.
    pub external_timeouts: u64,
    /// Messages of groups or services unknown here: normal in mixed clusters.
    pub unknown: u64,
    /// Announcements of features for another ring, or of a stranger.
    pub features_out_of_place: u64,
    /// Messages whose header or layout did not hold.
    pub malformed: u64,
    /// Requests of clients that were refused.
    pub refused: u64,
    /// Messages of local services dropped because the send queue was full.
    pub service_dropped: u64,
}
