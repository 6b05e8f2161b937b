//! What `pvecm status` has to say beyond the original's layout: on standard error, so that parsers of the text see what they know.

use quorate_proto::{
    gateway::v1::{ListRemovedNodesRequest, RemovedNode},
    membership::v1::GetStatusResponse as Ring,
    quorum::v1::QuorumStatus,
};
use serde::Serialize;

use crate::{
    client::Client,
    time::{local, timestamp},
};

/// That an operator's override of the expected votes is in force.
pub(super) fn of_override(votes: &QuorumStatus) -> Option<String> {
    let overridden = votes.expected_override.as_ref()?;
    let until = match timestamp(overridden.expires.as_ref()) {
        Some(end) => format!("until {}", local(end)),
        None => "until a restart or a change of the configuration".to_owned(),
    };
    Some(format!("the expected votes are overridden to {} {until}", overridden.expected_votes))
}

/// A node that was removed and still sends, as `pvecm status -o json` shows it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Transmitting {
    name: String,
    addresses: Vec<String>,
    /// Packets that were dropped.
    packets: u64,
}

impl Transmitting {
    /// The node for people.
    pub(super) fn text(&self) -> String {
        format!(
            "removed node transmitting: '{}' ({}) runs with its old configuration, {} of its packets were dropped; switch it off, or \
             remove its etc/corosync",
            self.name,
            self.addresses.join(", "),
            self.packets
        )
    }
}

/// The removed nodes that send to this node. Where that cannot be found out, none is told: status answers without it.
pub(super) async fn transmitting(client: &Client, ring: &Ring) -> Vec<Transmitting> {
    if ring.strangers.is_empty() {
        return Vec::new();
    }
    let answer = client.cluster().list_removed_nodes(client.request(ListRemovedNodesRequest {})).await;
    let nodes = answer.map(|answer| answer.into_inner().nodes).unwrap_or_default();
    let told = |node: RemovedNode| Transmitting {
        name: node.name,
        addresses: node.link_addresses,
        packets: node.packets,
    };
    nodes.into_iter().filter(|node| node.transmitting).map(told).collect()
}

#[cfg(test)]
mod tests {
    use quorate_proto::quorum::v1::ExpectedOverride;

    use super::*;

    #[test]
    fn an_override_is_told_with_its_end() {
        let expires = Some(prost_types::Timestamp { seconds: 1_772_874_000, nanos: 0 });
        let overridden = |expires| QuorumStatus {
            expected_override: Some(ExpectedOverride { expected_votes: 1, since: None, expires }),
            ..QuorumStatus::default()
        };
        assert!(of_override(&overridden(expires)).unwrap().contains("overridden to 1 until 2026-03-07"));
        assert!(of_override(&overridden(None)).unwrap().contains("until a restart"));
        assert_eq!(of_override(&QuorumStatus::default()), None);
    }
}
