//! Creating a cluster, and what is left when it fails: nothing.

use quorate_proto::gateway::v1::{CreateClusterRequest, GetNodeRequest, Transport};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::testing::{TestNode, World, hasty, lock, reason};

#[tokio::test]
async fn a_created_cluster_is_quorate_and_its_files_are_in_the_tree() {
    let world = World::new();
    let node = TestNode::start(&world, "n1", true).await;
    let request = CreateClusterRequest {
        cluster_name: "demo".into(),
        node_id: 4,
        votes: Some(2),
        ..CreateClusterRequest::default()
    };

    let answer = node.operator().create_cluster(request).await.unwrap().into_inner();

    assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
    let conf = world.conf();
    assert!(conf.totem.is_protected());
    assert_eq!(std::fs::read(node.root.authkey()).unwrap().len(), 256);
    assert_eq!((conf.nodes[0].id.get(), conf.nodes[0].votes), (4, 2));
    assert_eq!(std::fs::read_to_string(node.root.corosync_conf()).unwrap(), answer.corosync_conf);
    let paths = world.paths();
    for path in [
        "pve-root-ca.pem",
        "priv/pve-root-ca.key",
        "nodes/n1/pve-ssl.pem",
        "nodes/n1/gateway",
        "nodes/n1/lxc",
    ] {
        assert!(paths.iter().any(|p| p == path), "{path} of {paths:?}");
    }
    let gateway = lock(&world.cluster_tree).entries["nodes/n1/gateway"].0.clone().unwrap();
    assert_eq!(gateway, format!("{}\n", node.address));
}

#[tokio::test]
async fn all_failed_checks_are_told_together_and_nothing_is_changed() {
    let world = World::new();
    let node = TestNode::start(&world, "n1", true).await;
    let request = CreateClusterRequest {
        cluster_name: "much-too-long-a-name".into(),
        votes: Some(0),
        link_addresses: vec!["192.0.2.1".into(), "127.0.0.9".into(), "no-such-host.invalid".into()],
        link_priorities: vec![1, 256],
        transport: Transport::Udp.into(),
        ..CreateClusterRequest::default()
    };

    let status = node.operator().create_cluster(request).await.unwrap_err();

    assert_eq!(status.code(), Code::FailedPrecondition);
    let violations = status.get_details_precondition_failure().unwrap().violations;
    let reasons: Vec<&str> = violations.iter().map(|v| v.r#type.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "CLUSTER_NAME_INVALID",
            "VOTES_INVALID",
            "ADDRESS_NOT_LOCAL",
            "ADDRESS_UNRESOLVABLE",
            "LINKS_UNSUPPORTED",
            "LINK_PRIORITIES",
            "LINK_PRIORITY_INVALID"
        ]
    );
    assert!(world.paths().is_empty() && !node.is_in_cluster());
}

#[tokio::test]
async fn a_transport_without_protection_is_warned_of_and_gets_no_key() {
    let world = World::new();
    let node = TestNode::start(&world, "n1", true).await;
    let request = CreateClusterRequest {
        cluster_name: "demo".into(),
        transport: Transport::Udpu.into(),
        ..CreateClusterRequest::default()
    };

    let answer = node.operator().create_cluster(request).await.unwrap().into_inner();

    assert!(answer.warnings[0].contains("neither authenticated nor encrypted"));
    assert!(!world.conf().totem.is_protected() && !node.root.authkey().exists());
}

#[tokio::test]
async fn a_daemon_that_does_not_run_is_found_before_anything_is_changed() {
    let world = World::new();
    let node = TestNode::start(&world, "n1", true).await;
    std::fs::remove_file(node.root.socket("quorumd")).unwrap();

    let status = node.create().await.unwrap_err();

    assert_eq!(reason(&status), "DAEMON_UNAVAILABLE");
    assert!(status.message().contains("quorumd does not answer"), "{}", status.message());
    assert!(world.paths().is_empty() && !node.is_in_cluster());
}

#[tokio::test]
async fn a_second_create_is_refused() {
    let node = TestNode::start(&World::new(), "n1", true).await;
    node.create().await.unwrap();
    let status = node.create().await.unwrap_err();
    assert_eq!(reason(&status), "ALREADY_IN_CLUSTER");
    assert!(status.message().contains("cluster 'demo' already"), "{}", status.message());
}

#[tokio::test]
async fn a_create_whose_ring_does_not_form_leaves_nothing_behind() {
    let world = World::new();
    let node = TestNode::start_with(&world, "n1", true, hasty()).await;
    lock(&world.cluster_tree).put("nodes/n1/qemu-server/100.conf", Some("cores: 1".into()));
    let before = world.paths();
    let fingerprint = node.identity().chain.clone();
    world.cut_off("n1");

    let status = node.create().await.unwrap_err();

    assert_eq!(reason(&status), "RING_TIMEOUT");
    assert!(
        status.message().ends_with("everything was undone, this node is in no cluster"),
        "{}",
        status.message()
    );
    assert!(!node.is_in_cluster());
    assert_eq!(world.paths(), before);
    assert_eq!(node.identity().ca_fingerprint(), None);
    assert_eq!(node.identity().chain.len(), fingerprint.len());
}

#[tokio::test]
async fn the_state_of_each_daemon_is_told() {
    let node = TestNode::start(&World::new(), "n1", true).await;
    node.daemons.cancel();
    let daemons = node.operator().get_node(GetNodeRequest {}).await.unwrap().into_inner().daemons;
    let names: Vec<&str> = daemons.iter().map(|daemon| daemon.name.as_str()).collect();
    assert_eq!(names, ["membershipd", "quorumd", "configd", "gatewayd"]);
    assert!(daemons[3].serving);
}
