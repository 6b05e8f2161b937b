//! A cluster that loses its power comes back with all its data; a node that was away catches up; a node that is alone
//! does not write, unless its operator says so, and then the others take over what it wrote.

use cluster_tests::{
    Lab, cli, replicas, wait,
    writer::{self, Writer},
};
use playground::Node;
use quorate_proto::config::v1::get_status_response::State;

/// More writes than a few bursts: what a node that was away must fetch.
const MANY: usize = 200;

/// All nodes lose their power at once.
async fn power_failure(lab: &Lab) {
    // One after the other, but faster than a token may be late: no node notices the end of another.
    let kills = lab.all().into_iter().cloned().map(|node| tokio::spawn(async move { node.kill(None).await }));
    for kill in kills.collect::<Vec<_>>() {
        kill.await.expect("no panic").expect("the node runs");
    }
}

async fn start(nodes: &[&Node]) {
    for node in nodes {
        node.start().await.expect("the node starts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_lose_their_power_during_writes_and_come_back_with_every_acknowledged_file() {
    let lab = Lab::cluster(3).await;
    let mut writer = Writer::start(lab.node(1), "before");
    writer.progress(30).await;

    power_failure(&lab).await;
    let record = writer.stop().await;
    start(&lab.all()).await;

    let replica = lab.settled(&lab.all()).await;
    println!("{} files were acknowledged before the power failure; now {replica}", record.acknowledged.len());
    for node in lab.all() {
        writer::check(node, &record).await;
    }
    cli::put(lab.node(3), "after", "writable again\n").await;
    lab.settled(&lab.all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_missed_many_writes_catches_up() {
    let lab = Lab::cluster(3).await;
    let away = lab.node(3);
    away.kill(None).await.expect("the node runs");
    wait::quorate_with(&[lab.node(1), lab.node(2)], &[1, 2]).await;
    let mut writer = Writer::start(lab.node(1), "missed");
    writer.progress(MANY).await;

    away.start().await.expect("the node starts");
    wait::quorate_with(&lab.all(), &[1, 2, 3]).await;
    // It catches up while the others go on writing.
    writer.progress(20).await;
    let record = writer.stop().await;

    let replica = lab.settled(&lab.all()).await;
    println!("{} files were acknowledged; {replica}", record.acknowledged.len());
    writer::check(away, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_alone_only_reads_and_pvecm_expected_makes_it_write() {
    let lab = Lab::cluster(3).await;
    let (survivor, others) = (lab.node(1), [lab.node(2), lab.node(3)]);
    cli::put(survivor, "datacenter.cfg", "keyboard: de\n").await;
    let before = lab.settled(&lab.all()).await;
    power_failure(&lab).await;

    start(&[survivor]).await;
    replicas::is(survivor, State::ReadOnly).await;
    assert_eq!(cli::pvecm(survivor, &["status"]).await.code, Some(2));
    assert_eq!(cli::done(survivor, &["cfg", "get", "datacenter.cfg"]).await, "keyboard: de\n");
    let refused = cli::pipe(survivor, "alone\n", &["cfg", "put", "alone"]).await;
    assert_eq!(refused.code, Some(255), "{refused:?}");
    assert!(refused.err.starts_with("error[NOT_QUORATE]"), "{refused:?}");

    cli::done(survivor, &["expected", "1"]).await;
    replicas::is(survivor, State::Synchronised).await;
    cli::put(survivor, "alone", "written by the only survivor\n").await;
    cli::done(survivor, &["cfg", "rm", "datacenter.cfg"]).await;

    start(&others).await;
    let after = lab.settled(&lab.all()).await;
    assert!(after.version > before.version, "{before}, then {after}");
    for node in lab.all() {
        assert_eq!(cli::done(node, &["cfg", "get", "alone"]).await, "written by the only survivor\n");
        let gone = cli::pvecm(node, &["cfg", "get", "datacenter.cfg"]).await;
        assert!(gone.err.contains("NOT_FOUND"), "{gone:?}");
        assert_eq!(replicas::status(node).await.expect("it answers").conflict_copies, 0);
    }
    let what = "the override ends when all are back";
    wait::votes_until(survivor, what, |status| status.expected_votes == 3 && status.quorum == 2).await;
}
