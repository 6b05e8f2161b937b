//! `/etc/pve` of three nodes: what one writes, the others see; who may write; who wins. The numbers are those of the
//! acceptance tests in the pmxcfs specification, section 14.
//!
//! Needs root and /dev/fuse; says so and passes where they are missing.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use cluster_tests::{
    Lab, cli, mount,
    mount::{create_new, directories, errno, mode, overwrite},
    replicas, wait,
};
use nix::errno::Errno;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_changes_the_others_see_although_they_cache() {
    let Some((lab, at)) = three().await else { return };
    let (one, two) = (&at[0], &at[1]);
    // Looked up in vain, and listed, before it is there.
    assert_eq!(errno(fs::metadata(two.join("f"))), Some(Errno::ENOENT));
    let _ = fs::read_dir(two).expect("the root").count();

    overwrite(&one.join("f"), b"first").expect("writable");
    mount::has(&two.join("f"), "first").await;
    let listed = |name: &str| {
        fs::read_dir(two).expect("the root").any(|entry| entry.expect("an entry").file_name() == name)
    };
    assert!(listed("f"));
    let mut open = File::open(two.join("f")).expect("readable");
    overwrite(&one.join("f"), b"second, and longer").expect("writable");
    mount::has(&two.join("f"), "second, and longer").await;
    let mut text = String::new();
    open.read_to_string(&mut text).expect("readable");
    assert_eq!(text, "second, and longer", "also who had it open");

    fs::create_dir(one.join("d")).expect("writable");
    fs::rename(one.join("f"), one.join("d/g")).expect("writable");
    mount::has(&two.join("d/g"), "second, and longer").await;
    mount::gone(&two.join("f")).await;
    assert!(!listed("f") && listed("d"));

    overwrite(&two.join("d/g"), b"from the other side").expect("writable");
    mount::has(&one.join("d/g"), "from the other side").await;
    cli::put(lab.node(3), "d/g", "not through a mount").await;
    mount::has(&one.join("d/g"), "not through a mount").await;
    fs::remove_file(one.join("d/g")).expect("removable");
    fs::remove_dir(one.join("d")).expect("empty");
    mount::gone(&two.join("d")).await;
    assert!(!listed("d"));
    lab.settled(&lab.all()).await;
}

/// Overwrites a file on one node again and again while another one reads it.
async fn old_or_new(at: &[PathBuf], size: usize, write: impl Fn(&Path, &[u8]) + Sync) {
    let contents: Vec<String> = ["a", "b"].map(|letter| letter.repeat(size)).to_vec();
    overwrite(&at[0].join("f"), contents[0].as_bytes()).expect("writable");
    mount::has(&at[1].join("f"), &contents[0]).await;
    let done = AtomicBool::new(false);
    let mut seen = [0_u32; 2];
    thread::scope(|scope| {
        let (done, contents, at, write) = (&done, &contents, &at, &write);
        scope.spawn(move || {
            (0..100).for_each(|round| write(&at[0].join("f"), contents[round % 2].as_bytes()));
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let read = fs::read_to_string(at[1].join("f")).expect("always there");
            let which = contents.iter().position(|content| *content == read);
            let which = which.unwrap_or_else(|| panic!("{} bytes, mixed or cut", read.len()));
            seen[which] += 1;
        }
    });
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_the_old_or_the_new_content_and_nothing_between() {
    let Some((_lab, at)) = three().await else { return };
    // A shell's '>': emptied and written, in one step for the others.
    old_or_new(&at, 4000, |path, content| overwrite(path, content).expect("writable")).await;
    // The way of all tools.
    old_or_new(&at, 50_000, |path, content| {
        let new = path.with_extension("tmp");
        overwrite(&new, content).expect("writable");
        fs::rename(&new, path).expect("over it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_append_in_turn_lose_nothing() {
    let Some((_lab, at)) = three().await else { return };
    let open = |number: usize| {
        fs::OpenOptions::new().append(true).create(true).open(at[number].join("log")).expect("writable")
    };
    let (mut one, mut two) = (open(0), open(1));
    one.write_all(b"one ").expect("writable");
    two.write_all(b"two ").expect("writable");
    mount::close(one).expect("durable");
    mount::has(&at[2].join("log"), "one ").await;
    mount::close(two).expect("durable");
    mount::has(&at[2].join("log"), "one two ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_sees_the_clusters_tree_and_no_longer_its_own() {
    if !mount::possible() {
        return;
    }
    let lab = Lab::nodes(2).await;
    let at = mount::of(lab.node(2)).await;
    mount::writable(&at, true).await;
    directories(&at, &["own"]);
    overwrite(&at.join("own/file"), b"before").expect("writable");
    overwrite(&at.join("both"), b"before").expect("writable");
    let mut open = File::open(at.join("own/file")).expect("readable");
    let member = mount::of(lab.node(1)).await;
    mount::writable(&member, true).await;
    overwrite(&member.join("both"), b"the cluster's").expect("writable");

    lab.form().await;

    mount::has(&at.join("both"), "the cluster's").await;
    mount::gone(&at.join("own")).await;
    let mut text = String::new();
    open.read_to_string(&mut text).expect("readable");
    assert_eq!(text, "before", "who had it open keeps it");
    mount::writable(&at, true).await;
    overwrite(&at.join("both"), b"from the new one").expect("writable");
    mount::has(&member.join("both"), "from the new one").await;
}

/// Number 4.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_that_make_one_guest_one_wins() {
    let Some((_lab, at)) = three().await else { return };
    directories(&at[0], &["nodes/hp1/qemu-server", "nodes/hp2/qemu-server"]);
    wait::until("the directories on the other node", async || {
        if at[1].join("nodes/hp2/qemu-server").is_dir() { Ok(()) } else { Err("not yet") }
    })
    .await;
    for vmid in 100..120 {
        let make = |number: usize| {
            let path = at[number].join("qemu-server").join(format!("{vmid}.conf"));
            // Half of them as tools do it, half as a shell does.
            let made = if vmid % 2 == 0 { create_new(&path, b"x") } else { overwrite(&path, b"x") };
            errno(made)
        };
        let made = thread::scope(|scope| {
            let other = scope.spawn(|| make(1));
            [make(0), other.join().expect("no panic")]
        });
        let wins = made.iter().filter(|made| made.is_none()).count();
        assert!(wins == 1 && made.contains(&Some(Errno::EEXIST)), "{vmid}: {made:?}");
    }
}

/// The node that has guest 100, as `.vmlist` says.
fn owner(at: &Path) -> Option<String> {
    let text = fs::read_to_string(at.join(".vmlist")).expect("always there");
    let list: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    list["ids"]["100"]["node"].as_str().map(str::to_owned)
}

/// Number 5.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_moves_between_nodes_and_is_never_gone() {
    let Some((lab, at)) = three().await else { return };
    directories(&at[0], &["nodes/hp1/qemu-server", "nodes/hp2/qemu-server"]);
    let path = |number: usize, node: &str| at[number].join(format!("nodes/{node}/qemu-server/100.conf"));
    overwrite(&path(0, "hp1"), b"name: web\n").expect("writable");
    mount::has(&path(1, "hp1"), "name: web\n").await;
    mount::has(&path(2, "hp1"), "name: web\n").await;
    assert_eq!(errno(overwrite(&path(1, "hp2"), b"x")), Some(Errno::EEXIST));

    let done = AtomicBool::new(false);
    let mut seen = BTreeSet::new();
    thread::scope(|scope| {
        let (done, path) = (&done, &path);
        scope.spawn(move || {
            for round in 0..40 {
                let (from, to) = if round % 2 == 0 { ("hp1", "hp2") } else { ("hp2", "hp1") };
                fs::rename(path(0, from), path(0, to)).expect("it moves");
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            seen.insert(owner(&at[2]).expect("it is always somewhere"));
        }
    });
    assert_eq!(seen.len(), 2, "{seen:?}");

    fs::rename(path(0, "hp1"), path(0, "hp2")).expect("it moves");
    mount::has(&at[1].join("qemu-server/100.conf"), "name: web\n").await;
    mount::gone(&path(2, "hp1")).await;
    for at in &at {
        wait::until("the new owner", async || match owner(at) {
            Some(owner) if owner == "hp2" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    lab.settled(&lab.all()).await;
}

/// Numbers 1, 2 and 3.
#[tokio::test(flavor = "multi_thread")]
async fn without_quorum_all_can_be_read_and_nothing_written() {
    let Some((lab, at)) = three().await else { return };
    let one = &at[0];
    directories(one, &["d", "priv/lock"]);
    overwrite(&one.join("f"), b"content").expect("writable");
    overwrite(&one.join("priv/key"), b"secret").expect("writable");
    assert_eq!((mode(&one.join("f")), mode(&one.join("local"))), (0o640, 0o755));
    for number in [2, 3] {
        lab.node(number).kill(None).await.expect("it runs");
    }
    mount::writable(one, false).await;

    assert_eq!(fs::read_to_string(one.join("f")).expect("readable"), "content");
    wait::until("all modes say so", async || {
        let modes = ["f", "d", "priv", "priv/key", "local", ""].map(|path| mode(&one.join(path)));
        if modes == [0o440, 0o555, 0o500, 0o400, 0o555, 0o755] { Ok(()) } else { Err(format!("{modes:?}")) }
    })
    .await;
    for (what, refused) in [
        ("overwrite", errno(overwrite(&one.join("f"), b"x"))),
        ("create", errno(overwrite(&one.join("new"), b"x"))),
        ("mkdir", errno(fs::create_dir(one.join("new")))),
        ("lock", errno(fs::create_dir(one.join("priv/lock/x")))),
        ("unlink", errno(fs::remove_file(one.join("f")))),
        ("rmdir", errno(fs::remove_dir(one.join("d")))),
        ("rename", errno(fs::rename(one.join("f"), one.join("g")))),
        ("truncate", errno(File::options().write(true).open(one.join("f")).and_then(|file| file.set_len(1)))),
    ] {
        assert_eq!(refused, Some(Errno::EACCES), "{what}");
    }
    assert_eq!(fs::read_to_string(one.join("f")).expect("readable"), "content");

    for number in [2, 3] {
        lab.node(number).start().await.expect("it starts");
    }
    mount::writable(one, true).await;
    replicas::is(lab.node(1), State::Synchronised).await;
    overwrite(&one.join("f"), b"again").expect("writable");
    wait::until("the modes say so", async || {
        let mode = mode(&one.join("f"));
        if mode == 0o640 { Ok(()) } else { Err(format!("{mode:o}")) }
    })
    .await;
    mount::has(&mount::of(lab.node(3)).await.join("f"), "again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_closed_survives_the_writer() {
    let Some((lab, at)) = three().await else { return };
    for number in 0..20 {
        overwrite(&at[0].join(format!("f{number}")), format!("{number}").as_bytes()).expect("writable");
    }
    lab.node(1).kill(None).await.expect("it runs");
    for number in 0..20 {
        mount::has(&at[1].join(format!("f{number}")), &number.to_string()).await;
    }
}

/// Number 12, as far as the file's rules go.
#[tokio::test(flavor = "multi_thread")]
async fn corosync_conf_is_judged_whichever_way_it_comes() {
    let Some((lab, at)) = three().await else { return };
    let (conf, new) = (at[0].join("corosync.conf"), at[0].join("corosync.conf.new"));
    let present = fs::read_to_string(&conf).expect("it is in the tree");
    let line =
        present.lines().find(|line| line.contains("config_version")).expect("every file has a version");
    let with = |version: u64| present.replace(line, &format!("  config_version: {version}"));

    overwrite(&new, with(1).as_bytes()).expect("an ordinary file");
    assert_eq!(errno(fs::rename(&new, &conf)), Some(Errno::EINVAL), "its version is not higher");
    overwrite(&new, b"nonsense").expect("an ordinary file");
    assert_eq!(errno(fs::rename(&new, &conf)), Some(Errno::EINVAL));
    assert_eq!(
        errno(overwrite(&conf, b"nonsense")),
        Some(Errno::EINVAL),
        "nor when it is written at its place"
    );
    assert!(fs::remove_file(&conf).is_err());
    assert_eq!(fs::read_to_string(&conf).expect("readable"), present);
    let log = fs::read_to_string(lab.node(1).root().log("configd")).expect("there is a log");
    assert!(log.contains("refused") && log.contains("config_version"), "the reason is in the log");

    overwrite(&new, with(100).as_bytes()).expect("an ordinary file");
    fs::rename(&new, &conf).expect("a newer one");
    for at in &at {
        mount::has(&at.join("corosync.conf"), &with(100)).await;
    }
    let local = lab.node(3).root().corosync_conf();
    wait::until("the local copy of another node", async || {
        let text = fs::read_to_string(&local).map_err(|error| error.to_string())?;
        if text == with(100) { Ok(()) } else { Err("an older one".to_owned()) }
    })
    .await;
}

/// Number 14, through the mounts.
#[tokio::test(flavor = "multi_thread")]
async fn many_changes_at_once_through_all_mounts_leave_equal_trees() {
    let Some((lab, at)) = three().await else { return };
    directories(&at[0], &["w"]);
    wait::until("the directory everywhere", async || {
        if at.iter().all(|at| at.join("w").is_dir()) { Ok(()) } else { Err("not yet") }
    })
    .await;
    thread::scope(|scope| {
        for (number, at) in at.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..60_usize {
                    let name =
                        |choice: usize| at.join(format!("w/{}", (round * 7 + number * 3 + choice) % 11));
                    // What of it succeeds depends on the others; that all see the same in the end does not.
                    let _ = match (round + number) % 5 {
                        0 | 1 => overwrite(&name(0), format!("{number} {round}").as_bytes()),
                        2 => fs::rename(name(1), name(2)),
                        3 => fs::remove_file(name(3)),
                        _ => fs::OpenOptions::new()
                            .append(true)
                            .create(true)
                            .open(name(4))
                            .and_then(|mut file| file.write_all(b"+")),
                    };
                }
            });
        }
    });
    lab.settled(&lab.all()).await;
    let content = |at: &PathBuf| -> Vec<(String, String)> {
        let entries = fs::read_dir(at.join("w")).expect("a directory");
        let mut files: Vec<_> = entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let text = fs::read_to_string(entry.path()).unwrap_or_else(|error| error.to_string());
                (entry.file_name().to_string_lossy().into_owned(), text)
            })
            .collect();
        files.sort();
        files
    };
    wait::until("equal mounts", async || {
        let seen: Vec<_> = at.iter().map(content).collect();
        if seen.iter().all(|files| *files == seen[0]) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}
