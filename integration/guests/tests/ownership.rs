//! Three nodes: a guest runs on one of them only, and none runs before there is quorum.

use cluster_tests::{Lab, cli, wait};
use guest_tests::{counted, create, done, has_qemu, pid, qm, refused, status, status_is};
use playground::Node;

/// All nodes lose their power at once.
async fn power_failure(lab: &Lab) {
    let kills = lab.all().into_iter().cloned().map(|node| tokio::spawn(async move { node.kill(None).await }));
    for kill in kills.collect::<Vec<_>>() {
        kill.await.expect("no panic").expect("the node runs");
    }
}

async fn move_config(node: &Node, from: &str, to: &str) {
    cli::done(node, &["cfg", "mkdir", "-p", &format!("nodes/{to}/qemu-server")]).await;
    let path = |node: &str| format!("nodes/{node}/qemu-server/100.conf");
    cli::done(node, &["cfg", "mv", &path(from), &path(to)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cold_start_guests_wait_for_quorum_and_then_start_in_their_order() {
    if !has_qemu() {
        return;
    }
    let lab = Lab::cluster(3).await;
    let (first, second, third) = (lab.node(1), lab.node(2), lab.node(3));
    create(first, "100", &["--onboot", "1"]).await;
    create(first, "101", &["--onboot", "1", "--startup", "order=1,up=1"]).await;
    create(first, "102", &[]).await;
    create(third, "103", &["--onboot", "1"]).await;
    power_failure(&lab).await;

    first.start().await.expect("the node starts");
    wait::until("guestd waits for quorum", async || {
        let log = std::fs::read_to_string(first.log("guestd")).unwrap_or_default();
        if log.contains("no guest is started before this node has quorum") { Ok(()) } else { Err("not yet") }
    })
    .await;
    refused(first, &["start", "102"], "NOT_QUORATE").await;
    assert_eq!((pid(first, "100").await, pid(first, "101").await), (0, 0));

    second.start().await.expect("the node starts");
    status_is(first, "101", "running").await;
    status_is(first, "100", "running").await;
    let started = |log: &str, vmid: &str| {
        log.lines().position(|line| line.contains("started") && line.contains(&format!("vmid={vmid}")))
    };
    let log = std::fs::read_to_string(first.log("guestd")).expect("it has a log");
    assert!(started(&log, "101").expect("101") < started(&log, "100").expect("100"), "{log}");
    assert_eq!(status(first, "102").await, "stopped");

    third.start().await.expect("the node starts, later than the others");
    status_is(third, "103", "running").await;
    counted(third, "103", 2).await;

    // Once in each boot: what somebody stopped stays off when the daemon is started again.
    done(first, &["stop", "100"]).await;
    first.kill(Some("guestd")).await.expect("guestd runs");
    status_is(first, "101", "running").await;
    assert_eq!(status(first, "100").await, "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_configuration_was_moved_starts_only_where_it_cannot_run_twice() {
    if !has_qemu() {
        return;
    }
    let lab = Lab::cluster(3).await;
    let (here, there) = (lab.node(1), lab.node(3));
    create(there, "100", &[]).await;
    let elsewhere = refused(here, &["start", "100"], "GUEST_ELSEWHERE").await;
    assert!(elsewhere.contains("hp3"), "{elsewhere}");
    done(there, &["start", "100"]).await;
    move_config(here, "hp3", "hp1").await;
    refused(here, &["start", "100"], "LEASE_HELD").await;
    refused(here, &["start", "100", "--node-is-off", "hp3"], "NODE_PRESENT").await;
    move_config(here, "hp1", "hp3").await;
    done(there, &["stop", "100"]).await;

    // Given back with its end: now it may start elsewhere at once, if its disk is there.
    move_config(here, "hp3", "hp1").await;
    let missing = qm(here, &["start", "100"]).await;
    assert!(missing.err.starts_with("error[VOLUME_UNKNOWN]"), "{missing:?}");
    move_config(here, "hp1", "hp3").await;
    done(there, &["start", "100"]).await;

    // The power of the owner fails: its lease stays until an operator says that it is off.
    let from = there.root().as_path().join("var/lib/vz/images/100");
    let to = here.root().as_path().join("var/lib/vz/images/100");
    there.kill(None).await.expect("the node runs");
    wait::quorate_with(&[here], &[1, 2]).await;
    std::fs::create_dir_all(&to).expect("a directory");
    std::fs::copy(from.join("vm-100-disk-0.raw"), to.join("vm-100-disk-0.raw")).expect("a copy");
    move_config(here, "hp3", "hp1").await;
    let held = refused(here, &["start", "100"], "LEASE_HELD").await;
    assert!(held.contains("--node-is-off hp3"), "{held}");
    done(here, &["start", "100", "--node-is-off", "hp3"]).await;
    counted(here, "100", 3).await;

    there.start().await.expect("the node starts");
    lab.settled(&lab.all()).await;
    refused(there, &["start", "100"], "GUEST_ELSEWHERE").await;
    assert_eq!(cli::done(here, &["cfg", "get", "priv/lease/100"]).await.lines().next(), Some("node: hp1"));
}
