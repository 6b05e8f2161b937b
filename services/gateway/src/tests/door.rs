//! What passes the door reaches the right daemon and comes back whole.

use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use quorate_proto::membership::v1::{
    GroupRequest, ListLinksRequest, WatchConfigurationsRequest, group_event, group_request,
    membership_service_client::MembershipServiceClient,
};
use tonic::{Code, body::Body};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};
use tower::ServiceExt as _;

use crate::{
    metrics,
    testing::{TestNode, World, reason},
};

async fn node() -> TestNode {
    TestNode::start(&World::new(), "n1", true).await
}

fn membership(node: &TestNode) -> MembershipServiceClient<quorate_daemon::client::DaemonChannel> {
    MembershipServiceClient::new(node.local())
}

#[tokio::test]
async fn a_call_reaches_its_daemon_and_an_error_comes_back_with_its_details() {
    let node = node().await;
    let status = membership(&node).list_links(ListLinksRequest {}).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "NO_LINKS"));
}

#[tokio::test]
async fn a_server_stream_passes_as_it_comes() {
    let world = World::new();
    let node = TestNode::start(&world, "n1", true).await;
    let mut watch =
        membership(&node).watch_configurations(WatchConfigurationsRequest {}).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());

    world.changed.send_modify(|count| *count += 1);

    assert!(watch.message().await.unwrap().is_some());
}

#[tokio::test]
async fn a_stream_of_both_directions_is_answered_while_it_is_still_open() {
    let node = node().await;
    let sent = |payload: &'static [u8]| GroupRequest {
        request: Some(group_request::Request::Multicast(group_request::Multicast {
            payloads: vec![payload.into()],
        })),
    };
    let open = stream::iter([sent(b"one"), sent(b"two")]).chain(stream::pending());

    let mut answers = membership(&node).group(open).await.unwrap().into_inner();

    for expected in [&b"one"[..], b"two"] {
        let events = answers.message().await.unwrap().unwrap().events;
        let Some(group_event::Event::Message(message)) = &events[0].event else { panic!("{events:?}") };
        assert_eq!(message.payload, expected);
    }
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let node = node().await;
    for path in ["/quorate.quorum.v1.QuorumService/Explode", "/no.Such/Service", "/", "/x"] {
        let status = super::callers::call(node.local(), path).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn a_daemon_that_is_down_is_unavailable_by_its_name_and_back_after_its_restart() {
    let world = World::new();
    let node = TestNode::start(&world, "n1", true).await;
    let socket = node.root.socket("membershipd");
    std::fs::rename(&socket, socket.with_extension("away")).unwrap();

    let status = membership(&node).list_links(ListLinksRequest {}).await.unwrap_err();

    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "DAEMON_UNAVAILABLE"));
    assert!(status.message().starts_with("membershipd does not answer"), "{}", status.message());
    std::fs::rename(socket.with_extension("away"), &socket).unwrap();
    let status = membership(&node).list_links(ListLinksRequest {}).await.unwrap_err();
    assert_eq!(reason(&status), "NO_LINKS");
}

#[tokio::test]
async fn a_daemon_that_hangs_is_named_before_the_caller_gives_up() {
    let world = World::new();
    let node = TestNode::start(&world, "n1", true).await;
    let socket = node.root.socket("membershipd");
    std::fs::remove_file(&socket).unwrap();
    // Takes connections and says nothing.
    let _hanging = tokio::net::UnixListener::bind(&socket).unwrap();
    let request = quorate_daemon::client::deadline(ListLinksRequest {}, std::time::Duration::from_secs(2));

    let status = membership(&node).list_links(request).await.unwrap_err();

    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DAEMON_TIMEOUT"));
    assert!(status.message().starts_with("membershipd did not answer in time"), "{}", status.message());
    assert!(status.message().ends_with("/var/log/quorate/membershipd.log"), "{}", status.message());
}

async fn health(node: &TestNode, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: service.into() };
    let answer = HealthClient::new(node.local()).check(request).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

#[tokio::test]
async fn the_health_of_each_service_is_its_daemons_and_the_nodes_is_that_of_all() {
    let node = node().await;
    let mut watch =
        HealthClient::new(node.local()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    assert_eq!(health(&node, "").await, Ok(ServingStatus::Serving));
    assert_eq!(health(&node, "quorate.quorum.v1.QuorumService").await, Ok(ServingStatus::Serving));
    assert_eq!(health(&node, "quorate.gateway.v1.ClusterService").await, Ok(ServingStatus::Serving));
    assert_eq!(health(&node, "no.Such").await, Err(Code::NotFound));

    node.daemons.cancel();

    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn reflection_lists_the_services_of_all_daemons_in_both_versions() {
    let node = node().await;
    let expected = [
        "grpc.health.v1.Health",
        "quorate.config.v1.ConfigService",
        "quorate.config.v1.StatusService",
        "quorate.gateway.v1.ClusterService",
        "quorate.membership.v1.MembershipService",
        "quorate.quorum.v1.QuorumService",
    ];
    let ask = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(node.local());
    let mut answers = client.server_reflection_info(stream::iter([ask])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    assert!(expected.iter().all(|name| names.iter().any(|n| n == name)), "{names:?}");

    let ask = v1alpha::ServerReflectionRequest {
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
        ..Default::default()
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(node.local());
    let mut answers = client.server_reflection_info(stream::iter([ask])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
}

async fn page(node: &TestNode, path: &str) -> (u16, String) {
    let request = http::Request::get(path).body(Body::empty()).unwrap();
    let answer = node.local().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_metrics_of_all_daemons_are_one_page_and_each_has_its_own() {
    let node = node().await;
    membership(&node).list_links(ListLinksRequest {}).await.unwrap_err();

    let (status, all) = page(&node, "/metrics").await;

    assert_eq!(status, 200);
    for daemon in ["membershipd", "quorumd", "configd", "gatewayd"] {
        assert!(all.contains(&format!("quorate_daemon_up{{daemon=\"{daemon}\"}} 1")), "{all}");
    }
    assert_eq!(all.matches("# TYPE rpc_server_call_duration_seconds ").count(), 1, "{all}");
    assert!(all.contains("{daemon=\"membershipd\",method=\"quorate.membership.v1"), "{all}");
    let again = metrics::merge(&[metrics::Part { daemon: "x", text: Some(&all) }]);
    assert!(again.ends_with("# EOF\n"));
    let (status, one) = page(&node, "/metrics/quorumd").await;
    assert_eq!(status, 200);
    assert!(!one.contains("daemon="), "{one}");
    assert_eq!(page(&node, "/metrics/guestd").await.0, 404);
}
