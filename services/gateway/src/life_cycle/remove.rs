//! A member removes a node that is off for good. Source: pvecm specification, 4.5.

use corosync_conf::{ClusterConf, Node};
use quorate_daemon::status;
use quorate_proto::gateway::v1::{RemoveNodeRequest, RemoveNodeResponse};
use tonic::{Code, Status};

use super::{
    ThisNode,
    conf::{self, Change, Present},
    guests, online,
    withdraw::forget,
};

/// Removes a node by its name or one of its addresses.
///
/// # Errors
/// NOT_FOUND, reason `NODE_UNKNOWN`; FAILED_PRECONDITION, reason `NOT_IN_CLUSTER`, `NODE_IS_LOCAL`,
/// `NOT_QUORATE` or `NODE_ONLINE`; what configd says.
pub async fn remove(node: &ThisNode, request: &RemoveNodeRequest) -> Result<RemoveNodeResponse, Status> {
    let what = format!("cannot remove node '{}'", request.node);
    let present = conf::read(&node.tree, &what).await?;
    let target = find(&present.conf, &request.node, &what)?.clone();
    if target.name == node.name {
        let message = format!("{what}: it is the node that you are on; run this on another member");
        return Err(status::error(
            Code::FailedPrecondition,
            "NODE_IS_LOCAL",
            message,
            [("node", &target.name)],
        ));
    }
    let votes = node.require_quorum(&what).await?;
    if online(&votes).contains(&target.id.get()) && !request.force {
        let message = format!(
            "{what}: it is online; switch it off for good first (with its old configuration it must never come \
             back on this network), or use --force; nothing was changed"
        );
        return Err(status::error(
            Code::FailedPrecondition,
            "NODE_ONLINE",
            message,
            [("node", &target.name)],
        ));
    }
    let name = target.name.as_str();
    let changed = conf::edit(&node.tree, &what, |present: &mut Present| {
        let Some(known) = present.conf.node_named(name) else { return Ok(Change::Nothing(())) };
        if known.id != target.id {
            let message = format!("{what}: it was replaced by another node of that name meanwhile");
            return Err(status::error(Code::Aborted, "NODE_REPLACED", message, [("node", name)]));
        }
        let removed = present.tree.remove_node(name);
        removed.map_err(|mistake| Status::invalid_argument(mistake.to_string()))?;
        Ok(Change::Write(()))
    })
    .await?;
    forget(&node.tree, name).await;
    tracing::info!(name, node_id = %target.id, config_version = changed.config_version, "node removed");
    Ok(RemoveNodeResponse { config_version: changed.config_version, hints: hints(node, &target).await })
}

fn find<'a>(conf: &'a ClusterConf, named: &str, what: &str) -> Result<&'a Node, Status> {
    let by_address =
        || conf.nodes.iter().find(|node| node.addresses.values().any(|a| same_address(a, named)));
    conf.node_named(named).or_else(by_address).ok_or_else(|| {
        let known: Vec<&str> = conf.nodes.iter().map(|node| node.name.as_str()).collect();
        let message = format!(
            "{what}: no node of this cluster has that name or address; there are {}",
            known.join(", ")
        );
        status::error(Code::NotFound, "NODE_UNKNOWN", message, [("known", known.join(","))])
    })
}

fn same_address(one: &str, other: &str) -> bool {
    let parsed = |text: &str| text.parse::<std::net::IpAddr>().ok();
    one.eq_ignore_ascii_case(other) || parsed(one).is_some_and(|address| parsed(other) == Some(address))
}

/// What the operator may want to clean up: nothing of this is touched by removing a node.
async fn hints(node: &ThisNode, target: &Node) -> Vec<String> {
    let name = &target.name;
    let mut hints = vec![format!(
        "node '{name}' must not come back on this network with its old configuration: reinstall it, or remove \
         its etc/corosync/corosync.conf first"
    )];
    let directory = format!("nodes/{name}");
    let left = node.tree.list(&directory).await.unwrap_or_default();
    let guests = guests::of(&left);
    if !guests.is_empty() {
        let list = guests.join(", ");
        hints.push(format!(
            "{} guest(s) still belong to '{name}': {list}; move their files below nodes/ of another node",
            guests.len()
        ));
    }
    if !left.is_empty() {
        hints.push(format!(
            "the directory {directory} stays with {} entries; delete it when it is not needed",
            left.len()
        ));
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "totem {\n version: 2\n cluster_name: demo\n config_version: 2\n}\nnodelist {\n node {\n \
        name: n1\n nodeid: 1\n ring0_addr: 10.0.0.1\n }\n node {\n name: n2\n nodeid: 2\n ring0_addr: fd00::2\n }\n}\n\
        quorum {\n provider: corosync_votequorum\n}\n";

    #[test]
    fn a_node_is_found_by_name_and_by_any_spelling_of_an_address() {
        let conf = ClusterConf::parse(CONF).unwrap();
        for named in ["n2", "fd00::2", "fd00:0:0::2"] {
            assert_eq!(find(&conf, named, "x").unwrap().id.get(), 2, "{named}");
        }
    }

    #[test]
    fn an_unknown_node_is_refused_with_those_that_are_known() {
        let conf = ClusterConf::parse(CONF).unwrap();
        let status = find(&conf, "n9", "cannot remove node 'n9'").unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().ends_with("there are n1, n2"), "{}", status.message());
    }
}
