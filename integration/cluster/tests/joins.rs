//! A daemon that is killed while a node joins, on that node or on the member that admits it, never leaves a half-joined
//! node: the node becomes a member, or `pvecm add` says why not, everything is as before, and a new token works.

use std::{fs, process::Stdio};

use cluster_tests::{Lab, cli, wait};
use playground::{Node, shell::Said};
use quorate_node::DAEMONS;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
};

/// What is killed, and after which line of `pvecm add`.
struct Ambush<'a> {
    victim: &'a Node,
    daemon: &'a str,
    step: &'a str,
}

/// How an ambushed join ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The node is a member with its vote.
    Joined,
    /// The node is in no cluster, and the cluster knows nothing of it.
    Undone,
}

/// Runs `pvecm add` on `joining`, and kills the victim as soon as the step was printed.
async fn add(member: &Node, joining: &Node, ambush: &Ambush<'_>) -> Said {
    let (address, token) = (member.address().to_string(), cli::token(member).await);
    let mut command = Command::from(joining.command("pvecm"));
    command.args(["add", &address, "--token", &token]).kill_on_drop(true);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("pvecm runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (mut out, mut err) = (String::new(), String::new());
    while let Some(line) = lines.next_line().await.expect("pvecm prints text") {
        out += &format!("{line}\n");
        if line.starts_with(ambush.step) {
            ambush.victim.kill(Some(ambush.daemon)).await.expect("the daemon runs");
        }
    }
    let mut stderr = child.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut err).await.expect("pvecm prints text");
    let code = child.wait().await.expect("pvecm ends").code();
    assert!(out.contains(ambush.step), "pvecm add never said '{}': {out:?}, {err:?}", ambush.step);
    Said { out, err, code }
}

/// The votes of a node in the cluster's configuration; `None` if it is not listed.
async fn listed_votes(member: &Node, name: &str) -> Option<u32> {
    // The member's gateway may be the daemon that was killed.
    let conf = wait::until("corosync.conf", async || {
        let said = cli::pvecm(member, &["cfg", "get", "corosync.conf"]).await;
        if said.code == Some(0) { Ok(said.out) } else { Err(said.err) }
    })
    .await;
    let entry = conf
        .split("node {")
        .find(|entry| entry.lines().any(|line| line.trim() == format!("name: {name}")))?;
    let votes = entry.lines().find_map(|line| line.trim().strip_prefix("quorum_votes: "));
    Some(votes.map_or(1, |votes| votes.parse().expect("votes are a number")))
}

/// Waits until the joining node is a member, or as before.
async fn ended(member: &Node, joining: &Node) -> Ended {
    let root = joining.root();
    let pending = root.state_dir("gatewayd").join("joining.json");
    wait::until("the end of the join", async || {
        let is_clean = !root.corosync_conf().exists() && !pending.exists();
        let seen = (listed_votes(member, joining.name()).await, is_clean, pending.exists());
        match seen {
            (Some(1..), false, false) => Ok(Ended::Joined),
            (None, true, false) => Ok(Ended::Undone),
            seen => Err(format!("votes in the tree, nothing on the node, join under way: {seen:?}")),
        }
    })
    .await
}

/// One join with one ambush; at its end the node is a member in any case.
async fn survives(lab: &Lab, ambush: &Ambush<'_>) {
    let (member, joining) = (lab.node(1), lab.node(3));
    println!("'{}': {} of {} is killed", ambush.step, ambush.daemon, ambush.victim.name());
    let said = add(member, joining, ambush).await;
    let ended = ended(member, joining).await;
    println!("    exit status {:?}, {ended:?}; {}", said.code, said.err.trim_end());
    match said.code {
        Some(0) => assert_eq!(ended, Ended::Joined, "pvecm add said that it worked"),
        _ => assert!(said.err.starts_with("error["), "a failure is told: {:?}", said.err),
    }
    if ended == Ended::Undone {
        lab.settled(&[member, lab.node(2)]).await;
        lab.join(joining).await;
    }
    lab.settled(&lab.all()).await;
}

/// Removes the node for good, and puts a new one in its place.
async fn replace(lab: &Lab, node: &Node) {
    let rest = [lab.node(1), lab.node(2)];
    node.kill(None).await.expect("the node runs");
    lab.settled(&rest).await;
    cli::done(rest[0], &["delnode", node.name()]).await;
    fs::remove_dir_all(node.root().as_path()).expect("the node is gone");
    node.start().await.expect("the node starts");
    let what = "hp1 knows of two nodes";
    wait::votes_until(rest[0], what, |status| status.quorate && status.expected_votes == 2).await;
}

async fn all_survive(victim: usize, steps: [&str; 2]) {
    let lab = Lab::nodes(3).await;
    let (first, second) = (lab.node(1), lab.node(2));
    cli::done(first, &["create", "lab"]).await;
    lab.join(second).await;
    lab.settled(&[first, second]).await;
    for step in steps {
        for daemon in DAEMONS {
            survives(&lab, &Ambush { victim: lab.node(victim), daemon, step }).await;
            replace(&lab, lab.node(3)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_daemon_is_killed_while_it_joins_is_a_member_or_as_before() {
    all_survive(3, ["starting the ring", "asking for this node's votes"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_whose_member_loses_a_daemon_is_complete_or_undone() {
    all_survive(1, ["admitted as", "waiting for the configuration tree"]).await;
}
