//! Removing a node.

use quorate_proto::gateway::v1::RemoveNodeRequest;
use tonic::{Code, Status};

use crate::testing::{TestNode, World, lock, pair, reason};

async fn remove(on: &TestNode, node: &str, force: bool) -> Result<Vec<String>, Status> {
    let request = RemoveNodeRequest { node: node.into(), force };
    on.operator().remove_node(request).await.map(|answer| answer.into_inner().hints)
}

/// n1 and n2 run, n3 was switched off.
async fn with_a_dead_node() -> (std::sync::Arc<World>, TestNode, TestNode) {
    let (world, n1, n2) = pair().await;
    let n3 = TestNode::start(&world, "n3", false).await;
    n3.join_with(&n1.token().await).await.unwrap();
    world.cut_off("n3");
    (world, n1, n2)
}

#[tokio::test]
async fn a_dead_node_is_removed_by_name_with_hints_about_its_guests() {
    let (world, n1, _n2) = with_a_dead_node().await;
    lock(&world.cluster_tree).put("nodes/n3/qemu-server/105.conf", Some("cores: 1".into()));

    let hints = remove(&n1, "n3", false).await.unwrap();

    assert!(world.conf().node_named("n3").is_none());
    assert!(!world.paths().iter().any(|path| path == "nodes/n3/pve-ssl.pem" || path == "nodes/n3/gateway"));
    assert!(world.paths().iter().any(|path| path == "nodes/n3/qemu-server/105.conf"));
    assert!(hints.iter().any(|hint| hint.contains("105 (n3)")), "{hints:?}");
}

#[tokio::test]
async fn a_node_is_removed_by_its_address() {
    let (world, n1, _n2) = with_a_dead_node().await;
    remove(&n1, "127.0.0.3", false).await.unwrap();
    assert!(world.conf().node_named("n3").is_none());
}

#[tokio::test]
async fn an_online_node_needs_force() {
    let (world, n1, _n2) = pair().await;
    let status = remove(&n1, "n2", false).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "NODE_ONLINE"));
    assert!(world.conf().node_named("n2").is_some());
    remove(&n1, "n2", true).await.unwrap();
    assert!(world.conf().node_named("n2").is_none());
}

#[tokio::test]
async fn each_other_refusal_has_its_reason() {
    let (world, n1, _n2) = pair().await;
    assert_eq!(reason(&remove(&n1, "n1", true).await.unwrap_err()), "NODE_IS_LOCAL");
    assert_eq!(reason(&remove(&n1, "n9", true).await.unwrap_err()), "NODE_UNKNOWN");
    world.cut_off("n2");
    assert_eq!(reason(&remove(&n1, "n2", true).await.unwrap_err()), "NOT_QUORATE");
    let alone = TestNode::start(&World::new(), "n4", true).await;
    assert_eq!(reason(&remove(&alone, "n1", true).await.unwrap_err()), "NOT_IN_CLUSTER");
}
