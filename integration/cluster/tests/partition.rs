//! Two nodes on one side, one on the other: the two go on writing, the one does not; when they meet again all replicas
//! are equal, and what the one had written alone, if anything, is kept as a conflict copy.
//!
//! Needs root and nftables; says so and passes where they are missing.

use cluster_tests::{
    Lab, cli, replicas, wait,
    writer::{self, Writer},
};
use nix::unistd::geteuid;
use playground::{Error, Groups, Node};
use quorate_proto::config::v1::get_status_response::State;

/// How often a node is made mute to catch a write on its way: every other time does.
const ROUNDS: usize = 4;

/// Splits hp1 and hp2 from hp3, and waits until both sides know. False if that is not possible here.
async fn split(lab: &Lab) -> bool {
    let groups: Groups = "hp1,hp2/hp3".parse().expect("a partition");
    apart(lab, lab.playground().partition(&groups)).await
}

/// The same, but hp3 goes on hearing the others: what it sends with the last token that reaches it, only it has.
async fn mute(lab: &Lab) -> bool {
    apart(lab, lab.playground().mute("hp3")).await
}

async fn apart(lab: &Lab, made: Result<(), Error>) -> bool {
    match made {
        Ok(()) => {}
        Err(error @ (Error::NeedsRoot(_) | Error::Program { .. })) => {
            println!("skipped: {error}");
            return false;
        }
        Err(error) => panic!("no partition: {error}"),
    }
    wait::quorate_with(&[lab.node(1), lab.node(2)], &[1, 2]).await;
    wait::votes_until(lab.node(3), "hp3 is not quorate", |status| !status.quorate && status.ring_present)
        .await;
    true
}

/// How many entries a node keeps aside.
async fn copies(node: &Node) -> u64 {
    wait::until("an answer of configd", async || replicas::status(node).await).await.conflict_copies
}

fn possible() -> bool {
    if !geteuid().is_root() {
        println!("skipped: a partition in loopback mode needs root (it uses nftables)");
    }
    geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_majority_writes_the_minority_reads_and_both_are_equal_afterwards() {
    if !possible() {
        return;
    }
    let lab = Lab::cluster(3).await;
    let (first, second, minority) = (lab.node(1), lab.node(2), lab.node(3));
    cli::put(first, "common", "known to all\n").await;
    lab.settled(&lab.all()).await;
    if !split(&lab).await {
        return;
    }

    cli::put(second, "majority", "two of three\n").await;
    replicas::is(minority, State::ReadOnly).await;
    let refused = cli::pipe(minority, "one of three\n", &["cfg", "put", "minority"]).await;
    assert!(refused.err.starts_with("error[NOT_QUORATE]"), "{refused:?}");
    assert_eq!(cli::done(minority, &["cfg", "get", "common"]).await, "known to all\n");
    assert!(cli::pvecm(minority, &["cfg", "get", "majority"]).await.err.contains("NOT_FOUND"));

    lab.playground().heal().expect("the partition ends");
    lab.settled(&lab.all()).await;
    assert_eq!(cli::done(minority, &["cfg", "get", "majority"]).await, "two of three\n");
    assert!(cli::pvecm(first, &["cfg", "get", "minority"]).await.err.contains("NOT_FOUND"));
    for node in lab.all() {
        assert_eq!(copies(node).await, 0, "{}", node.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_overridden_minority_wrote_is_kept_as_conflict_copies() {
    if !possible() {
        return;
    }
    let lab = Lab::cluster(3).await;
    let (first, minority) = (lab.node(1), lab.node(3));
    cli::put(first, "both", "from before\n").await;
    lab.settled(&lab.all()).await;
    if !split(&lab).await {
        return;
    }

    cli::put(first, "both", "from the majority\n").await;
    for number in 0..8 {
        cli::put(first, &format!("majority/{number}"), "more than the minority has\n").await;
    }
    cli::done(minority, &["expected", "1"]).await;
    replicas::is(minority, State::Synchronised).await;
    cli::put(minority, "both", "from the minority\n").await;
    cli::put(minority, "alone", "from the minority\n").await;

    lab.playground().heal().expect("the partition ends");
    let replica = lab.settled(&lab.all()).await;
    let both = cli::done(first, &["cfg", "get", "both"]).await;
    println!("{replica}: {both}");
    // One of the two histories won, the same everywhere; the other one is kept where it was: of the majority the
    // directory, its eight files and "both", of the minority its two files.
    let expected = match both.as_str() {
        "from the minority\n" => [10, 10, 0],
        "from the majority\n" => [0, 0, 2],
        other => panic!("nobody wrote {other:?}"),
    };
    for (node, kept) in lab.all().into_iter().zip(expected) {
        assert_eq!(cli::done(node, &["cfg", "get", "both"]).await, both, "{}", node.name());
        assert_eq!(copies(node).await, kept, "{}", node.name());
        node.kill(Some("configd")).await.expect("configd runs");
        replicas::is(node, State::Synchronised).await;
        assert_eq!(copies(node).await, kept, "{} after a restart", node.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_wrote_that_nobody_heard_is_kept_aside_and_counted() {
    if !possible() {
        return;
    }
    let lab = Lab::cluster(3).await;
    let (first, minority) = (lab.node(1), lab.node(3));
    let mut kept = 0;
    for round in 1..=ROUNDS {
        let directory = |number| format!("round-{round}-{number}");
        let mut writers: Vec<Writer> =
            (0..4).map(|number| Writer::start(minority, &directory(number))).collect();
        for writer in &mut writers {
            writer.progress(3).await;
        }
        if !mute(&lab).await {
            return;
        }
        let mut records = Vec::new();
        for writer in writers {
            records.push(writer.stop().await);
        }
        let only_there = writer::paths(minority).await.difference(&writer::paths(first).await).count();
        println!("round {round}: the minority has {only_there} files that the majority has not");

        lab.playground().heal().expect("the partition ends");
        lab.settled(&lab.all()).await;

        kept += only_there as u64;
        assert_eq!(copies(minority).await, kept);
        for node in [first, lab.node(2)] {
            assert_eq!(copies(node).await, 0, "{}", node.name());
        }
        for node in lab.all() {
            for record in &records {
                writer::check(node, record).await;
            }
        }
        if kept > 0 {
            return;
        }
    }
}
