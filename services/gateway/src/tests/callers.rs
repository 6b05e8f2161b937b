//! Who gets in, over TLS and through the socket.

use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use quorate_daemon::client::DaemonChannel;
use quorate_proto::gateway::v1::{
    ConfirmNodeRequest, GetClusterRequest, cluster_service_client::ClusterServiceClient,
};
use tonic::{Code, Request, Status, body::Body};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::ServiceExt as _;

use crate::{
    auth::{Rule, rule},
    testing::{TestNode, World, pair, reason},
};

/// Calls a method with an empty message and gives how it ended; streams are read up to their first message.
pub(super) async fn call(channel: DaemonChannel, path: &str) -> Status {
    let message = http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5]));
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(message))
        .unwrap();
    let answer = match channel.oneshot(request).await {
        Ok(answer) => answer,
        Err(error) => return Status::from_error(error),
    };
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return status;
    }
    let mut body = answer.into_body();
    match body.frame().await {
        Some(Ok(frame)) if frame.is_trailers() => {
            Status::from_header_map(frame.trailers_ref().unwrap()).unwrap_or_else(|| Status::ok(""))
        }
        _ => Status::ok(""),
    }
}

fn methods() -> Vec<(String, Rule)> {
    let set = FileDescriptorSet::decode(quorate_proto::DESCRIPTORS).unwrap();
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            for method in &service.method {
                methods.push((format!("/{name}/{}", method.name()), rule(&name, method.name()).unwrap()));
            }
        }
    }
    methods
}

#[tokio::test]
async fn without_certificate_and_token_every_method_is_refused_over_tls() {
    let node = TestNode::start(&World::new(), "n1", true).await;
    let channel = node.remote(None).await;
    for (path, _) in methods() {
        let status = call(channel.clone(), &path).await;
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_nodes_certificate_opens_what_its_rule_says_and_nothing_else() {
    let (_world, n1, n2) = pair().await;
    let channel = n1.remote(Some(&n2.identity())).await;
    for (path, rule) in methods() {
        let status = call(channel.clone(), &path).await;
        let refused = status.code() == Code::PermissionDenied
            && quorate_daemon::status::reason(&status).is_some_and(|r| r.reason == "PERMISSION_DENIED");
        let expected = matches!(rule, Rule::Local | Rule::JoinToken);
        assert_eq!(refused, expected, "{path}: {status:?}");
    }
}

#[tokio::test]
async fn metrics_over_tls_need_a_certificate() {
    let (_world, n1, n2) = pair().await;
    let get = async |channel: DaemonChannel| {
        let request = http::Request::get("/metrics").body(Body::empty()).unwrap();
        channel.oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(get(n1.remote(None).await).await, 401);
    assert_eq!(get(n1.remote(Some(&n2.identity())).await).await, 200);
}

#[tokio::test]
async fn health_and_reflection_over_tls_need_a_certificate_or_a_token() {
    let (_world, n1, n2) = pair().await;
    let (nobody, node) = (n1.remote(None).await, n1.remote(Some(&n2.identity())).await);
    let paths = [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ];
    for path in paths {
        let refused = call(nobody.clone(), path).await;
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
            "{path}"
        );
        let answered = call(node.clone(), path).await;
        assert_ne!(answered.code(), Code::Unauthenticated, "{path}: {answered:?}");
    }
    let mut request = Request::new(HealthCheckRequest::default());
    let bearer = format!("Bearer {}", n1.token().await).parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    assert!(HealthClient::new(nobody).check(request).await.is_ok());
}

#[tokio::test]
async fn the_certificate_of_a_removed_node_is_worthless_at_once() {
    let (_world, n1, n2) = pair().await;
    let mut removed = ClusterServiceClient::new(n1.remote(Some(&n2.identity())).await);
    removed.get_cluster(GetClusterRequest {}).await.unwrap();
    let request = quorate_proto::gateway::v1::RemoveNodeRequest {
        node: "n2".into(),
        force: true,
        validate_only: false,
    };
    n1.operator().remove_node(request).await.unwrap();

    let status = removed.get_cluster(GetClusterRequest {}).await.unwrap_err();

    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "NODE_REMOVED"));
}

#[tokio::test]
async fn an_older_certificate_of_a_node_is_worthless_once_there_is_a_newer_one() {
    let (world, n1, n2) = pair().await;
    let certificate = crate::testing::lock(&world.cluster_tree).entries["nodes/n1/pve-ssl.pem"].0.clone();
    crate::testing::lock(&world.cluster_tree).put("nodes/n2/pve-ssl.pem", certificate);

    let mut older = ClusterServiceClient::new(n1.remote(Some(&n2.identity())).await);
    let status = older.get_cluster(GetClusterRequest {}).await.unwrap_err();

    assert_eq!(reason(&status), "CERTIFICATE_SUPERSEDED");
}

#[tokio::test]
async fn a_node_confirms_only_itself() {
    let (_world, n1, n2) = pair().await;
    let mut client = ClusterServiceClient::new(n1.remote(Some(&n2.identity())).await);
    let request = ConfirmNodeRequest { node_name: "n1".into(), votes: 5 };
    let status = client.confirm_node(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "FOREIGN_CERTIFICATE"));
}

#[tokio::test]
async fn a_new_certificate_is_used_by_the_next_connection_without_a_restart() {
    let node = TestNode::start(&World::new(), "n1", true).await;
    let before = node.identity().chain[0].clone();
    node.create().await.unwrap();
    assert_ne!(node.identity().chain[0], before);
    // Pinned to the new certificate.
    let mut client = ClusterServiceClient::new(node.remote(Some(&node.identity())).await);
    let cluster = client.get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
    assert_eq!(cluster.cluster_name, "demo");
    assert_eq!(cluster.ca_fingerprint, node.identity().ca_fingerprint().unwrap().to_string());
}
