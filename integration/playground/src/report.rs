//! What `playground status` prints: which daemons run, and what the node says of itself.

use std::time::Duration;

use quorate_daemon::client::deadline;
use quorate_proto::{
    config::v1::{self as config, config_service_client::ConfigServiceClient},
    quorum::v1::{self as quorum, quorum_service_client::QuorumServiceClient},
};

use crate::{Node, Playground};

/// How long a node may take to say how it is.
const ANSWER: Duration = Duration::from_secs(2);

/// A node as `playground status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// The daemons that run, with their process ids.
    pub running: Vec<(&'static str, i32)>,
    /// `quorate`, `blocked`, `no cluster`, or `-` if nobody answers.
    pub votes: &'static str,
    /// Version of its replica; `None` if nobody answers.
    pub version: Option<u64>,
}

/// Looks at all nodes.
pub async fn report(playground: &Playground) -> Vec<NodeReport> {
    let mut reports = Vec::new();
    for node in playground.nodes() {
        reports.push(report_node(node).await);
    }
    reports
}

async fn report_node(node: &Node) -> NodeReport {
    let names = quorate_node::DAEMONS.into_iter().chain([quorate_node::NAME]);
    let running: Vec<_> = names.filter_map(|name| Some((name, node.pid(name)?))).collect();
    NodeReport {
        name: node.name().to_owned(),
        address: node.address().to_string(),
        votes: votes(node).await,
        version: version(node).await,
        running,
    }
}

async fn votes(node: &Node) -> &'static str {
    let mut client = QuorumServiceClient::new(node.gateway());
    let answer = client.get_status(deadline(quorum::GetStatusRequest {}, ANSWER)).await;
    match answer.ok().and_then(|answer| answer.into_inner().status) {
        None => "-",
        Some(status) if status.node_id == 0 => "no cluster",
        Some(status) if status.quorate => "quorate",
        Some(_) => "blocked",
    }
}

async fn version(node: &Node) -> Option<u64> {
    let mut client = ConfigServiceClient::new(node.gateway());
    let answer = client.get_status(deadline(config::GetStatusRequest {}, ANSWER)).await;
    Some(answer.ok()?.into_inner().version)
}
