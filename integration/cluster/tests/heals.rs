//! A daemon that is killed is started again, and its node finds back by itself: on an idle cluster, during writes,
//! right after the loss of another node. No acknowledged write is lost, and all replicas are equal afterwards.

use std::time::{Duration, Instant};

use cluster_tests::{
    Lab, PATIENCE, cli, wait,
    writer::{self, Writer},
};
use playground::{Node, votes::members};
use quorate_node::DAEMONS;

/// How soon quorumd must say that membershipd is gone: far less than the second that a token may be late.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Kills a daemon of a node and waits until its supervisor has started another one.
async fn kill(node: &Node, daemon: &str) {
    let before = node.pid(daemon);
    println!("{}: {daemon} is killed", node.name());
    node.kill(Some(daemon)).await.expect("the daemon runs");
    wait::until(&format!("a new {daemon}"), async || match node.pid(daemon) {
        Some(pid) if Some(pid) != before => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_on_an_idle_cluster_comes_back() {
    let lab = Lab::cluster(3).await;
    let victim = lab.node(2);

    for daemon in DAEMONS {
        let killed = Instant::now();
        kill(victim, daemon).await;

        lab.settled(&lab.all()).await;
        let status = wait::until("pvecm status succeeds", async || {
            let said = cli::pvecm(victim, &["status"]).await;
            if said.code == Some(0) { Ok(said) } else { Err(said.err) }
        })
        .await;
        assert_eq!(status.value("Total votes"), Some("3"));
        cli::put(victim, &format!("after/{daemon}"), "written where it died\n").await;
        println!("{daemon}: healed within {} ms", killed.elapsed().as_millis());
    }
    lab.settled(&lab.all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quorumd_is_not_quorate_at_once_when_its_membershipd_dies_and_recovers() {
    let lab = Lab::cluster(3).await;
    let victim = lab.node(2);
    let mut votes = wait::votes(victim).await;
    votes.until("quorate", PATIENCE, |status| status.quorate).await.expect("the cluster is quorate");

    victim.kill(Some("membershipd")).await.expect("membershipd runs");
    let status = votes.until("not quorate", AT_ONCE, |status| !status.quorate).await;

    let status = status.expect("quorumd notices the end of its link");
    assert!(!status.ring_present, "{status:?}");
    assert!(!status.reason.is_empty(), "{status:?}");
    let recovered = votes.until("quorate with all", PATIENCE, |status| {
        status.quorate && members(status) == [1, 2, 3] && status.ring_present
    });
    recovered.await.expect("the same stream tells the recovery");
    lab.settled(&lab.all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_when_a_daemon_is_killed_during_writes() {
    let lab = Lab::cluster(3).await;
    let victim = lab.node(2);
    let mut there = Writer::start(victim, "through-the-victim");
    let mut elsewhere = Writer::start(lab.node(1), "through-another");

    for daemon in DAEMONS {
        there.progress(5).await;
        elsewhere.progress(5).await;
        kill(victim, daemon).await;
        there.progress(5).await;
        elsewhere.progress(5).await;
    }

    let (there, elsewhere) = (there.stop().await, elsewhere.stop().await);
    let replica = lab.settled(&lab.all()).await;
    println!("all replicas are equal: {replica}");
    for record in [&there, &elsewhere] {
        let (known, refused) = (record.acknowledged.len(), record.refused.len());
        println!("{known} acknowledged, {refused} refused, failed: {:?}", record.unknown);
        for node in lab.all() {
            writer::check(node, record).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_right_after_the_loss_of_a_node_comes_back() {
    let lab = Lab::cluster(3).await;
    let (first, victim, lost) = (lab.node(1), lab.node(2), lab.node(3));

    for daemon in DAEMONS {
        lost.kill(None).await.expect("the node runs");
        kill(victim, daemon).await;

        lab.settled(&[first, victim]).await;
        cli::put(victim, &format!("without-hp3/{daemon}"), "two of three write\n").await;
        lost.start().await.expect("the node starts");
        lab.settled(&lab.all()).await;
    }
}

/// Changes one byte in the middle of every table file of a node's store.
fn damage_store(node: &Node) {
    let store = node.root().state_dir("configd").join("tree");
    let mut damaged = 0;
    for entry in std::fs::read_dir(&store).expect("the node has a store") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&path).expect("readable");
            bytes[0] ^= 0xff;
            std::fs::write(&path, bytes).expect("writable");
            damaged += 1;
        }
    }
    assert!(damaged > 0, "the store has table files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_damaged_is_filled_again_by_the_other_nodes() {
    // given: a restart has made table files of what was in the write-ahead log
    let lab = Lab::cluster(3).await;
    let victim = lab.node(2);
    cli::put(victim, "before", "on all three\n").await;
    kill(victim, "configd").await;
    lab.settled(&lab.all()).await;
    // when
    victim.kill(None).await.expect("the node runs");
    damage_store(victim);
    cli::put(lab.node(1), "meanwhile", "on two\n").await;
    victim.start().await.expect("the node starts");
    // then
    lab.settled(&lab.all()).await;
    for path in ["before", "meanwhile"] {
        cli::done(victim, &["cfg", "get", path]).await;
    }
    let log = cli::done(lab.node(1), &["log"]).await;
    assert!(log.contains("the store was damaged, is kept as"), "{log}");
    cli::put(victim, "after", "written by who was damaged\n").await;
}
