//! A joining node is in the ring and in sync: it gets its votes.

use quorate_daemon::status;
use quorate_proto::gateway::v1::ConfirmNodeRequest;
use quorate_types::NodeName;
use tonic::{Code, Status};

use super::{
    ThisNode,
    conf::{self, Change, Present},
    counted, online,
};
use crate::{refusal::prefixed, tree};

/// Gives `caller` its votes, forgets that it was joining, and waits until its votes are counted here; gives
/// `totem.config_version` with them. Harmless when repeated: only a node without votes gets any.
///
/// # Errors
/// PERMISSION_DENIED for another node's name; FAILED_PRECONDITION, reason `NOT_QUORATE`,
/// `NODE_NOT_IN_RING`, or `NODE_NOT_LISTED`; what configd says.
pub async fn confirm(
    node: &ThisNode,
    caller: &NodeName,
    request: &ConfirmNodeRequest,
) -> Result<u64, Status> {
    own_name(caller, &request.node_name, "ConfirmNode")?;
    let what = format!("cannot confirm node '{caller}'");
    let votes = node.require_quorum(&what).await?;
    let online = online(&votes);
    let changed = conf::edit(&node.tree, &what, |present: &mut Present| {
        let known = present.conf.node_named(caller.as_str()).ok_or_else(|| not_listed(&what, caller))?;
        if !online.contains(&known.id.get()) {
            return Err(not_in_ring(&what, caller, known.id.get()));
        }
        if known.votes > 0 || request.votes == 0 {
            return Ok(Change::Nothing(()));
        }
        let set = present.tree.set_votes(caller.as_str(), request.votes);
        set.map_err(|mistake| Status::invalid_argument(mistake.to_string()))?;
        Ok(Change::Write(()))
    })
    .await?;
    let forgotten = node.tree.delete(&tree::joining_path(caller.as_str()), None).await;
    forgotten.map_err(|status| prefixed(&what, &status))?;
    if request.votes > 0 {
        counted::wait(node, caller).await;
    }
    tracing::info!(name = %caller, votes = request.votes, config_version = changed.config_version, "node confirmed");
    Ok(changed.config_version)
}

/// A node speaks for itself only.
pub(super) fn own_name(caller: &NodeName, named: &str, method: &str) -> Result<(), Status> {
    if caller.as_str() == named {
        return Ok(());
    }
    let message =
        format!("{method} for node '{named}' needs that node's certificate; this call shows '{caller}'s");
    let metadata = [("caller", caller.as_str()), ("node", named)];
    Err(status::error(Code::PermissionDenied, "FOREIGN_CERTIFICATE", message, metadata))
}

fn not_listed(what: &str, name: &NodeName) -> Status {
    let message = format!("{what}: it is not in corosync.conf (any more); join again with a new token");
    status::error(Code::FailedPrecondition, "NODE_NOT_LISTED", message, [("node", name)])
}

fn not_in_ring(what: &str, name: &NodeName, id: u32) -> Status {
    let message = format!("{what}: its ring does not contain this member, or not yet; nothing was changed");
    let metadata = [("node", name.to_string()), ("node_id", id.to_string())];
    status::error(Code::FailedPrecondition, "NODE_NOT_IN_RING", message, metadata)
}
