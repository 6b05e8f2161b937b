//! Tokens: used once, within their time, at the cluster that issued them.

use std::time::SystemTime;

use quorate_daemon::client::DaemonChannel;
use quorate_proto::gateway::v1::{
    AdmitNodeRequest, AdmitNodeResponse, CreateTokenRequest, ListTokensRequest, RevokeTokenRequest,
    cluster_service_client::ClusterServiceClient,
};
use tonic::{Code, Request, Status};

use crate::{
    testing::{TestNode, World, lock, reason},
    token::{JoinToken, Secret, TokenRecord, unix_seconds},
};

async fn founded() -> (std::sync::Arc<World>, TestNode) {
    let world = World::new();
    let n1 = TestNode::start(&world, "n1", true).await;
    n1.create().await.unwrap();
    (world, n1)
}

async fn admit_as(
    channel: DaemonChannel,
    applicant: &TestNode,
    bearer: &str,
) -> Result<AdmitNodeResponse, Status> {
    let key = applicant.identity().key.clone();
    let mut request = Request::new(AdmitNodeRequest {
        node_name: applicant.name.into(),
        link_addresses: vec![applicant.address.ip().to_string()],
        csr_pem: key.request(&applicant.name.parse().unwrap()).unwrap(),
        gateway_address: applicant.address.to_string(),
        ..AdmitNodeRequest::default()
    });
    request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
    ClusterServiceClient::new(channel).admit_node(request).await.map(tonic::Response::into_inner)
}

/// Has `member` admit `applicant`, and nothing more.
pub(super) async fn admit(
    member: &TestNode,
    applicant: &TestNode,
    token: &JoinToken,
) -> Result<AdmitNodeResponse, Status> {
    admit_as(member.remote(None).await, applicant, &token.to_string()).await
}

#[tokio::test]
async fn a_token_is_listed_until_it_is_used_and_works_once() {
    let (world, n1) = founded().await;
    let (n2, n3) = (TestNode::start(&world, "n2", false).await, TestNode::start(&world, "n3", false).await);
    let token: JoinToken = n1.token().await.parse().unwrap();
    let list = async || n1.operator().list_tokens(ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert_eq!(list().await[0].token_id, token.id.to_string());
    assert_eq!(list().await[0].issued_by, "n1");

    admit(&n1, &n2, &token).await.unwrap();

    assert!(list().await.is_empty());
    let status = admit(&n1, &n3, &token).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_UNKNOWN"));
}

#[tokio::test]
async fn of_two_uses_at_the_same_time_one_wins() {
    let (world, n1) = founded().await;
    let (n2, n3) = (TestNode::start(&world, "n2", false).await, TestNode::start(&world, "n3", false).await);
    let token: JoinToken = n1.token().await.parse().unwrap();

    let (one, other) = tokio::join!(admit(&n1, &n2, &token), admit(&n1, &n3, &token));

    assert_ne!(one.is_ok(), other.is_ok());
    let lost = one.err().or(other.err()).unwrap();
    assert!(["TOKEN_USED", "TOKEN_UNKNOWN"].contains(&reason(&lost).as_str()), "{lost:?}");
    assert_eq!(world.conf().nodes.len(), 2);
}

#[tokio::test]
async fn an_expired_token_is_refused_and_cleared_away_by_the_next_one() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let mut token: JoinToken = n1.token().await.parse().unwrap();
    token.expires = unix_seconds(SystemTime::now()) - 1;
    let record = TokenRecord::of(&token, "", "n1").to_json();
    lock(&world.cluster_tree).put(&token.id.path(), Some(record.into()));

    assert_eq!(reason(&admit(&n1, &n2, &token).await.unwrap_err()), "TOKEN_EXPIRED");
    let local = n2.join_with(&token.to_string()).await.unwrap_err();
    assert_eq!(reason(&local), "TOKEN_EXPIRED");

    n1.token().await;
    assert!(!world.paths().contains(&token.id.path()));
}

#[tokio::test]
async fn a_forged_or_malformed_token_is_refused() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let mut token: JoinToken = n1.token().await.parse().unwrap();
    token.secret = Secret([0; 32]);
    assert_eq!(reason(&admit(&n1, &n2, &token).await.unwrap_err()), "TOKEN_UNKNOWN");
    let status = admit_as(n1.remote(None).await, &n2, "rubbish").await.unwrap_err();
    assert_eq!(reason(&status), "TOKEN_MALFORMED");
}

#[tokio::test]
async fn a_token_of_another_cluster_is_named_as_such() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let mut token: JoinToken = n1.token().await.parse().unwrap();
    token.cluster = "other".into();
    token.id = crate::token::TokenId([0; 8]);
    let status = admit(&n1, &n2, &token).await.unwrap_err();
    assert_eq!(reason(&status), "TOKEN_FOREIGN_CLUSTER");
    assert!(status.message().contains("'other'") && status.message().contains("'demo'"));
}

#[tokio::test]
async fn a_revoked_token_is_worthless_and_revoking_it_again_is_told() {
    let (world, n1) = founded().await;
    let n2 = TestNode::start(&world, "n2", false).await;
    let token: JoinToken = n1.token().await.parse().unwrap();
    let revoke = RevokeTokenRequest { token_id: token.id.to_string() };

    n1.operator().revoke_token(revoke.clone()).await.unwrap();

    assert_eq!(reason(&admit(&n1, &n2, &token).await.unwrap_err()), "TOKEN_UNKNOWN");
    let again = n1.operator().revoke_token(revoke).await.unwrap_err();
    assert_eq!((again.code(), reason(&again).as_str()), (Code::NotFound, "TOKEN_UNKNOWN"));
}

#[tokio::test]
async fn a_node_in_no_cluster_issues_no_tokens() {
    let n1 = TestNode::start(&World::new(), "n1", true).await;
    let status = n1.operator().create_token(CreateTokenRequest::default()).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_IN_CLUSTER");
}

#[tokio::test]
async fn a_minority_issues_no_tokens_and_says_why() {
    let (world, n1, _n2) = crate::testing::pair().await;
    world.cut_off("n2");
    let status = n1.operator().create_token(CreateTokenRequest::default()).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_QUORATE");
}

#[tokio::test]
async fn the_tree_holds_no_secret() {
    let (world, n1) = founded().await;
    let token: JoinToken = n1.token().await.parse().unwrap();
    let stored = lock(&world.cluster_tree).entries[&token.id.path()].0.clone().unwrap();
    let hex: String = token.secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let stored = String::from_utf8(stored.to_vec()).unwrap();
    assert!(!stored.contains(&hex) && !stored.contains(&token.to_string()), "{stored}");
}
