//! This node becomes a member of an existing cluster, or everything is as before.
//!
//! 1. Check everything on this node (`join/plan.rs`).
//! 2. Reach a member and be admitted: it checks the rest, signs a certificate, lists this node without votes.
//! 3. Keep a copy of the old tree; write certificate and corosync.conf; begin with an empty tree; start the
//!    ring (`join/apply.rs`).
//! 4. Wait until ring, votes and tree work.
//! 5. Be confirmed by the member, with the new certificate: now this node has its votes.
//!
//! Whatever fails after 2 is taken back (`join/undo.rs`), here and at the member. A gateway that dies on
//! the way finds a note of what is left to do and goes on from there (`join/pending.rs`).

mod apply;
pub mod pending;
mod plan;
mod undo;

use std::time::SystemTime;

use quorate_daemon::client::{DaemonChannel, deadline};
use quorate_proto::gateway::v1::{
    AdmitNodeRequest, AdmitNodeResponse, JoinClusterRequest, JoinClusterResponse,
    cluster_service_client::ClusterServiceClient,
};
use tonic::{Request, Status, metadata::MetadataValue};

use self::plan::Plan;
use super::{ThisNode, create::certificate_failed, progress::Progress};
use crate::{
    member::{self, DialError},
    refusal::{followed, prefixed},
    tls,
};

/// A member that admitted this node.
struct Admission {
    /// Its address, as it was reached.
    member: String,
    /// Where other members are, for when that one does not answer any more.
    others: Vec<String>,
    answer: AdmitNodeResponse,
}

/// Joins a cluster; gives the last message.
///
/// # Errors
/// Every failed check with its reason; after the admission also what was undone.
pub async fn join(
    node: &ThisNode,
    request: JoinClusterRequest,
    progress: &Progress,
) -> Result<JoinClusterResponse, Status> {
    let _busy = node.begin("cannot join")?;
    let plan = plan::make(node, request).await?;
    let what = format!("cannot join cluster '{}'", plan.token.cluster);
    let (member, channel) = reach(node, &plan, &what, progress).await?;
    let answer = ask(node, &plan, &what, channel).await?;
    progress.step(format!("admitted as node {} of cluster '{}'", answer.node_id, plan.token.cluster)).await;
    let others = plan.token.addresses.iter().filter(|other| **other != member).cloned().collect();
    let admission = Admission { member, others, answer };
    let old = apply::keep(node).await;
    let done = match &old {
        Ok(_) => apply::apply(node, &plan, &admission, &what, progress).await,
        Err(status) => Err(prefixed(&what, status)),
    };
    match done {
        Ok(()) => Ok(finished(node, plan, admission)),
        Err(status) => {
            undo::undo(node, &admission, old.ok(), status, progress).await?;
            // The member says that this node was confirmed after all: only the answer was lost.
            Ok(finished(node, plan, admission))
        }
    }
}

fn finished(node: &ThisNode, plan: Plan, admission: Admission) -> JoinClusterResponse {
    let AdmitNodeResponse { node_id, warnings, .. } = admission.answer;
    let message = format!("node '{}' is a member of cluster '{}'", node.name, plan.token.cluster);
    JoinClusterResponse { message, done: true, warnings: [plan.warnings, warnings].concat(), node_id }
}

/// Connects to the first address at which the cluster answers.
async fn reach(
    node: &ThisNode,
    plan: &Plan,
    what: &str,
    progress: &Progress,
) -> Result<(String, DaemonChannel), Status> {
    let config = tls::client_config(plan.trusted, None)
        .map_err(|error| Status::internal(quorate_daemon::telemetry::chain(&error)))?;
    let mut errors = Vec::new();
    for address in &plan.members {
        progress.step(format!("connecting to {address}")).await;
        match member::connect(address, config.clone(), node.patience.dial).await {
            Ok(channel) => return Ok((address.clone(), channel)),
            Err(error) => errors.push(error),
        }
    }
    let status = DialError::status(what, &errors);
    if plan.members.iter().any(|member| plan.token.addresses.contains(member)) {
        return Err(status);
    }
    Err(followed(&status, &format!("the token names the members at {}", plan.token.addresses.join(", "))))
}

async fn ask(
    node: &ThisNode,
    plan: &Plan,
    what: &str,
    channel: DaemonChannel,
) -> Result<AdmitNodeResponse, Status> {
    let key = node.identity.current().key.clone();
    let csr_pem = key.request(&node.name).map_err(|error| prefixed(what, &certificate_failed(&error)))?;
    let message = AdmitNodeRequest {
        node_name: node.name.to_string(),
        node_id: plan.node_id,
        link_addresses: plan.addresses.iter().map(ToString::to_string).collect(),
        csr_pem,
        gateway_address: node.gateway(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        clock: Some(SystemTime::now().into()),
    };
    let mut request: Request<_> = deadline(message, node.patience.member);
    let bearer: MetadataValue<_> =
        format!("Bearer {}", plan.token).parse().expect("a token is base64url, which is ASCII");
    request.metadata_mut().insert("authorization", bearer);
    let answer = ClusterServiceClient::new(channel).admit_node(request).await;
    Ok(answer.map_err(|status| prefixed(&format!("{what}: the member refused"), &status))?.into_inner())
}
