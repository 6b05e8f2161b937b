//! The cluster and this node as they are.

use quorate_daemon::status;
use quorate_proto::{
    config::v1::get_status_response::State,
    gateway::v1::{ClusterNode, DaemonState, GetClusterResponse, GetNodeResponse},
    membership::v1::RingState,
};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use super::{ThisNode, ready, token};
use crate::{
    absent,
    ca::{self, CertificateFacts},
    client::DAEMONS,
    health::NodeHealth,
    roster::Roster,
    tree,
};

/// The nodes of the cluster; an empty name if this node is in none.
///
/// # Errors
/// FAILED_PRECONDITION, reason `CONFIGURATION_INVALID`: whether it is in one cannot be read.
pub async fn cluster(node: &ThisNode, roster: &Roster) -> Result<GetClusterResponse, Status> {
    let Some(conf) = roster.conf().await else {
        return match absent::broken_conf(&node.root) {
            Some(why) => {
                Err(status::error(Code::FailedPrecondition, "CONFIGURATION_INVALID", why, [("", ""); 0]))
            }
            None => Ok(GetClusterResponse::default()),
        };
    };
    let mut nodes = Vec::new();
    for known in &conf.nodes {
        let gateway = token::gateway_of(&node.tree, known.name.as_str()).await;
        let certificate_expires = certificate_end(node, known.name.as_str()).await;
        nodes.push(ClusterNode {
            name: known.name.to_string(),
            node_id: known.id.get(),
            votes: known.votes,
            link_addresses: known.addresses.values().cloned().collect(),
            gateway_address: gateway.unwrap_or_default(),
            certificate_expires,
        });
    }
    let ca_fingerprint = node.identity.current().ca_fingerprint();
    Ok(GetClusterResponse {
        cluster_name: conf.totem.cluster_name.clone(),
        config_version: conf.totem.config_version,
        nodes,
        ca_fingerprint: ca_fingerprint.map(|f| f.to_string()).unwrap_or_default(),
    })
}

/// When the certificate that a node has published ends.
async fn certificate_end(node: &ThisNode, name: &str) -> Option<prost_types::Timestamp> {
    let file = node.tree.read(&tree::certificate_path(name)).await.ok()??;
    let found = ca::certificates(&file.text()).ok()?;
    Some(CertificateFacts::from_der(found.first()?).ok()?.not_after.into())
}

/// This node's daemons, each with the reason why it does not serve.
pub async fn node(node: &ThisNode, health: &NodeHealth) -> GetNodeResponse {
    let mut daemons = Vec::new();
    for daemon in DAEMONS {
        daemons.push(match health.ask(daemon, "").await {
            Ok(ServingStatus::Serving) => state(daemon, Ok(())),
            Ok(_) => state(daemon, Err(why_not(node, daemon).await)),
            Err(status) => state(daemon, Err(unreachable(&status))),
        });
    }
    daemons.push(state("gatewayd", Ok(())));
    GetNodeResponse { node_name: node.name.to_string(), daemons }
}

fn state(name: &str, serving: Result<(), String>) -> DaemonState {
    let reason = serving.err();
    DaemonState { name: name.to_owned(), serving: reason.is_none(), reason: reason.unwrap_or_default() }
}

fn unreachable(status: &Status) -> String {
    format!("does not answer ({})", status.message())
}

/// What a daemon that answers but does not serve says of itself.
async fn why_not(node: &ThisNode, daemon: &str) -> String {
    let said = match daemon {
        "membershipd" => ready::ring_now(&node.daemons).await.map(|ring| {
            let state = ring.state();
            if state == RingState::Down {
                return format!("this node has no ring: {}", ring.down_reason);
            }
            format!(
                "the ring is in state {}",
                state.as_str_name().trim_start_matches("RING_STATE_").to_lowercase()
            )
        }),
        "quorumd" => ready::votes_now(&node.daemons).await.map(|votes| votes.reason),
        _ => ready::tree_now(&node.daemons).await.map(|tree| match tree.state() {
            State::Synchronising => "comparing its tree with the other members'".to_owned(),
            _ => tree.reason,
        }),
    };
    let said = said.unwrap_or_else(|status| unreachable(&status));
    if said.is_empty() { "it says that it does not serve".to_owned() } else { said }
}
