//! Two nodes and a real arbiter, set up with `pvecm` alone: the cluster survives the loss of either node, and of the arbiter.

#[path = "../../../services/quorum/tests/support/arbiter.rs"]
#[allow(clippy::unwrap_used, dead_code, reason = "helpers of tests: a failure ends the test")]
mod arbiter;

use std::fs;

use arbiter::Arbiter;
use cluster_tests::{Lab, cli, wait};
use playground::{Node, votes::members};
use quorate_proto::quorum::v1::quorum_device::Vote;

/// Waits until a node is quorate with these members, and the arbiter says this.
async fn until(node: &Node, ids: &[u32], vote: Vote) {
    let what = format!("{} with {ids:?} and {vote:?}", node.name());
    wait::votes_until(node, &what, |status| {
        let says = status.device.as_ref().is_some_and(|device| device.vote() == vote);
        status.quorate && members(status) == ids && says
    })
    .await;
}

/// Has the request signed as an administrator of the arbiter does, and gives the arbiter its vote.
async fn set_up(lab: &Lab, arbiter: &Arbiter) {
    let dir = tempfile::tempdir().expect("the directory for temporary files can be used");
    let at = |name: &str| dir.path().join(name).display().to_string();
    cli::done(lab.node(1), &["qdevice", "request", &at("csr")]).await;
    let (ca, certificate) = arbiter.sign(&fs::read(at("csr")).expect("the request was written"));
    fs::write(at("ca"), ca).expect("writable");
    fs::write(at("crt"), certificate).expect("writable");
    let port = arbiter.port().to_string();
    let files = ["--ca", &at("ca"), "--certificate", &at("crt"), "--port", &port];
    // On the other node: the key is in the tree.
    cli::done(lab.node(2), &[&["qdevice", "setup", "127.0.0.1"], &files[..]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_survive_the_loss_of_either_and_of_the_arbiter() {
    if !arbiter::is_there() {
        return;
    }
    let mut arbiter = Arbiter::start("req");
    let lab = Lab::cluster(2).await;
    set_up(&lab, &arbiter).await;
    for node in lab.all() {
        until(node, &[1, 2], Vote::Granted).await;
    }
    let text = cli::done(lab.node(1), &["status"]).await;
    assert!(
        text.contains("A,V,NMW") && text.ends_with("0x00000000          1            Qdevice\n"),
        "{text}"
    );

    for (gone, stays, id) in [(2, 1, 1), (1, 2, 2)] {
        lab.node(gone).kill(None).await.expect("the node runs");
        until(lab.node(stays), &[id], Vote::Granted).await;
        cli::put(lab.node(stays), &format!("without-{gone}"), "written alone\n").await;
        lab.node(gone).start().await.expect("the node starts");
        for node in lab.all() {
            until(node, &[1, 2], Vote::Granted).await;
        }
        lab.settled(&lab.all()).await;
    }

    arbiter.kill();
    for node in lab.all() {
        until(node, &[1, 2], Vote::Unreachable).await;
    }
    cli::put(lab.node(1), "without-arbiter", "written together\n").await;
    arbiter.restart();
    until(lab.node(1), &[1, 2], Vote::Granted).await;

    cli::done(lab.node(1), &["qdevice", "remove"]).await;
    for node in lab.all() {
        wait::votes_until(node, "no device", |status| status.device.is_none() && status.expected_votes == 2)
            .await;
        assert!(!node.root().qdevice_credentials().exists(), "{} keeps the certificates", node.name());
    }
}
