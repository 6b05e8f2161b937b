//! Nodes that were removed and still send: they run with their old configuration. The ring drops their packets; operators
//! should know, and switch them off.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
};
use quorate_daemon::Metrics;
use quorate_proto::{gateway::v1::RemovedNode, membership::v1::Stranger};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    ThisNode, ready,
    remove::record::{self, Removed},
};

/// A node that was not heard for as long does not send any more: it pings much more often.
const SILENCE: Duration = Duration::from_secs(30);
/// How often is looked.
const EVERY: Duration = Duration::from_secs(10);

/// The nodes that were removed, as far as the tree keeps what was of them.
///
/// # Errors
/// What configd says.
pub async fn list(node: &ThisNode) -> Result<Vec<RemovedNode>, Status> {
    let records = record::all(&node.tree).await?;
    let heard = ready::ring_now(&node.daemons).await.map(|ring| ring.strangers).unwrap_or_default();
    Ok(records.into_iter().map(|(_, _, removed)| told(removed, &heard)).collect())
}

fn told(removed: Removed, heard: &[Stranger]) -> RemovedNode {
    let addresses: Vec<IpAddr> =
        removed.addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let is_its = |stranger: &&Stranger| stranger.address.parse().is_ok_and(|from| addresses.contains(&from));
    let its: Vec<&Stranger> = heard.iter().filter(is_its).collect();
    let silence = |stranger: &Stranger| Duration::try_from(stranger.silence?).ok();
    RemovedNode {
        archive: removed.archive(),
        packets: its.iter().map(|stranger| stranger.packets).sum(),
        transmitting: its.iter().any(|stranger| silence(stranger).is_some_and(|silence| silence < SILENCE)),
        removed: Some((UNIX_EPOCH + Duration::from_secs(removed.removed)).into()),
        name: removed.name,
        node_id: removed.node_id,
        link_addresses: removed.addresses,
        removed_by: removed.removed_by,
        key_due: removed.key_due,
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    /// Not `node`: a scrape's own label of that name would hide it.
    removed: String,
}

/// The metric `gateway_removed_node_transmitting`.
#[derive(Debug, Clone, Default)]
pub struct Transmitting(Family<Label, Gauge>);

impl Transmitting {
    /// Adds the metric to the daemon's registry.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        let family = Family::default();
        metrics.register(|registry| {
            registry.register(
                "gateway_removed_node_transmitting",
                "1 while a node that was removed sends packets to this node: it runs with its old configuration, switch it off",
                family.clone(),
            );
        });
        Self(family)
    }
}

/// Looks from time to time until `shutdown`; tells the log when one begins.
pub async fn watch(node: Arc<ThisNode>, metric: Transmitting, shutdown: CancellationToken) {
    loop {
        if let Err(status) = look(&node, &metric).await {
            tracing::debug!(reason = status.message(), "whether removed nodes send is not known");
        }
        tokio::select! {
            () = sleep(EVERY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn look(node: &ThisNode, metric: &Transmitting) -> Result<(), Status> {
    let Transmitting(family) = metric;
    // Nobody is looked up while there is no stranger at all.
    let heard = ready::ring_now(&node.daemons).await?.strangers;
    let removed = if heard.is_empty() { Vec::new() } else { list(node).await? };
    let sending: Vec<&RemovedNode> = removed.iter().filter(|removed| removed.transmitting).collect();
    for removed in &sending {
        let gauge = family.get_or_create(&Label { removed: removed.name.clone() });
        if gauge.set(1) == 0 {
            let addresses = removed.link_addresses.join(", ");
            tracing::warn!(
                name = removed.name,
                addresses,
                "a node that was removed still sends; switch it off"
            );
        }
    }
    for removed in removed.iter().filter(|removed| sending.iter().all(|other| other.name != removed.name)) {
        family.remove(&Label { removed: removed.name.clone() });
    }
    if removed.is_empty() {
        family.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_node_transmits_while_its_address_was_heard_lately() {
        let removed = Removed {
            name: "n4".into(),
            node_id: 4,
            addresses: vec!["10.0.0.4".into(), "fd00::4".into()],
            config_version: 7,
            removed: 1_700_000_000,
            removed_by: "n1".into(),
            certificate: String::new(),
            key_due: false,
        };
        let heard = |address: &str, seconds| Stranger {
            address: address.into(),
            packets: 5,
            silence: Some(prost_types::Duration { seconds, nanos: 0 }),
        };
        let lately = told(removed.clone(), &[heard("fd00:0::4", 1), heard("10.0.0.4", 60)]);
        assert_eq!((lately.transmitting, lately.packets), (true, 10));
        assert!(!told(removed.clone(), &[heard("10.0.0.4", 60)]).transmitting);
        assert_eq!(told(removed, &[heard("10.0.0.9", 1)]).packets, 0);
    }
}
