//! A node is removed for good: everything of it goes in one step, and when it starts again on the same network nothing
//! happens to the cluster.

use std::{fs, time::Duration};

use cluster_tests::{Lab, cli, wait};
use playground::Node;
use quorate_proto::membership::v1::{
    GetStatusRequest, GetStatusResponse, membership_service_client::MembershipServiceClient,
};
use tonic::Request;

async fn ring(node: &Node) -> GetStatusResponse {
    wait::until("the state of the ring", async || {
        let mut request = Request::new(GetStatusRequest {});
        request.set_timeout(Duration::from_secs(5));
        let answer = MembershipServiceClient::new(node.gateway()).get_status(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    })
    .await
}

/// Waits until each of the nodes uses another key than the one of before, and refuses that.
async fn all_have_a_new_key(nodes: &[&Node], old: &[u8]) {
    for node in nodes {
        // The key comes into force with the new corosync.conf, once all members have stored that.
        wait::until("a new key", async || {
            let key = fs::read(node.root().authkey()).map_err(|error| error.to_string())?;
            if key == old { Err(format!("{} has the old key", node.name())) } else { Ok(()) }
        })
        .await;
        wait::until("the old key is refused", async || {
            let log = fs::read_to_string(node.log("membershipd")).map_err(|error| error.to_string())?;
            let done = log.contains("packets with the old key are refused");
            if done { Ok(()) } else { Err(format!("{} still takes it", node.name())) }
        })
        .await;
    }
    let keys: Vec<_> = nodes.iter().map(|node| fs::read(node.root().authkey()).expect("a key")).collect();
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "the members have one key");
}

/// What the document shows of a cluster of four.
async fn all_four_are_shown(node: &Node) {
    let nodes = cli::done(node, &["nodes"]).await;
    let table = "         1          1 hp1 (local)\n         2          1 hp2\n         3          1 hp3\n         4          1 hp4\n";
    assert!(nodes.ends_with(table), "{nodes}");
    let status = cli::done(node, &["status"]).await;
    for line in
        ["Nodes:            4\n", "Expected votes:   4\n", "Highest expected: 4\n", "Quorum:           3  \n"]
    {
        assert!(status.contains(line), "{line} is not in {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_that_starts_again_changes_nothing() {
    let lab = Lab::cluster(4).await;
    let (rest, gone) = ([lab.node(1), lab.node(2), lab.node(3)], lab.node(4));
    let old_key = fs::read(gone.root().authkey()).expect("there is a key");
    all_four_are_shown(rest[0]).await;
    cli::put(rest[0], "nodes/hp4/lxc/104.conf", "cores: 1\n").await;
    cli::put(rest[0], "priv/authorized_keys", "ssh-rsa AAAA root@hp1\nssh-rsa BBBB root@hp4\n").await;
    gone.kill(None).await.expect("it runs");
    lab.settled(&rest).await;
    let before = ring(rest[0]).await;

    let dry = cli::done(rest[0], &["delnode", "hp4", "--dry-run"]).await;
    assert!(dry.contains("the ring gets a new key"), "{dry}");
    let said = cli::pvecm(rest[0], &["delnode", "hp4"]).await;

    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{}", said.err);
    assert!(said.err.contains("104 (hp4)"), "the guest that went with it is told: {}", said.err);
    all_have_a_new_key(&rest, &old_key).await;
    lab.settled(&rest).await;
    let status = cli::done(rest[0], &["status"]).await;
    for line in
        ["Nodes:            3\n", "Expected votes:   3\n", "Total votes:      3\n", "Quorum:           2  \n"]
    {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    let keys = cli::done(rest[1], &["cfg", "get", "priv/authorized_keys"]).await;
    assert_eq!(keys, "ssh-rsa AAAA root@hp1\n");
    let archive = format!("priv/removed/hp4-{}", before.config_version + 1);
    let guest = format!("{archive}/node/lxc/104.conf");
    cli::done(rest[2], &["cfg", "mv", &guest, "nodes/hp1/lxc/104.conf"]).await;
    assert!(cli::done(rest[0], &["guests"]).await.contains("104"));

    let present = ring(rest[0]).await;
    gone.start().await.expect("it starts");
    wait::votes_until(gone, "hp4 is alone and knows it", |votes| votes.ring_present && !votes.quorate).await;
    wait::until("its packets to arrive", async || {
        let now = ring(rest[0]).await;
        let unlisted = |status: &GetStatusResponse| status.dropped["unlisted_address"];
        let heard = unlisted(&now) - unlisted(&present);
        if heard >= 20 { Ok(()) } else { Err(format!("{heard} were counted")) }
    })
    .await;

    let said = cli::pvecm(rest[0], &["status"]).await;
    assert!(said.err.contains("removed node transmitting: 'hp4'"), "{}", said.err);
    assert!(said.out.contains("Nodes:            3\n"), "{}", said.out);

    let after = ring(rest[0]).await;
    assert_eq!(after.ring, present.ring, "no new ring was formed");
    assert_eq!(after.counters["gather_entered"], present.counters["gather_entered"]);
    cli::put(rest[1], "after", "the cluster works\n").await;
    lab.settled(&rest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_while_it_runs_is_out_and_never_reads_the_new_key() {
    let lab = Lab::cluster(3).await;
    let (rest, gone) = ([lab.node(1), lab.node(2)], lab.node(3));
    let old_key = fs::read(gone.root().authkey()).expect("there is a key");

    let refused = cli::pvecm(rest[0], &["delnode", "hp3"]).await;
    assert!(refused.code == Some(255) && refused.err.contains("NODE_ONLINE"), "{}", refused.err);
    cli::done(rest[0], &["delnode", "hp3", "--even-if-online"]).await;

    all_have_a_new_key(&rest, &old_key).await;
    lab.settled(&rest).await;
    assert_eq!(fs::read(gone.root().authkey()).expect("there is a key"), old_key);
    wait::votes_until(gone, "hp3 is alone and knows it", |votes| votes.ring_present && !votes.quorate).await;
    let key = cli::pvecm(gone, &["cfg", "get", "priv/corosync.key"]).await;
    assert_ne!(key.code, Some(0), "it read {}", key.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_quorum_nothing_is_removed_until_the_votes_are_overridden_which_ends_by_itself() {
    let lab = Lab::cluster(2).await;
    let (survivor, gone) = (lab.node(1), lab.node(2));
    gone.kill(None).await.expect("it runs");
    wait::votes_until(survivor, "hp2 is missed", |votes| votes.ring_present && !votes.quorate).await;
    let refused = cli::pvecm(survivor, &["delnode", "hp2"]).await;
    assert!(refused.code == Some(255) && refused.err.contains("NOT_QUORATE"), "{}", refused.err);
    let dry = cli::done(survivor, &["expected", "1", "--dry-run"]).await;
    assert!(dry.contains("this part would be quorate\nmissing: hp2\n"), "{dry}");

    cli::done(survivor, &["expected", "1", "--for", "4s"]).await;
    let shown = cli::pvecm(survivor, &["status"]).await;
    assert!(shown.code != Some(0) || shown.err.contains("overridden to 1 until"), "{}", shown.err);
    wait::votes_until(survivor, "the override has expired", |votes| {
        votes.ring_present && !votes.quorate && votes.expected_votes == 2 && votes.expected_override.is_none()
    })
    .await;

    // A script, which nobody asks: the two commands of the document, one right after the other.
    cli::done(survivor, &["expected", "1"]).await;
    cli::done(survivor, &["delnode", "hp2"]).await;

    lab.settled(&[survivor]).await;
    let votes = wait::votes_until(survivor, "one vote is expected", |votes| votes.expected_votes == 1).await;
    assert_eq!(votes.expected_override, None, "the new configuration says what to expect");
    let log = cli::done(survivor, &["log"]).await;
    assert!(log.contains("expected votes set to 1 on 'hp1' by local user"), "{log}");
    assert!(log.contains("node 'hp2' (id 2) removed"), "{log}");
    let notes = cli::done(survivor, &["cfg", "get", "priv/quorate/overrides.log"]).await;
    assert_eq!(notes.lines().count(), 2, "{notes}");
}
