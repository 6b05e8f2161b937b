//! Joining a cluster, and the way back when it fails.

use quorate_daemon::NodeConfig;
use quorate_proto::gateway::v1::{CreateTokenRequest, GetClusterRequest, JoinClusterRequest};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    life_cycle::join::pending::{Pending, resume},
    testing::{TestNode, World, hasty, lock, pair, reason},
    token::JoinToken,
};

async fn founded() -> (std::sync::Arc<World>, TestNode) {
    let world = World::new();
    let n1 = TestNode::start(&world, "n1", true).await;
    n1.create().await.unwrap();
    (world, n1)
}

#[tokio::test]
async fn a_node_joins_with_a_token_alone_and_gets_its_votes_at_the_end() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let request =
        JoinClusterRequest { token: n1.token().await, votes: Some(3), ..JoinClusterRequest::default() };

    let done = n2.join(request).await.unwrap();

    assert_eq!(done.node_id, 2);
    let conf = world.conf();
    let node = conf.node_named("n2").unwrap();
    assert_eq!((node.votes, node.addresses[&0].as_str()), (3, "127.0.0.2"));
    assert_eq!(conf.totem.config_version, 3);
    assert_eq!(n2.identity().ca_fingerprint(), n1.identity().ca_fingerprint());
    assert_eq!(Pending::read(&n2.root).unwrap(), None);
    let cluster = n2.operator().get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
    assert_eq!(cluster.nodes[1].gateway_address, n2.address.to_string());
}

#[tokio::test]
async fn a_third_node_joins_through_the_second() {
    let (world, _n1, n2) = pair().await;
    let n3 = TestNode::start(&world, "n3", false).await;
    let request = JoinClusterRequest {
        token: n2.token().await,
        address: n2.address.to_string(),
        node_id: 9,
        ..JoinClusterRequest::default()
    };
    assert_eq!(n3.join(request).await.unwrap().node_id, 9);
    assert_eq!(world.conf().expected_votes(), 3);
}

#[tokio::test]
async fn guests_on_the_joining_node_are_refused_unless_forced() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    lock(&n2.own_tree).put("nodes/n2/qemu-server/100.conf", Some("cores: 1".into()));
    let token = n1.token().await;

    let status = n2.join_with(&token).await.unwrap_err();
    assert_eq!(reason(&status), "GUESTS_PRESENT");
    assert!(status.message().contains("100 (n2)"), "{}", status.message());

    let done =
        n2.join(JoinClusterRequest { token, force: true, ..JoinClusterRequest::default() }).await.unwrap();
    assert!(done.warnings.iter().any(|w| w.contains("100 (n2)")), "{:?}", done.warnings);
}

#[tokio::test]
async fn a_member_cannot_join_again() {
    let (_world, n1, n2) = pair().await;
    let status = n2.join_with(&n1.token().await).await.unwrap_err();
    assert_eq!(reason(&status), "ALREADY_IN_CLUSTER");
}

#[tokio::test]
async fn members_that_do_not_answer_are_told_with_their_addresses() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let closed = closed();
    for (address, expected) in
        [(closed.to_string(), "PEER_UNREACHABLE"), ("no-such-host.invalid".to_owned(), "PEER_UNRESOLVABLE")]
    {
        let mut token: JoinToken = n1.token().await.parse().unwrap();
        token.addresses = vec![closed.to_string()];
        let token = token.to_string();
        let request = JoinClusterRequest { address: address.clone(), token, ..JoinClusterRequest::default() };
        let status = n2.join(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, expected));
        assert!(status.message().contains(&address), "{}", status.message());
    }
}

/// An address at which nobody listens.
fn closed() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_address_that_was_given_and_does_not_answer_is_told_with_those_of_the_token() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let request = JoinClusterRequest {
        address: closed().to_string(),
        token: n1.token().await,
        ..JoinClusterRequest::default()
    };
    let status = n2.join(request).await.unwrap_err();
    assert_eq!(reason(&status), "PEER_UNREACHABLE");
    assert!(status.message().contains(&n1.address.to_string()), "{}", status.message());
}

#[tokio::test]
async fn a_join_whose_member_is_gone_is_completed_by_another_that_the_tree_knows() {
    let (world, _n1, n2) = pair().await;
    let n3 = TestNode::start(&world, "n3", false).await;
    let token: JoinToken = n2.token().await.parse().unwrap();
    let answer = super::tokens::admit(&n2, &n3, &token).await.unwrap();
    n3.node.identity.install(&answer.certificate_pem, &answer.ca_pem).unwrap();
    let ca = n3.identity().ca_fingerprint().unwrap().to_string();
    let member = closed().to_string();
    let note = Pending { member, others: Vec::new(), ca, votes: 1, tree_set_aside: false };
    note.write(&n3.root).unwrap();
    n3.node.write_conf(&answer.corosync_conf).unwrap();

    resume(&n3.node, tokio_util::sync::CancellationToken::new()).await;

    assert_eq!(world.conf().node_named("n3").unwrap().votes, 1);
}

#[tokio::test]
async fn a_token_of_another_cluster_than_the_member_is_a_fingerprint_mismatch() {
    let (_world, n1) = founded().await;
    let elsewhere = World::new();
    let other = TestNode::start(&elsewhere, "n3", true).await;
    other.create().await.unwrap();
    let n2 = TestNode::start(&elsewhere, "n2", false).await;
    let request = JoinClusterRequest {
        token: other.token().await,
        address: n1.address.to_string(),
        ..JoinClusterRequest::default()
    };

    let status = n2.join(request).await.unwrap_err();

    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "FINGERPRINT_MISMATCH"));
    let found = n1.identity().ca_fingerprint().unwrap().to_string();
    assert!(status.message().contains(&found), "{}", status.message());
}

#[tokio::test]
async fn the_member_lists_every_conflict_at_once_and_the_token_stays_good() {
    let (world, n1) = founded().await;
    let mut n2 = TestNode::start(&world, "n2", false).await;
    n2.name = "n2";
    let token = n1.token().await;
    let request = JoinClusterRequest {
        token: token.clone(),
        node_id: 1,
        link_addresses: vec!["127.0.0.1".into(), "127.0.0.2".into()],
        ..JoinClusterRequest::default()
    };

    let status = n2.join(request).await.unwrap_err();

    let violations = status.get_details_precondition_failure().unwrap().violations;
    let reasons: Vec<&str> = violations.iter().map(|v| v.r#type.as_str()).collect();
    assert_eq!(reasons, ["ADDRESS_TAKEN", "LINK_COUNT", "NODE_ID_TAKEN"]);
    assert!(!n2.is_in_cluster());
    n2.join_with(&token).await.unwrap();
}

#[tokio::test]
async fn a_minority_admits_nobody() {
    let (world, n1, _n2) = pair().await;
    let n3 = TestNode::start(&world, "n3", false).await;
    let token = n1.token().await;
    world.cut_off("n2");

    let status = n3.join_with(&token).await.unwrap_err();

    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "NOT_QUORATE"));
    assert!(status.message().contains("1 of 2 expected votes are present, 2 are needed; missing: n2"));
}

#[tokio::test]
async fn a_join_whose_ring_does_not_form_is_taken_back_on_both_sides() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start_with(&world, "n2", false, hasty()).await;
    lock(&n2.own_tree).put("datacenter.cfg", Some("keyboard: de".into()));
    world.cut_off("n2");

    let status = n2.join_with(&n1.token().await).await.unwrap_err();

    assert_eq!(reason(&status), "RING_TIMEOUT");
    assert!(status.message().contains("on this node everything was undone"), "{}", status.message());
    assert!(status.message().contains("the member took back the admission"), "{}", status.message());
    assert!(!n2.is_in_cluster());
    assert_eq!(n2.identity().ca_fingerprint(), None);
    assert_eq!(Pending::read(&n2.root).unwrap(), None);
    assert_eq!(lock(&n2.own_tree).entries["datacenter.cfg"].0.as_deref(), Some(&b"keyboard: de"[..]));
    assert!(world.conf().node_named("n2").is_none());
    assert!(!world.paths().iter().any(|path| path == "nodes/n2/pve-ssl.pem"));
}

#[tokio::test]
async fn a_failed_join_can_be_repeated_with_a_new_token() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start_with(&world, "n2", false, hasty()).await;
    world.cut_off("n2");
    n2.join_with(&n1.token().await).await.unwrap_err();
    lock(&world.cut_off).clear();
    drop(n2);

    let n2 = TestNode::start(&world, "n2", false).await;
    assert_eq!(n2.join_with(&n1.token().await).await.unwrap().node_id, 2);
}

#[tokio::test]
async fn a_node_that_was_admitted_and_never_came_may_join_again() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let token: JoinToken = n1.token().await.parse().unwrap();
    super::tokens::admit(&n1, &n2, &token).await.unwrap();
    assert_eq!(world.conf().node_named("n2").unwrap().votes, 0);
    assert!(world.paths().iter().any(|path| path == "nodes/n2/joining"));

    assert_eq!(n2.join_with(&n1.token().await).await.unwrap().node_id, 2);

    assert_eq!(world.conf().node_named("n2").unwrap().votes, 1);
    assert!(!world.paths().iter().any(|path| path == "nodes/n2/joining"));
}

#[tokio::test]
async fn a_member_without_votes_is_not_replaced_while_it_is_off() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let request =
        JoinClusterRequest { token: n1.token().await, votes: Some(0), ..JoinClusterRequest::default() };
    n2.join(request).await.unwrap();
    let before = world.conf();
    drop(n2);
    world.cut_off("n2");
    let stranger = TestNode::start(&world, "n2", false).await;

    let status = stranger.join_with(&n1.token().await).await.unwrap_err();

    assert_eq!(reason(&status), "NODE_NAME_TAKEN");
    assert_eq!(world.conf().totem.config_version, before.totem.config_version);
}

#[tokio::test]
async fn an_interrupted_join_goes_on_after_a_restart() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let token: JoinToken = n1.token().await.parse().unwrap();
    let answer = super::tokens::admit(&n1, &n2, &token).await.unwrap();
    n2.node.identity.install(&answer.certificate_pem, &answer.ca_pem).unwrap();
    let ca = n2.identity().ca_fingerprint().unwrap().to_string();
    // The gateway died before it could tell any daemon of the new files.
    let note =
        Pending { member: n1.address.to_string(), others: Vec::new(), ca, votes: 2, tree_set_aside: false };
    note.write(&n2.root).unwrap();
    n2.node.write_conf(&answer.corosync_conf).unwrap();

    resume(&n2.node, tokio_util::sync::CancellationToken::new()).await;

    assert_eq!(world.conf().node_named("n2").unwrap().votes, 2);
    assert_eq!(Pending::read(&n2.root).unwrap(), None);
}

#[tokio::test]
async fn a_token_for_another_node_is_refused_by_the_member() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let request = CreateTokenRequest { node_name: "n7".into(), ..CreateTokenRequest::default() };
    let token = n1.operator().create_token(request).await.unwrap().into_inner().token;
    let status = n2.join_with(&token).await.unwrap_err();
    assert_eq!(reason(&status), "TOKEN_FOREIGN_NODE");
}

#[test]
fn a_nodes_default_port_is_the_one_that_addresses_without_port_get() {
    assert_eq!(NodeConfig::named("n1".parse().unwrap()).gateway_port, crate::member::PORT);
}
