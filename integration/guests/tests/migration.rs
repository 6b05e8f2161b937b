//! Real QEMU moves between real nodes: what the guest counts goes on without a gap, and what breaks leaves it in one place.

use std::os::unix::fs::FileExt as _;

use cluster_tests::{Lab, wait};
use guest_tests::{counted, counts_in, create, done, has_qemu, pid, printed, qm, refused, status, status_is};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use playground::Node;

/// Where the guest reads how many pages it works on, and how many of them it changes with each tick: 2048 and 100, so 7 MiB/s.
const BUSY: (u64, [u8; 8]) = (8, [0, 8, 0, 0, 100, 0, 0, 0]);

/// A guest whose disk both nodes see, running; `busy`: it changes its memory all the time.
async fn shared_guest(lab: &Lab, vmid: &str, busy: bool) {
    let storage = |number| lab.node(number).root().as_path().join("var/lib/vz");
    let (first, second) = (storage(1), storage(2));
    std::fs::create_dir_all(&first).expect("a directory");
    let _ = std::fs::remove_dir(&second);
    std::os::unix::fs::symlink(&first, &second).expect("the second node has no disks yet");
    let node = lab.node(1);
    create(node, vmid, &[]).await;
    if busy {
        let disk = first.join(format!("images/{vmid}/vm-{vmid}-disk-0.raw"));
        let disk = std::fs::OpenOptions::new().write(true).open(disk).expect("a disk");
        disk.write_all_at(&BUSY.1, BUSY.0).expect("the disk can be written");
    }
    let disk = format!("local:{vmid}/vm-{vmid}-disk-0.raw,shared=1");
    done(node, &["set", vmid, "--virtio0", &disk]).await;
    done(node, &["start", vmid]).await;
    counted(node, vmid, 5).await;
}

/// What was counted at the source and then at the target is one row without a gap: nothing was lost, nothing repeated. A line
/// may be begun by one and ended by the other.
fn one_row(before: &str, to: &Node, vmid: &str) {
    let after = printed(to, vmid);
    let row = counts_in(&format!("{before}{after}"));
    let gap = row.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert!(gap.is_none() && row.len() > counts_in(before).len(), "a gap at {gap:?}: {before}\n--\n{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_guest_moves_there_and_back_without_losing_count() {
    if !has_qemu() {
        return;
    }
    let lab = Lab::cluster(2).await;
    let (first, second) = (lab.node(1), lab.node(2));
    shared_guest(&lab, "100", false).await;

    refused(first, &["migrate", "100", "hp1", "--online"], "TARGET_IS_SOURCE").await;
    let why = refused(
        first,
        &["migrate", "100", "hp2", "--migration_network", "10.255.0.0/16"],
        "PREFLIGHT_FAILED",
    )
    .await;
    for told in ["--online", "node 'hp1' has no address in", "node 'hp2' has no address in"] {
        assert!(why.contains(told), "{why}");
    }

    // Encrypted, asked for at the node that has the guest.
    println!("{}", done(first, &["migrate", "100", "hp2", "--online"]).await);
    assert_eq!(status(second, "100").await, "running");
    counted(second, "100", 5).await;
    one_row(&printed(first, "100"), second, "100");
    assert!(!qm(first, &["status", "100"]).await.out.contains("running"));
    assert_eq!(done(first, &["migrations"]).await, "");

    // In clear and over a network, asked for at the node that has it not.
    let arguments = [
        "migrate",
        "100",
        "hp1",
        "--online",
        "--migration_type",
        "insecure",
        "--migration_network",
        "127.0.0.0/8",
    ];
    println!("{}", done(first, &arguments).await);
    status_is(first, "100", "running").await;
    counted(first, "100", 5).await;
    one_row(&printed(second, "100"), first, "100");
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_move_with_a_guest_that_is_off_and_with_one_that_runs() {
    if !has_qemu() {
        return;
    }
    let lab = Lab::cluster(2).await;
    let (first, second) = (lab.node(1), lab.node(2));
    let disk = |node: &Node| node.root().as_path().join("var/lib/vz/images/100/vm-100-disk-0.raw");
    create(first, "100", &[]).await;
    let content = std::fs::read(disk(first)).expect("a disk");

    println!("{}", done(first, &["migrate", "100", "hp2"]).await);
    assert_eq!(status(second, "100").await, "stopped");
    assert!(std::fs::read(disk(second)).expect("a disk") == content, "the copy differs");
    assert!(!disk(first).exists(), "the source has let go of it");

    done(second, &["start", "100"]).await;
    counted(second, "100", 5).await;
    let why = refused(second, &["migrate", "100", "hp1", "--online"], "PREFLIGHT_FAILED").await;
    assert!(why.contains("--with-local-disks"), "{why}");
    println!("{}", done(second, &["migrate", "100", "hp1", "--online", "--with-local-disks"]).await);
    counted(first, "100", 5).await;
    one_row(&printed(second, "100"), first, "100");
    assert!(disk(first).exists() && !disk(second).exists(), "the disk lies where the guest runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_whose_target_dies_leaves_the_guest_running_where_it_was() {
    if !has_qemu() {
        return;
    }
    let lab = Lab::cluster(2).await;
    let (first, second) = (lab.node(1), lab.node(2));
    shared_guest(&lab, "100", true).await;
    let before = pid(first, "100").await;

    let slow = ["migrate", "100", "hp2", "--online", "--bwlimit", "400"];
    let strike = async {
        let path = second.root().run_dir().join("guests/100/pid");
        let victim = wait::until("memory is on its way", async || {
            let listed = done(first, &["migrations"]).await;
            let victim = std::fs::read_to_string(&path).ok().and_then(|pid| pid.trim().parse().ok());
            victim.filter(|_| listed.contains("precopy")).ok_or(listed)
        })
        .await;
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it runs");
    };
    let (why, ()) = tokio::join!(refused(first, &slow, "TARGET_LOST"), strike);
    assert!(why.contains("stays where it was"), "{why}");

    assert_eq!(pid(first, "100").await, before);
    counted(first, "100", 5).await;
    assert_eq!(done(first, &["migrations"]).await, "");
    assert!(!done(first, &["config", "100"]).await.contains("lock"), "the lock is gone");
}
