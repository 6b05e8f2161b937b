//! Waiting until new votes are counted, or those of a node that was removed no more.
//!
//! A node that gets votes announces them in the ring some moments after corosync.conf has them. In between more votes
//! are needed than are announced, and a cluster may be without quorum: whoever says that a node is confirmed waits for
//! the end of that.

use std::time::Duration;

use quorate_proto::quorum::v1::{QuorumStatus, WatchRequest, quorum_node::State};
use quorate_types::{NodeId, NodeName};
use tokio::time::{sleep, timeout};

use super::{ThisNode, ready::tree_now};

/// Waits until this node counts the votes of `name` and may write again. Its votes stand in the configuration in any
/// case: what does not come about within [`Patience::confirm`](super::ready::Patience::confirm) is logged.
pub(super) async fn wait(node: &ThisNode, name: &NodeName) {
    let pause = node.patience.pause;
    let counted = async {
        follow(node, pause, |status| is_counted(status, name)).await;
        while !tree_now(&node.daemons).await.is_ok_and(|tree| tree.reason.is_empty()) {
            sleep(pause).await;
        }
    };
    if timeout(node.patience.confirm, counted).await.is_err() {
        tracing::warn!(%name, "the votes of a node that was confirmed are not counted yet");
    }
}

/// Waits until a node that was removed is out of the ring and not counted with any more, and this node can write. What does not come about
/// within [`Patience::confirm`](super::ready::Patience::confirm) is logged: the configuration says so in any case.
pub(super) async fn without(node: &ThisNode, id: NodeId) {
    let pause = node.patience.pause;
    let gone = async {
        follow(node, pause, |status| {
            status.quorate && status.nodes.iter().all(|known| known.node_id != id.get())
        })
        .await;
        while !tree_now(&node.daemons).await.is_ok_and(|tree| tree.reason.is_empty()) {
            sleep(pause).await;
        }
    };
    if timeout(node.patience.confirm, gone).await.is_err() {
        tracing::warn!(node_id = %id, "a node that was removed is still counted");
    }
}

/// Follows quorumd; a stream that ends begins anew.
async fn follow(node: &ThisNode, pause: Duration, wanted: impl Fn(&QuorumStatus) -> bool) {
    loop {
        if let Ok(stream) = node.daemons.quorum().watch(WatchRequest {}).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(answer)) = stream.message().await {
                if answer.status.is_some_and(|status| wanted(&status)) {
                    return;
                }
            }
        }
        sleep(pause).await;
    }
}

fn is_counted(status: &QuorumStatus, name: &NodeName) -> bool {
    let counts = status
        .nodes
        .iter()
        .any(|known| known.name == name.as_str() && known.state() == State::Member && known.votes > 0);
    status.quorate && counts
}

#[cfg(test)]
mod tests {
    use quorate_proto::quorum::v1::QuorumNode;

    use super::*;

    #[test]
    fn votes_count_once_they_are_announced_and_the_node_is_quorate_with_them() {
        let name: NodeName = "n2".parse().unwrap();
        let status = |quorate, state: State, votes| QuorumStatus {
            quorate,
            nodes: vec![QuorumNode {
                name: "n2".into(),
                state: state.into(),
                votes,
                ..QuorumNode::default()
            }],
            ..QuorumStatus::default()
        };
        assert!(is_counted(&status(true, State::Member, 1), &name));
        assert!(!is_counted(&status(true, State::Member, 0), &name), "not announced yet");
        assert!(!is_counted(&status(false, State::Member, 1), &name), "not counted yet");
        assert!(!is_counted(&status(true, State::Unseen, 1), &name), "not in the ring");
    }
}
