//! What quorumd says while rings come and go below it.

mod support;

use quorate_proto::{
    membership::v1::Member,
    quorum::v1::{QuorumStatus, quorum_node::State},
    types::v1::RingId,
};
use support::{Node, corosync_conf, nodeinfo, soon, three_nodes};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const ALL: [(u32, u32, u32); 3] = [(1, 1, 3), (2, 1, 3), (3, 1, 3)];

async fn is_serving(node: &Node) -> bool {
    let service = "quorate.quorum.v1.QuorumService".to_owned();
    let answer = HealthClient::new(node.channel()).check(HealthCheckRequest { service }).await;
    answer.expect("health answers").into_inner().status() == ServingStatus::Serving
}

fn states(status: &QuorumStatus) -> Vec<(u32, State)> {
    status.nodes.iter().map(|node| (node.node_id, node.state())).collect()
}

#[tokio::test]
async fn without_a_cluster_there_is_no_quorum_and_the_reason_says_so() {
    let node = Node::start(None);
    let status = node.watch().await.next().await.unwrap();

    assert!(!status.quorate && !status.ring_present);
    assert_eq!((status.node_id, status.nodes.len()), (0, 0));
    assert_eq!(status.reason, "this node is not part of a cluster");
    assert!(!is_serving(&node).await);
}

#[tokio::test]
async fn before_the_first_ring_every_configured_node_is_listed_as_unseen() {
    let node = Node::start(Some(&three_nodes()));
    let status = node.watch().await.next().await.unwrap();

    assert_eq!(states(&status), [(1, State::Unseen), (2, State::Unseen), (3, State::Unseen)]);
    assert_eq!((status.nodes[1].name.as_str(), status.nodes[1].address.as_str()), ("hp2", "10.0.0.2"));
    assert!(!status.quorate && !status.reason.is_empty());
    assert!(status.since.is_some() && status.nodes.iter().all(|node| node.since.is_none()));
}

#[tokio::test]
async fn a_synchronised_ring_with_enough_votes_is_quorate() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;

    let mut link = node.attached().await;
    link.form_ring(8, &ALL[..2]).await;

    let status = watch.until(|status| status.quorate).await;
    assert_eq!(status.ring, Some(RingId { rep: 1, seq: 8 }));
    assert_eq!((status.total_votes, status.quorum, status.expected_votes), (2, 2, 3));
    assert_eq!(states(&status), [(1, State::Member), (2, State::Member), (3, State::Unseen)]);
    assert_eq!(status.flags, ["Quorate"]);
    assert!(status.ring_present && status.reason.is_empty() && status.node_id == 1);
    assert_eq!(node.status().await, status);
}

#[tokio::test]
async fn loss_of_the_majority_ends_quorum_and_names_who_is_missing() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(8, &ALL).await;
    let quorate = watch.until(|status| status.quorate && status.total_votes == 3).await;
    *node.members.lock().unwrap() = vec![
        Member { node_id: 2, ..Member::default() },
        Member { node_id: 3, left_cleanly: true, ..Member::default() },
    ];

    link.form_ring(12, &ALL[..1]).await;

    let status = watch.until(|status| !status.quorate && status.reason.contains("left cleanly")).await;
    assert_eq!(states(&status), [(1, State::Member), (2, State::Dead), (3, State::Leaving)]);
    assert!(
        status.reason.starts_with("2 of 3 votes needed, 1 present; missing: hp2 (since "),
        "{}",
        status.reason
    );
    assert!(status.reason.contains(" UTC, lost), hp3 (since "), "{}", status.reason);
    assert!(status.ring_present, "the ring is there, only too small");
    assert_ne!(status.since, quorate.since);
    assert_eq!(status.nodes[0].since, quorate.nodes[0].since, "this node was there all the time");
}

#[tokio::test]
async fn a_broken_link_ends_quorum_at_once_and_a_new_one_brings_it_back() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(8, &ALL).await;
    watch.until(|status| status.quorate).await;
    assert!(is_serving(&node).await);

    drop(link);

    let lost = watch.until(|status| !status.quorate).await;
    assert!(!lost.ring_present);
    assert!(lost.reason.contains("membershipd"), "{}", lost.reason);
    assert!(!is_serving(&node).await);
    let mut link = node.attached().await;
    link.form_ring(12, &ALL).await;
    let back = watch.until(|status| status.quorate).await;
    assert_eq!(back.ring, Some(RingId { rep: 1, seq: 12 }));
}

#[tokio::test]
async fn leaving_the_ring_ends_quorum() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(8, &ALL).await;
    watch.until(|status| status.quorate).await;

    link.ring_down().await;

    let status = watch.until(|status| !status.quorate).await;
    assert_eq!(status.reason, "this node has left the ring");
}

#[tokio::test]
async fn a_link_with_nonsense_is_given_up_and_made_anew() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;
    let link = node.attached().await;

    link.send(vec![quorate_proto::membership::v1::service_event::Event::Message(
        quorate_proto::membership::v1::service_event::Message { from: 0, message: nodeinfo(2, 1, 3, 0) },
    )])
    .await;

    let status = watch.until(|status| status.reason.contains("makes no sense")).await;
    assert!(status.reason.ends_with("node id 0"), "{}", status.reason);
    node.attached().await;
}

#[tokio::test]
async fn wait_for_all_is_the_reason_until_all_were_seen() {
    let conf = corosync_conf(1, &[("hp1", 1, 1), ("hp2", 2, 1)], "  two_node: 1\n");
    let mut node = Node::start(Some(&conf));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;

    link.form_ring(4, &[(1, 1, 2)]).await;
    let alone = watch.until(|status| status.ring_present).await;
    link.form_ring(8, &[(1, 1, 2), (2, 1, 2)]).await;
    let together = watch.until(|status| status.quorate).await;
    link.form_ring(12, &[(1, 1, 2)]).await;
    let survivor = watch.until(|status| status.total_votes == 1).await;

    assert!(alone.reason.contains("(wait_for_all), 1 present; missing: hp2"), "{}", alone.reason);
    assert_eq!(together.flags, ["2Node", "Quorate", "WaitForAll"]);
    assert!(survivor.quorate, "one of two that have seen each other goes on");
}

#[tokio::test]
async fn the_numbers_are_on_the_metrics_page() {
    let mut node = Node::start(Some(&three_nodes()));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(8, &ALL[..2]).await;
    watch.until(|status| status.quorate).await;

    let text = node.daemon.metrics.encode();

    for line in [
        "quorum_quorate 1",
        "quorum_votes_total 2",
        "quorum_votes_expected 3",
        "quorum_votes_needed 2",
        "quorum_members 2",
        "quorum_changes_total 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn stopping_ends_watches_with_unavailable_and_says_good_bye() {
    let conf = corosync_conf(1, &[("hp1", 1, 1), ("hp2", 2, 1), ("hp3", 3, 1)], "  allow_downscale: 1\n");
    let mut node = Node::start(Some(&conf));
    let mut watch = node.watch().await;
    let mut link = node.attached().await;
    link.form_ring(8, &ALL).await;
    watch.until(|status| status.quorate).await;

    let (ended, leaving) = tokio::join!(node.stop_quorumd(), async {
        loop {
            use quorate_proto::membership::v1::attach_service_request::Request::Multicast;
            match link.request().await {
                Some(Multicast(message)) if message[28] & 2 != 0 => return true,
                Some(_) => {}
                None => return false,
            }
        }
    });

    assert!(ended.is_ok());
    assert!(leaving, "the leaving flag of nodeinfo is multicast");
    let err = soon("the watch ends", async {
        loop {
            if let Err(err) = watch.next().await {
                return err;
            }
        }
    });
    assert_eq!(err.await.code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn without_membershipd_the_reason_says_so() {
    let mut node = Node::start(Some(&three_nodes()));
    node.stop_membershipd().await;
    let mut watch = node.watch().await;

    let status = watch.until(|status| status.reason.contains("not reachable")).await;

    assert_eq!(status.reason, "membershipd is not reachable: No such file or directory (os error 2)");
    assert!(!status.quorate && !status.ring_present);
}
