//! The numbers that dashboards show and alerts watch.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use quorate_proto::quorum::v1::{QuorumStatus, quorum_node::State};

/// Metrics of quorumd, prefix `quorum_`.
#[derive(Debug, Default)]
pub(crate) struct QuorumMetrics {
    quorate: Gauge,
    ring_present: Gauge,
    votes_total: Gauge,
    votes_expected: Gauge,
    votes_needed: Gauge,
    members: Gauge,
    changes: Counter,
    attachments: Counter,
}

impl QuorumMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("quorum");
        for (name, help, gauge) in [
            (
                "quorate",
                "1 if this node may act; 0 for long means that too few nodes are there",
                &metrics.quorate,
            ),
            ("ring_present", "1 if the ring is there and synchronised", &metrics.ring_present),
            ("votes_total", "Votes of the members of the ring", &metrics.votes_total),
            ("votes_expected", "Highest expected votes of a member", &metrics.votes_expected),
            (
                "votes_needed",
                "Votes needed to be quorate; equal to votes_total: one loss is too many",
                &metrics.votes_needed,
            ),
            ("members", "Nodes in the ring that have announced their votes", &metrics.members),
        ] {
            registry.register(name, help, gauge.clone());
        }
        let changes = "Times that quorum was gained or lost; many mean an unstable network";
        registry.register("changes", changes, metrics.changes.clone());
        let attachments =
            "Times that the link to membershipd was established; many mean that it restarts often";
        registry.register("attachments", attachments, metrics.attachments.clone());
        metrics
    }

    /// The link to membershipd stands.
    pub(crate) fn attached(&self) {
        self.attachments.inc();
    }

    /// Copies a state that is published.
    pub(crate) fn copy(&self, before: &QuorumStatus, status: &QuorumStatus) {
        let is_member = |state: i32| state == i32::from(State::Member);
        let members = status.nodes.iter().filter(|node| is_member(node.state)).count();
        self.quorate.set(status.quorate.into());
        self.ring_present.set(status.ring_present.into());
        self.votes_total.set(status.total_votes.into());
        self.votes_expected.set(status.highest_expected.into());
        self.votes_needed.set(status.quorum.into());
        self.members.set(members.try_into().unwrap_or(i64::MAX));
        if before.quorate != status.quorate {
            self.changes.inc();
        }
    }
}
