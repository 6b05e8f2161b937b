//! One node, real QEMU: from `qm create` to `qm destroy`, and through the ends of guestd and of QEMU.

use std::time::Instant;

use cluster_tests::{Lab, cli, wait};
use guest_tests::{counted, counts, create, done, has_qemu, pid, qm, refused, status, status_is};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_made_started_changed_stopped_and_removed() {
    if !has_qemu() {
        return;
    }
    let lab = Lab::cluster(1).await;
    let node = lab.node(1);
    create(node, "100", &["--onboot", "1", "--startup", "order=1,up=2"]).await;
    let config = done(node, &["config", "100"]).await;
    assert!(
        config.contains("onboot: 1\n") && config.contains("virtio0: local:100/vm-100-disk-0.raw,size=11M\n"),
        "{config}"
    );
    assert_eq!(cli::done(node, &["cfg", "get", "nodes/hp1/qemu-server/100.conf"]).await, config);
    refused(node, &["create", "100", "--memory", "16"], "GUEST_EXISTS").await;
    refused(node, &["create", "101", "--memroy", "16"], "KEY_INVALID").await;
    refused(node, &["start", "101"], "GUEST_UNKNOWN").await;

    let began = Instant::now();
    done(node, &["start", "100"]).await;
    println!("qm start: {} ms", began.elapsed().as_millis());
    assert_eq!(status(node, "100").await, "running");
    assert!(counted(node, "100", 5).await >= 5);
    refused(node, &["start", "100"], "GUEST_RUNNING").await;
    refused(node, &["destroy", "100"], "GUEST_RUNNING").await;
    let list = done(node, &["list"]).await;
    assert!(
        list.lines().nth(1).is_some_and(|line| line.contains("counter") && line.contains("running")),
        "{list}"
    );
    assert!(done(node, &["monitor", "100", "info", "status"]).await.contains("running"));

    done(node, &["set", "100", "--memory", "32", "--name", "renamed"]).await;
    let current = done(node, &["config", "100", "--current"]).await;
    assert!(current.contains("memory: 16\n") && current.contains("name: renamed\n"), "{current}");
    assert!(done(node, &["config", "100"]).await.contains("memory: 32\n"), "what waits is shown");

    refused(node, &["--timeout", "500ms", "shutdown", "100"], "SHUTDOWN_TIMEOUT").await;
    done(node, &["--timeout", "500ms", "shutdown", "100", "--forceStop"]).await;
    assert_eq!(status(node, "100").await, "stopped");
    done(node, &["wait", "100"]).await;
    done(node, &["start", "100"]).await;
    assert!(done(node, &["config", "100", "--current"]).await.contains("memory: 32\n"), "it took effect");
    done(node, &["stop", "100"]).await;

    let disk = node.root().as_path().join("var/lib/vz/images/100/vm-100-disk-0.raw");
    assert!(disk.exists());
    assert_eq!(done(node, &["destroy", "100"]).await, "deleted local:100/vm-100-disk-0.raw\n");
    assert!(!disk.exists());
    assert_eq!(done(node, &["list"]).await, "");
    assert!(!qm(node, &["config", "100"]).await.ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_outlives_its_daemon_and_its_own_end_is_told() {
    if !has_qemu() {
        return;
    }
    let lab = Lab::cluster(1).await;
    let node = lab.node(1);
    create(node, "100", &[]).await;
    done(node, &["start", "100"]).await;
    counted(node, "100", 3).await;
    let guest = pid(node, "100").await;

    let daemon = node.pid("guestd");
    node.kill(Some("guestd")).await.expect("guestd runs");
    wait::until("a new guestd", async || match node.pid("guestd") {
        Some(new) if Some(new) != daemon => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    status_is(node, "100", "running").await;
    assert_eq!(pid(node, "100").await, guest, "the same process");
    let before = counted(node, "100", 3).await;
    done(node, &["monitor", "100", "info", "status"]).await;

    kill(Pid::from_raw(guest), Signal::SIGKILL).expect("it runs");
    status_is(node, "100", "stopped").await;
    let told = done(node, &["status", "100"]).await;
    assert!(told.contains("failure: QEMU ended unasked"), "{told}");
    wait::until("an entry of the cluster log", async || {
        let log = cli::done(node, &["log"]).await;
        if log.contains("guest 100: QEMU ended unasked") { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(counts(node, "100").len() >= before);
    done(node, &["start", "100"]).await;
    assert_eq!(status(node, "100").await, "running");
    assert!(!done(node, &["status", "100"]).await.contains("failure"), "that was the last one");
}
