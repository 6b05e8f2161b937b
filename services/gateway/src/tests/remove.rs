//! Removing a node.

use corosync_conf::{RING_KEY_PATH, RingKey};
use quorate_proto::gateway::v1::{CreateTokenRequest, RemoveNodeRequest};
use tonic::{Code, Status};

use crate::{
    life_cycle::rekey,
    testing::{TestNode, World, lock, pair, reason},
};

async fn remove(on: &TestNode, node: &str, force: bool) -> Result<Vec<String>, Status> {
    let request = RemoveNodeRequest { node: node.into(), force, validate_only: false };
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
    let archived = "priv/removed/n3-6/node/qemu-server/105.conf";
    assert!(world.paths().iter().any(|path| path == archived), "{:?}", world.paths());
    assert!(!world.paths().iter().any(|path| path.starts_with("nodes/n3")), "{:?}", world.paths());
    assert!(hints.iter().any(|hint| hint.contains("105 (n3)") && hint.contains(archived)), "{hints:?}");
}

fn text_of(world: &World, path: &str) -> String {
    let tree = lock(&world.cluster_tree);
    let (content, _) = tree.entries.get(path).unwrap_or_else(|| panic!("there is no {path}"));
    String::from_utf8(content.clone().expect("a file").to_vec()).unwrap()
}

#[tokio::test]
async fn with_a_node_go_its_keys_and_tokens_and_the_ring_gets_a_new_key_with_the_version_without_it() {
    let (world, n1, _n2) = with_a_dead_node().await;
    let keys = "ssh-rsa AAAA root@n1\nssh-rsa BBBB root@n3\n";
    lock(&world.cluster_tree).put("priv/authorized_keys", Some(keys.into()));
    let token = CreateTokenRequest { node_name: "n3".into(), ..CreateTokenRequest::default() };
    n1.operator().create_token(token).await.unwrap();

    remove(&n1, "n3", false).await.unwrap();

    assert_eq!(text_of(&world, "priv/authorized_keys"), "ssh-rsa AAAA root@n1\n");
    let tokens = world.paths().into_iter().filter(|path| path.starts_with("priv/quorate/tokens/"));
    assert_eq!(tokens.count(), 0);
    let key = RingKey::parse(&text_of(&world, RING_KEY_PATH)).unwrap();
    assert_eq!(key.config_version, world.conf().totem.config_version);
    let record = text_of(&world, "priv/removed/n3-6/removed.json");
    assert!(record.contains("\"key_due\": false") && record.contains("127.0.0.3"), "{record}");
}

#[tokio::test]
async fn the_ring_keeps_its_key_while_a_member_is_off_and_gets_a_new_one_when_it_is_back() {
    let (world, n1, _n2) = with_a_dead_node().await;
    let n4 = TestNode::start(&world, "n4", false).await;
    n4.join_with(&n1.token().await).await.unwrap();
    let n5 = TestNode::start(&world, "n5", false).await;
    n5.join_with(&n1.token().await).await.unwrap();
    world.cut_off("n5");

    let hints = remove(&n1, "n3", false).await.unwrap();

    assert!(hints.iter().any(|hint| hint.contains("while n5 is off")), "{hints:?}");
    assert!(!world.paths().iter().any(|path| path == RING_KEY_PATH));
    assert!(!rekey::catch_up(&n1.node).await.unwrap(), "it is still off");
    lock(&world.ring).insert("n5".to_owned());
    assert!(rekey::catch_up(&n1.node).await.unwrap());
    let key = RingKey::parse(&text_of(&world, RING_KEY_PATH)).unwrap();
    assert_eq!(key.config_version, world.conf().totem.config_version);
    assert!(rekey::catch_up(&n1.node).await.unwrap(), "once is enough");
    assert_eq!(key, RingKey::parse(&text_of(&world, RING_KEY_PATH)).unwrap());
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_done_and_changes_nothing() {
    let (world, n1, _n2) = with_a_dead_node().await;
    let before = (world.paths(), lock(&world.cluster_tree).version);
    let request = RemoveNodeRequest { node: "n3".into(), force: false, validate_only: true };

    let answer = n1.operator().remove_node(request).await.unwrap().into_inner();

    assert!(answer.steps.iter().any(|step| step.contains("the ring gets a new key")), "{:?}", answer.steps);
    assert!(!answer.key_changed);
    assert_eq!((world.paths(), lock(&world.cluster_tree).version), before);
}

#[tokio::test]
async fn a_directory_larger_than_a_transaction_is_moved_whole() {
    let (world, n1, _n2) = with_a_dead_node().await;
    for vmid in 100..500 {
        lock(&world.cluster_tree).put(&format!("nodes/n3/lxc/{vmid}.conf"), Some("".into()));
    }
    remove(&n1, "n3", false).await.unwrap();
    let moved = world.paths().into_iter().filter(|path| path.starts_with("priv/removed/n3-6/node/lxc/"));
    assert_eq!(moved.count(), 400);
    assert!(!world.paths().iter().any(|path| path.starts_with("nodes/n3")));
}

#[tokio::test]
async fn a_node_that_is_online_is_not_removed_where_the_others_would_lose_their_quorum() {
    let (world, n1, _n2) = with_a_dead_node().await;
    // Two of three votes are present; of the two that stay, one would be.
    let status = remove(&n1, "n2", true).await.unwrap_err();
    assert_eq!(reason(&status), "QUORUM_WOULD_BE_LOST");
    assert!(world.conf().node_named("n2").is_some());
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
