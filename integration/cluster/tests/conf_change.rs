//! A new corosync.conf: all members take it together, or none does; one that breaks the ring goes away by itself.

use std::{fs, net::UdpSocket};

use cluster_tests::{Lab, cli, wait};
use playground::Node;

fn with_version(conf: &str, version: u64) -> String {
    let old = conf.lines().find(|line| line.contains("config_version")).expect("every file has a version");
    conf.replace(old, &format!("  config_version: {version}"))
}

/// Waits until the local file of a node has this version, and gives its text.
async fn local_version(node: &Node, version: u64) -> String {
    let line = format!("config_version: {version}\n");
    wait::until(&format!("{}: {line}", node.name()), async || {
        let text = fs::read_to_string(node.root().corosync_conf()).map_err(|error| error.to_string())?;
        if text.contains(&line) { Ok(text) } else { Err(text) }
    })
    .await
}

/// Waits until every node uses the file that the tree has, with this version.
async fn all_use(lab: &Lab, version: u64) {
    let text = local_version(lab.node(1), version).await;
    for node in lab.all() {
        assert_eq!(local_version(node, version).await, text, "{}", node.name());
        wait::until("the same file in the tree", async || {
            let said = cli::pvecm(node, &["cfg", "get", "corosync.conf"]).await;
            if said.out == text { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
    }
}

/// Whether a node has ever used a file of this version.
fn ever_used(node: &Node, version: u64) -> bool {
    let log = fs::read_to_string(node.log("configd")).expect("configd has a log");
    let is_it = |line: &str| {
        line.contains("corosync.conf of this node replaced")
            && line.contains(&format!("config_version={version}"))
    };
    log.lines().any(is_it)
}

async fn cluster_log_says(node: &Node, words: &[&str]) {
    wait::until(&format!("{words:?} in the cluster log"), async || {
        let said = cli::pvecm(node, &["log"]).await;
        if words.iter().all(|word| said.out.contains(word)) { Ok(()) } else { Err(said.out) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_member_cannot_use_no_member_uses() {
    let lab = Lab::cluster(3).await;
    let conf = cli::done(lab.node(1), &["cfg", "get", "corosync.conf"]).await;
    // Only hp2 can see that: a ring with another cipher is built anew from the key.
    fs::remove_file(lab.node(2).root().authkey()).expect("there is a key");
    let bad = with_version(&conf, 100).replace("secauth: on", "secauth: on\n  crypto_hash: sha512");

    cli::put(lab.node(1), "corosync.conf", &bad).await;

    // The file before comes back with the next version; hp2 needs its key for that.
    cluster_log_says(lab.node(3), &["config_version 100 is not used", "authkey"]).await;
    for node in lab.all() {
        assert!(!ever_used(node, 100), "{}", node.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_the_ring_goes_away_by_itself() {
    let lab = Lab::cluster(2).await;
    let conf = cli::done(lab.node(1), &["cfg", "get", "corosync.conf"]).await;
    // Nobody can know before that hp2 does not get its socket.
    let taken = UdpSocket::bind((lab.node(2).address(), 0)).expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let bad =
        with_version(&conf, 100).replace("linknumber: 0", &format!("linknumber: 0\n    mcastport: {port}"));
    assert!(bad.contains("mcastport"), "{bad}");

    cli::put(lab.node(1), "corosync.conf", &bad).await;
    local_version(lab.node(1), 100).await;

    all_use(&lab, 101).await;
    lab.settled(&lab.all()).await;
    cluster_log_says(lab.node(1), &["config_version 100 is not used", "comes back as 101"]).await;
    let back = cli::done(lab.node(2), &["cfg", "get", "corosync.conf"]).await;
    assert!(!back.contains("mcastport"), "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_that_would_cost_the_quorum_are_taken_back() {
    let lab = Lab::cluster(2).await;
    let conf = cli::done(lab.node(1), &["cfg", "get", "corosync.conf"]).await;
    let bad = with_version(&conf, 100).replace("provider:", "expected_votes: 9\n  provider:");
    cli::put(lab.node(1), "corosync.conf", &bad).await;

    all_use(&lab, 101).await;
    lab.settled(&lab.all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_file_never_changes_the_clusters_and_a_differing_one_is_named() {
    let lab = Lab::cluster(2).await;
    let conf = cli::done(lab.node(1), &["cfg", "get", "corosync.conf"]).await;
    let local = lab.node(2).root().corosync_conf();
    fs::write(&local, format!("{conf}\n# by hand\n")).expect("writable");

    wait::until("a note that hp2 differs", async || {
        let said = cli::pvecm(lab.node(1), &["status"]).await;
        if said.err.contains("corosync.conf of hp2") { Ok(()) } else { Err(said.err) }
    })
    .await;
    assert_eq!(cli::done(lab.node(2), &["cfg", "get", "corosync.conf"]).await, conf);

    // The next change of the cluster's file replaces it.
    cli::put(lab.node(1), "corosync.conf", &with_version(&conf, 100)).await;
    all_use(&lab, 100).await;
}
