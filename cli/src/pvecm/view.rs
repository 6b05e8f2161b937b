//! What `status` and `nodes` show, made from the daemons' answers.
//!
//! The structs here are the documents of `-o json`. Fields are only added, never renamed or removed. Times are
//! RFC 3339 in UTC, durations are in milliseconds; both are `null` when unknown.

use quorate_proto::{
    gateway::v1::GetClusterRequest,
    membership::v1::{GetStatusResponse as Ring, RingState},
    quorum::v1::{
        GetStatusRequest, QuorumDevice, QuorumNode, QuorumStatus, quorum_device::Vote, quorum_node::State,
    },
};
use serde::Serialize;

use crate::{
    client::Client,
    error::Error,
    time::{milliseconds, timestamp},
};

/// A node that is in the present ring.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Member {
    pub(super) node_id: u32,
    /// Name in corosync.conf; empty if it is not configured.
    pub(super) name: String,
    /// First address in corosync.conf; empty if it is not configured.
    pub(super) address: String,
    pub(super) votes: u32,
    /// Whether it is this node.
    pub(super) local: bool,
    /// When it joined.
    pub(super) since: Option<String>,
    /// Its quorum device, such as `A,V,NMW`; absent while no member has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) qdevice: String,
}

/// The quorum device as this node sees it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DeviceBlock {
    /// Name or address of the arbiter.
    pub(super) host: String,
    pub(super) port: u32,
    /// ffsplit, lms, ...
    pub(super) algorithm: String,
    pub(super) votes: u32,
    /// `granted`, `refused`, `undecided` or `unreachable`.
    pub(super) vote: &'static str,
    /// Whether the connection is encrypted.
    pub(super) encrypted: bool,
    /// Why there is no connection; empty if there is one.
    pub(super) error: String,
}

impl DeviceBlock {
    pub(super) fn new(device: &QuorumDevice) -> Self {
        Self {
            host: device.host.clone(),
            port: device.port,
            algorithm: device.algorithm.clone(),
            votes: device.votes,
            vote: match device.vote() {
                Vote::Granted => "granted",
                Vote::Refused => "refused",
                Vote::Undecided => "undecided",
                Vote::Unreachable | Vote::Unspecified => "unreachable",
            },
            encrypted: device.encrypted,
            error: device.error.clone(),
        }
    }

    /// `pvecm qdevice status`.
    pub(super) fn text(&self) -> String {
        let encrypted = if self.encrypted { ", encrypted" } else { "" };
        let mut text = format!(
            "Arbiter:          {} port {}\nAlgorithm:        {}\nVotes:            {}\nVote:             {}{encrypted}\n",
            self.host, self.port, self.algorithm, self.votes, self.vote
        );
        if !self.error.is_empty() {
            text.push_str(&format!("Error:            {}\n", self.error));
        }
        text
    }

    /// The device's line in a table of members, without the node id. Source: corosync-quorumtool.
    pub(super) fn line(&self) -> String {
        let name = if self.vote == "granted" {
            "Qdevice".to_owned()
        } else {
            format!("Qdevice (votes {})", self.votes)
        };
        let votes = if self.vote == "granted" { self.votes } else { 0 };
        format!("{votes:>10} {:>10} {name}\n", "")
    }
}

/// A node that is configured, or was seen, and is not in the present ring.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Missing {
    pub(super) node_id: u32,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) votes: u32,
    /// `dead`, `leaving`, or `unseen` since the local daemon started.
    pub(super) state: &'static str,
    /// When it was lost.
    pub(super) since: Option<String>,
}

/// The block "Cluster information".
#[derive(Debug, Clone, Serialize)]
pub(super) struct ClusterBlock {
    pub(super) name: String,
    pub(super) config_version: u64,
    /// knet, udpu or udp.
    pub(super) transport: String,
    /// Whether packets are authenticated and encrypted.
    pub(super) secure_auth: bool,
}

/// The state of the ring: only in JSON.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RingBlock {
    /// operational, gather, commit, recovery or down.
    pub(super) state: &'static str,
    /// Whether the synchronisation after the last configuration is complete.
    pub(super) synchronised: bool,
    /// When the present configuration was installed.
    pub(super) installed: Option<String>,
    pub(super) token_timeout_ms: Option<u64>,
    /// Longest time from the silent death of a member to the next regular configuration, in a quiet network.
    pub(super) detection_worst_case_ms: Option<u64>,
    /// The lowest feature level of any member; 0 with a corosync node in the ring.
    pub(super) feature_level: u32,
    /// Whether the ring runs with the fast timers.
    pub(super) fast_detection: bool,
}

impl ClusterBlock {
    pub(super) fn new(ring: &Ring) -> Self {
        Self {
            name: ring.cluster_name.clone(),
            config_version: ring.config_version,
            transport: ring.transport.clone(),
            secure_auth: ring.secure,
        }
    }
}

impl RingBlock {
    pub(super) fn new(ring: &Ring) -> Self {
        Self {
            state: match ring.state() {
                RingState::Operational => "operational",
                RingState::Gather => "gather",
                RingState::Commit => "commit",
                RingState::Recovery => "recovery",
                RingState::Down | RingState::Unspecified => "down",
            },
            synchronised: ring.synchronised,
            installed: rfc3339(ring.installed.as_ref()),
            token_timeout_ms: milliseconds(ring.token_timeout.as_ref()),
            detection_worst_case_ms: milliseconds(ring.detection_worst_case.as_ref()),
            feature_level: ring.feature_level,
            fast_detection: ring.fast_detection,
        }
    }
}

/// A time from a daemon for JSON.
pub(super) fn rfc3339(time: Option<&prost_types::Timestamp>) -> Option<String> {
    timestamp(time).map(|time| time.to_string())
}

/// Asks quorumd for the votes.
///
/// # Errors
/// What the call says; for a node that does not vote, why not.
pub(super) async fn quorum_status(client: &Client) -> Result<QuorumStatus, Error> {
    let request = client.request(GetStatusRequest {});
    let answer = client.quorum().get_status(request).await.map_err(client.failure())?;
    let status = answer.into_inner().status.ok_or(Error::Incomplete("the answer"))?;
    if status.node_id == 0 { Err(no_ring(client, status.reason).await) } else { Ok(status) }
}

/// Why this node has no ring: because it is in no cluster, or for this reason.
pub(super) async fn no_ring(client: &Client, reason: String) -> Error {
    match client.cluster().get_cluster(client.request(GetClusterRequest {})).await {
        Ok(cluster) if cluster.get_ref().cluster_name.is_empty() => Error::NotClustered,
        Ok(_) => Error::NoRing { reason },
        Err(status) => client.failure()(status),
    }
}

/// The nodes that are in the present ring, by id.
pub(super) fn members(votes: &QuorumStatus) -> Vec<Member> {
    let is_member = |node: &&QuorumNode| node.state() == State::Member;
    let member = |node: &QuorumNode| Member {
        node_id: node.node_id,
        name: node.name.clone(),
        address: node.address.clone(),
        votes: node.votes,
        local: node.node_id == votes.node_id,
        since: rfc3339(node.since.as_ref()),
        qdevice: node.device.clone(),
    };
    votes.nodes.iter().filter(is_member).map(member).collect()
}

/// The nodes that are not, by id.
pub(super) fn missing(votes: &QuorumStatus) -> Vec<Missing> {
    let is_missing = |node: &&QuorumNode| node.state() != State::Member;
    let missing = |node: &QuorumNode| Missing {
        node_id: node.node_id,
        name: node.name.clone(),
        address: node.address.clone(),
        votes: node.votes,
        state: match node.state() {
            State::Dead => "dead",
            State::Leaving => "leaving",
            State::Unseen | State::Unspecified | State::Member => "unseen",
        },
        since: rfc3339(node.since.as_ref()),
    };
    votes.nodes.iter().filter(is_missing).map(missing).collect()
}

/// Answers as daemons give them, for the tests of layouts.
#[cfg(test)]
pub(super) mod samples {
    use quorate_proto::types::v1::RingId;

    use super::*;

    /// 2026-03-07 09:00:00 UTC, and a number of seconds.
    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds: 1_772_874_000 + seconds, nanos: 0 })
    }

    fn node(id: u32, state: State) -> QuorumNode {
        QuorumNode {
            node_id: id,
            name: format!("hp{id}"),
            address: format!("10.10.10.{id}"),
            votes: 1,
            state: state.into(),
            since: if state == State::Unseen { None } else { at(i64::from(id)) },
            ..QuorumNode::default()
        }
    }

    /// The ring of the four nodes.
    pub(crate) fn ring() -> Ring {
        Ring {
            cluster_name: "lab-a".into(),
            config_version: 4,
            transport: "knet".into(),
            secure: true,
            node_id: 1,
            node_name: "hp1".into(),
            state: RingState::Operational.into(),
            ring: Some(RingId { rep: 1, seq: 0x2f4 }),
            members: vec![1, 2, 3, 4],
            synchronised: true,
            installed: at(4),
            token_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            detection_worst_case: Some(prost_types::Duration { seconds: 1, nanos: 650_000_000 }),
            ..Ring::default()
        }
    }

    /// Four nodes, all present, seen from node 1.
    pub(crate) fn four_nodes() -> QuorumStatus {
        QuorumStatus {
            quorate: true,
            ring: Some(RingId { rep: 1, seq: 0x2f4 }),
            expected_votes: 4,
            highest_expected: 4,
            total_votes: 4,
            quorum: 3,
            flags: vec!["Quorate".into()],
            nodes: (1..=4).map(|id| node(id, State::Member)).collect(),
            ring_present: true,
            since: at(3),
            node_id: 1,
            reason: String::new(),
            expected_override: None,
            device: None,
        }
    }

    /// Two nodes and an arbiter that votes for them, seen from node 1.
    pub(crate) fn two_and_arbiter() -> QuorumStatus {
        let member = |id| QuorumNode { device: "A,V,NMW".into(), ..node(id, State::Member) };
        let device = QuorumDevice {
            host: "10.30.30.9".into(),
            port: 5403,
            algorithm: "ffsplit".into(),
            votes: 1,
            vote: Vote::Granted.into(),
            encrypted: true,
            error: String::new(),
        };
        QuorumStatus {
            expected_votes: 3,
            highest_expected: 3,
            total_votes: 3,
            quorum: 2,
            flags: vec!["Quorate".into(), "Qdevice".into()],
            nodes: vec![member(1), member(2)],
            device: Some(device),
            ..four_nodes()
        }
    }

    /// One of four nodes, seen from itself, node 3.
    pub(crate) fn one_of_four() -> QuorumStatus {
        let states = [State::Dead, State::Leaving, State::Member, State::Unseen];
        QuorumStatus {
            quorate: false,
            ring: Some(RingId { rep: 3, seq: 0x2f8 }),
            total_votes: 1,
            flags: Vec::new(),
            nodes: (1..).zip(states).map(|(id, state)| node(id, state)).collect(),
            since: at(60),
            node_id: 3,
            reason: "1 of 4 votes present, 3 needed".into(),
            ..four_nodes()
        }
    }
}
