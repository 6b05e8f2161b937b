//! `/etc/pve` while nodes are cut off, overruled and killed: numbers 9, 10, 11 and 15 of the acceptance tests in the pmxcfs
//! specification, section 14.
//!
//! Needs root, /dev/fuse and nftables; says so and passes where they are missing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use cluster_tests::{
    Lab, cli,
    mount::{self, create_new, directories, errno, overwrite},
    replicas, wait,
};
use nix::errno::Errno;
use playground::{Error, Groups};
use quorate_proto::config::v1::get_status_response::State;

async fn three() -> Option<(Lab, Vec<PathBuf>)> {
    if !mount::possible() {
        return None;
    }
    let lab = Lab::cluster(3).await;
    let mut mounts = Vec::new();
    for node in lab.all() {
        let at = mount::of(node).await;
        mount::writable(&at, true).await;
        mounts.push(at);
    }
    Some((lab, mounts))
}

/// Cuts the third node off; false where that is not possible.
async fn cut_off_the_third(lab: &Lab) -> bool {
    let groups: Groups = "hp1,hp2/hp3".parse().expect("a partition");
    match lab.playground().partition(&groups) {
        Ok(()) => {}
        Err(error @ (Error::NeedsRoot(_) | Error::Program { .. })) => {
            println!("skipped: {error}");
            return false;
        }
        Err(error) => panic!("no partition: {error}"),
    }
    wait::quorate_with(&[lab.node(1), lab.node(2)], &[1, 2]).await;
    true
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| error.to_string())
}

/// Number 9: the minority can only be read; healed, all trees are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_minority_is_read_only_and_equal_again_when_it_is_healed() {
    let Some((lab, at)) = three().await else { return };
    overwrite(&at[0].join("f"), b"before").expect("writable");
    mount::has(&at[2].join("f"), "before").await;
    if !cut_off_the_third(&lab).await {
        return;
    }
    mount::writable(&at[2], false).await;

    overwrite(&at[0].join("f"), b"majority").expect("the majority writes");
    assert_eq!(errno(overwrite(&at[2].join("f"), b"minority")), Some(Errno::EACCES));
    assert_eq!(text(&at[2].join("f")), "before", "reads go on");

    lab.playground().heal().expect("the partition ends");
    lab.settled(&lab.all()).await;
    mount::has(&at[2].join("f"), "majority").await;
    mount::writable(&at[2], true).await;
}

/// Number 10: a minority that was overruled with `expected 1` writes, loses against the majority that wrote more, and what it
/// wrote is kept and reported.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_overruled_minority_wrote_is_replaced_kept_and_reported() {
    let Some((lab, at)) = three().await else { return };
    overwrite(&at[0].join("f"), b"before").expect("writable");
    lab.settled(&lab.all()).await;
    if !cut_off_the_third(&lab).await {
        return;
    }
    mount::writable(&at[2], false).await;
    cli::done(lab.node(3), &["expected", "1"]).await;
    mount::writable(&at[2], true).await;
    overwrite(&at[2].join("f"), b"overruled").expect("it is quorate by order");
    for round in 0..5 {
        overwrite(&at[0].join("f"), format!("majority {round}").as_bytes()).expect("writable");
    }

    lab.playground().heal().expect("the partition ends");
    lab.settled(&lab.all()).await;
    let kept = text(&at[0].join("f"));
    for at in &at {
        mount::has(&at.join("f"), &kept).await;
    }
    let loser = if kept == "overruled" { 1 } else { 3 };
    let conflicts = cli::done(lab.node(loser), &["cfg", "conflicts"]).await;
    assert!(!conflicts.trim().is_empty(), "what was replaced is kept on hp{loser}, the winner has {kept:?}");
    let log = cli::done(lab.node(1), &["log"]).await;
    assert!(log.contains("kept as a conflict copy"), "{log}");
}

/// Number 11: a node that dies again and again while it catches up ends in sync all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_while_it_catches_up_converges() {
    let Some((lab, at)) = three().await else { return };
    directories(&at[0], &["d"]);
    lab.node(3).kill(None).await.expect("it runs");
    let large = vec![b'x'; 100_000];
    let mut files = 0;
    let mut write_more = || {
        for number in files..files + 15 {
            overwrite(&at[0].join(format!("d/{number}")), &large).expect("writable");
        }
        files += 15;
        files
    };
    // Each time it dies a little later: when configd answers, when it is in the group, when its tree has grown.
    let mut reached = 0;
    for moment in [0, 1, 1, 2, 2] {
        write_more();
        lab.node(3).start().await.expect("it starts");
        let seen = wait::until("the moment to die", async || {
            let status = replicas::status(lab.node(3)).await?;
            let in_group = matches!(status.state(), State::Synchronising | State::Synchronised);
            let due = moment == 0 || (in_group && (moment == 1 || status.version > reached));
            if due { Ok(status.version) } else { Err(format!("{status:?}")) }
        })
        .await;
        reached = reached.max(seen);
        lab.node(3).kill(None).await.expect("it runs");
    }
    let files = write_more();
    lab.node(3).start().await.expect("it starts");
    lab.settled(&lab.all()).await;
    let third = mount::of(lab.node(3)).await;
    wait::until("all files", async || {
        let whole = |number| fs::read(third.join(format!("d/{number}"))).is_ok_and(|bytes| bytes == large);
        if (0..files).all(whole) { Ok(()) } else { Err("not all are there".to_owned()) }
    })
    .await;
}

/// Guests of a mounted tree, by number, with the nodes that have a file of it.
fn guests(at: &Path) -> BTreeMap<String, Vec<String>> {
    let mut guests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in ["hp1", "hp2", "hp3"] {
        for entry in
            fs::read_dir(at.join("nodes").join(node).join("qemu-server")).into_iter().flatten().flatten()
        {
            guests.entry(entry.file_name().to_string_lossy().into_owned()).or_default().push(node.to_owned());
        }
    }
    guests
}

/// Number 15: configd dies at arbitrary moments while guests are made and moved; its store always loads, what a call said is
/// there, and no VMID exists twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_configd_loads_its_store_and_no_guest_exists_twice() {
    let Some((lab, at)) = three().await else { return };
    let folder = |node: &str| at[0].join("nodes").join(node).join("qemu-server");
    for node in ["hp1", "hp2"] {
        fs::create_dir_all(folder(node)).expect("writable");
    }
    let mut made = Vec::new();
    for round in 0..6_u32 {
        for number in 0..5 {
            let name = format!("{}.conf", 100 + round * 5 + number);
            if create_new(&folder("hp1").join(&name), b"memory: 512\n").is_ok() {
                made.push(name.clone());
                let _ = fs::rename(folder("hp1").join(&name), folder("hp2").join(&name));
            }
        }
        let victim = lab.node(1 + round as usize % 3);
        let before = victim.pid("configd");
        victim.kill(Some("configd")).await.expect("it runs");
        wait::until("another configd", async || match victim.pid("configd") {
            Some(pid) if Some(pid) != before => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        replicas::same(&lab.all()).await;
        mount::writable(&mount::of(lab.node(1)).await, true).await;
    }
    assert!(made.len() >= 20, "most rounds write: {made:?}");
    for node in lab.all() {
        let at = mount::of(node).await;
        wait::until("each guest once", async || {
            let seen = guests(&at);
            let twice: Vec<_> = seen.iter().filter(|(_, nodes)| nodes.len() > 1).collect();
            let missing: Vec<_> = made.iter().filter(|name| !seen.contains_key(*name)).collect();
            if twice.is_empty() && missing.is_empty() {
                Ok(())
            } else {
                Err(format!("{twice:?} {missing:?}"))
            }
        })
        .await;
    }
}
