//! corosync.conf at start and at reload, the operator's override, and what survives a restart.

mod support;

use std::fs;

use quorate_daemon::{Failure, status};
use quorate_proto::{
    quorum::v1::{ReloadRequest, SetExpectedRequest},
    types::v1::RingId,
};
use support::{Node, corosync_conf, soon, three_nodes};
use tonic::{Code, Status};

const ALL: [(u32, u32, u32); 3] = [(1, 1, 3), (2, 1, 3), (3, 1, 3)];

async fn set_expected(node: &Node, expected_votes: u32) -> Result<u32, Status> {
    let request = SetExpectedRequest { expected_votes, lifetime: None };
    let answer = node.client().set_expected(request).await?.into_inner();
    Ok(answer.status.map_or(0, |status| status.expected_votes))
}

async fn reload(node: &Node) -> Result<u64, Status> {
    Ok(node.client().reload(ReloadRequest {}).await?.into_inner().config_version)
}

#[tokio::test]
async fn a_malformed_file_at_start_is_a_configuration_error_with_file_line_and_key() {
    let mut node = Node::start(Some(&three_nodes().replace("quorum_votes: 1", "quorum_votes: one")));

    let ended = soon("quorumd ends", node.ended()).await;

    let failure = ended.unwrap_err();
    let text = failure.error().to_string();
    assert!(matches!(failure, Failure::Configuration(_)));
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.contains("etc/corosync/corosync.conf: line 10: nodelist.node.quorum_votes: 'one' "),
        "{text}"
    );
}

#[tokio::test]
async fn too_few_expected_votes_are_refused_with_the_numbers() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(8, &ALL).await;
    watch.until(|status| status.total_votes == 3).await;

    for given in [0, 1, 2] {
        let refused = set_expected(&node, given).await.unwrap_err();

        assert_eq!(refused.code(), Code::InvalidArgument);
        let metadata = status::reason(&refused).unwrap().metadata;
        assert_eq!(metadata["expected_votes"], given.to_string());
    }
    let refused = set_expected(&node, 2).await.unwrap_err();
    assert_eq!(status::reason(&refused).unwrap().metadata["present_votes"], "3");
    assert_eq!(
        refused.message(),
        "the expected votes stay as they are: 2 expected votes are less than the 3 votes present; give 3 or more"
    );
}

#[tokio::test]
async fn an_override_is_in_force_once_the_ring_has_delivered_it() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(8, &ALL[..1]).await;
    watch.until(|status| status.ring_present && !status.quorate).await;

    let (answer, ()) = tokio::join!(set_expected(&node, 1), async {
        // The engine's own announcement comes first.
        while link.deliver_next_multicast(1).await[8..12] != 32_u32.to_le_bytes() {}
        while !node.status().await.quorate {
            link.deliver_next_multicast(1).await;
        }
    });

    assert_eq!(answer.unwrap(), 1);
    let status = watch.until(|status| status.quorate).await;
    assert_eq!((status.quorum, status.total_votes), (1, 1));
}

#[tokio::test]
async fn without_a_ring_expected_votes_cannot_be_overridden() {
    let node = Node::start(Some(&three_nodes()));
    node.watch().await;

    let refused = set_expected(&node, 1).await.unwrap_err();

    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(status::reason(&refused).unwrap().reason, "NO_RING");
}

#[tokio::test]
async fn without_a_cluster_expected_votes_cannot_be_overridden() {
    let node = Node::start(None);
    node.watch().await;

    let refused = set_expected(&node, 1).await.unwrap_err();

    assert!(refused.message().ends_with("this node is not part of a cluster"), "{}", refused.message());
}

#[tokio::test]
async fn a_malformed_reload_leaves_the_old_configuration_in_force() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(8, &ALL).await;
    let before = watch.until(|status| status.total_votes == 3).await;
    node.write_conf(&three_nodes().replace("nodeid: 2", "nodeid: two"));

    let refused = reload(&node).await.unwrap_err();

    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("line 15: nodelist.node.nodeid: "), "{}", refused.message());
    assert_eq!(node.status().await, before);
}

#[tokio::test]
async fn a_nodelist_that_forgot_this_node_is_refused_at_reload() {
    let node = Node::start(Some(&three_nodes()));
    node.watch().await;
    node.write_conf(&three_nodes().replace("name: hp1", "name: hp9"));

    let refused = reload(&node).await.unwrap_err();

    assert_eq!(status::reason(&refused).unwrap().reason, "NODE_NOT_LISTED");
    assert_eq!(node.status().await.node_id, 1);
}

#[tokio::test]
async fn a_node_added_by_reload_is_listed_at_once() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(8, &ALL).await;
    watch.until(|status| status.total_votes == 3).await;
    node.write_conf(&corosync_conf(8, &[("hp1", 1, 1), ("hp2", 2, 1), ("hp3", 3, 1), ("hp4", 4, 1)], ""));

    let version = reload(&node).await.unwrap();

    assert_eq!(version, 8);
    let status = node.status().await;
    assert_eq!(
        status.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
        ["hp1", "hp2", "hp3", "hp4"]
    );
    assert_eq!(status.expected_votes, 4);
    assert!(status.quorate, "three of four");
}

#[tokio::test]
async fn a_member_that_has_all_nodes_reload_is_obeyed_unless_the_file_has_mistakes_or_is_gone() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(8, &ALL).await;
    watch.until(|status| status.total_votes == 3).await;

    node.write_conf("totem {");
    link.configuration_reloaded().await;
    fs::remove_file(node.daemon.root.corosync_conf()).unwrap();
    link.configuration_reloaded().await;
    node.write_conf(&corosync_conf(8, &[("hp1", 1, 1), ("hp2", 2, 1), ("hp3", 3, 1), ("hp4", 4, 1)], ""));
    link.configuration_reloaded().await;

    let status = watch.until(|status| status.expected_votes == 4).await;
    assert_eq!((status.nodes.len(), status.total_votes, status.quorate), (4, 3, true));
    assert_eq!(status.ring, Some(RingId { rep: 1, seq: 8 }), "the link and the ring stay");
}

#[tokio::test]
async fn a_node_that_comes_into_a_cluster_attaches_anew_and_votes() {
    let mut node = Node::start(None);
    let mut watch = node.watch().await;
    let first = node.attached().await;
    node.write_conf(&corosync_conf(1, &[("hp1", 1, 1)], ""));

    let version = reload(&node).await.unwrap();
    drop(first);
    let mut link = node.attached().await;
    link.form_ring(4, &[(1, 1, 1)]).await;

    assert_eq!(version, 1);
    let status = watch.until(|status| status.quorate).await;
    assert_eq!((status.node_id, status.total_votes), (1, 1));
}

#[tokio::test]
async fn tracked_expected_votes_survive_a_restart() {
    let mut node = Node::start(Some(&corosync_conf(1, &[("hp1", 1, 1)], "  expected_votes_tracking: 1\n")));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(4, &[(1, 1, 1), (2, 1, 1)]).await;
    watch.until(|status| status.expected_votes == 2).await;
    assert_eq!(fs::read_to_string(node.daemon.state_dir().join("ev_tracking")).unwrap(), "2\n");

    node.stop_quorumd().await.unwrap();
    node.start_quorumd();

    let status = node.watch().await.next().await.unwrap();
    assert_eq!(status.expected_votes, 2);
}
