//! Refusals that the tests of each operation do not meet.

use quorate_proto::gateway::v1::{
    ConfirmNodeRequest, WithdrawNodeRequest, cluster_service_client::ClusterServiceClient,
};
use tonic::Code;

use crate::{
    life_cycle::ready,
    testing::{PATIENCE, TestNode, World, hasty, lock, pair, reason},
    token::JoinToken,
};

/// n1 is a cluster; n2 was admitted, has its certificate and nothing more.
async fn with_an_admitted_node() -> (std::sync::Arc<World>, TestNode, TestNode) {
    let world = World::new();
    let n1 = TestNode::start(&world, "n1", true).await;
    n1.create().await.unwrap();
    let n2 = TestNode::start(&world, "n2", false).await;
    let token: JoinToken = n1.token().await.parse().unwrap();
    let answer = super::tokens::admit(&n1, &n2, &token).await.unwrap();
    n2.node.identity.install(&answer.certificate_pem, &answer.ca_pem).unwrap();
    (world, n1, n2)
}

#[tokio::test]
async fn a_node_gets_no_votes_before_it_is_in_the_ring() {
    let (world, n1, n2) = with_an_admitted_node().await;
    let mut member = ClusterServiceClient::new(n1.remote(Some(&n2.identity())).await);
    let request = ConfirmNodeRequest { node_name: "n2".into(), votes: 1 };

    let status = member.confirm_node(request).await.unwrap_err();

    assert_eq!(reason(&status), "NODE_NOT_IN_RING");
    assert_eq!(world.conf().node_named("n2").unwrap().votes, 0);
}

#[tokio::test]
async fn a_confirmed_node_cannot_withdraw_and_confirming_again_changes_nothing() {
    let (world, n1, n2) = pair().await;
    let mut member = ClusterServiceClient::new(n1.remote(Some(&n2.identity())).await);

    let again = ConfirmNodeRequest { node_name: "n2".into(), votes: 7 };
    let version = member.confirm_node(again).await.unwrap().into_inner().config_version;
    let request = WithdrawNodeRequest { node_name: "n2".into() };
    let status = member.withdraw_node(request).await.unwrap_err();

    assert_eq!(reason(&status), "NODE_CONFIRMED");
    assert_eq!((world.conf().node_named("n2").unwrap().votes, version), (1, 3));
}

#[tokio::test]
async fn a_second_operation_at_the_same_time_is_refused() {
    let node = TestNode::start(&World::new(), "n1", true).await;
    let _busy = node.node.begin("test").unwrap();
    let status = node.create().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "LIFE_CYCLE_BUSY"));
}

#[tokio::test]
async fn a_ring_without_the_others_is_told_with_their_addresses() {
    let (world, _n1, n2) = with_an_admitted_node().await;
    let conf = lock(&world.cluster_tree).entries["corosync.conf"].0.clone().unwrap();
    n2.node.write_conf(std::str::from_utf8(&conf).unwrap()).unwrap();
    n2.node.reload_ring().await.unwrap();
    world.cut_off("n1");

    let late = ready::wait(&n2.node.daemons, &hasty(), None).await.unwrap_err();

    assert_eq!(late.reason, "QUORUM_TIMEOUT");
    assert!(late.description.contains("no packets come through from n1 (127.0.0.1)"), "{}", late.description);
}

#[tokio::test]
async fn a_tree_without_the_authority_admits_nobody_and_the_token_stays_good() {
    let world = World::new();
    let n1 = TestNode::start(&world, "n1", true).await;
    n1.create().await.unwrap();
    let n2 = TestNode::start(&world, "n2", false).await;
    let token = n1.token().await;
    let key = lock(&world.cluster_tree).entries.remove("priv/pve-root-ca.key").unwrap();
    assert_eq!(reason(&n2.join_with(&token).await.unwrap_err()), "CA_MISSING");
    lock(&world.cluster_tree).entries.insert("priv/pve-root-ca.key".into(), key);
    n2.join_with(&token).await.unwrap();
}

#[tokio::test]
async fn a_broken_corosync_conf_in_the_tree_is_told_with_its_mistakes() {
    let (world, n1, _n2) = pair().await;
    lock(&world.cluster_tree).put("corosync.conf", Some("totem {\n".into()));
    let request = quorate_proto::gateway::v1::RemoveNodeRequest {
        node: "n2".into(),
        force: true,
        validate_only: false,
    };
    let status = n1.operator().remove_node(request).await.unwrap_err();
    assert_eq!(reason(&status), "CONFIGURATION_INVALID");
    assert!(status.message().contains("never closed"), "{}", status.message());
}

#[tokio::test]
async fn a_damaged_token_record_is_told_as_lost_data() {
    let world = World::new();
    let n1 = TestNode::start(&world, "n1", true).await;
    n1.create().await.unwrap();
    let n2 = TestNode::start(&world, "n2", false).await;
    let token: JoinToken = n1.token().await.parse().unwrap();
    lock(&world.cluster_tree).put(&token.id.path(), Some("rubbish".into()));
    let status = super::tokens::admit(&n1, &n2, &token).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DataLoss, "TOKEN_RECORD_DAMAGED"));
}

#[tokio::test]
async fn what_is_no_gateway_is_told_as_such() {
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = other.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0-x\r\n").await
    });
    let config = crate::tls::client_config(crate::fingerprint::Fingerprint([0; 32]), None).unwrap();
    let error = crate::member::connect(&address, config, PATIENCE.dial).await.err().unwrap();
    assert_eq!(error.reason(), "PEER_TLS_FAILED");
}
