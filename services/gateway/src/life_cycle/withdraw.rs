//! A joining node gives up: what AdmitNode did is taken back.

use quorate_daemon::status;
use quorate_proto::gateway::v1::WithdrawNodeRequest;
use quorate_types::NodeName;
use tonic::{Code, Status};

use super::{
    ThisNode,
    conf::{self, Change, Changed, Present},
    confirm::own_name,
};
use crate::tree::{self, Tree};

/// Takes `caller` out of corosync.conf, if it was never confirmed. Harmless when repeated.
///
/// # Errors
/// PERMISSION_DENIED for another node's name; FAILED_PRECONDITION, reason `NOT_QUORATE` or
/// `NODE_CONFIRMED`; what configd says.
pub async fn withdraw(
    node: &ThisNode,
    caller: &NodeName,
    request: &WithdrawNodeRequest,
) -> Result<(), Status> {
    own_name(caller, &request.node_name, "WithdrawNode")?;
    let what = format!("cannot withdraw node '{caller}'");
    node.require_quorum(&what).await?;
    let changed = unlist(node, &what, caller).await?;
    forget(&node.tree, caller.as_str()).await;
    tracing::info!(name = %caller, config_version = changed.config_version, "node withdrawn");
    Ok(())
}

/// Takes a node without votes out of corosync.conf.
pub(super) async fn unlist(node: &ThisNode, what: &str, name: &NodeName) -> Result<Changed<()>, Status> {
    conf::edit(&node.tree, what, |present: &mut Present| {
        let Some(known) = present.conf.node_named(name.as_str()) else { return Ok(Change::Nothing(())) };
        if known.votes > 0 {
            let message = format!(
                "{what}: it was confirmed with {} vote(s); remove it with 'pvecm delnode {name}'",
                known.votes
            );
            return Err(status::error(Code::FailedPrecondition, "NODE_CONFIRMED", message, [("node", name)]));
        }
        let removed = present.tree.remove_node(name.as_str());
        removed.map_err(|mistake| Status::invalid_argument(mistake.to_string()))?;
        Ok(Change::Write(()))
    })
    .await
}

/// Deletes what the gateway published of a node. Best effort: without an entry in corosync.conf neither
/// is used.
pub(super) async fn forget(tree: &Tree, name: &str) {
    for path in [tree::certificate_path(name), tree::gateway_path(name), tree::joining_path(name)] {
        if let Err(status) = tree.delete(&path, None).await {
            tracing::warn!(path, code = ?status.code(), "a file of a node that is gone stays");
        }
    }
}
