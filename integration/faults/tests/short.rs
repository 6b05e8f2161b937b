//! A minute of faults with a fixed seed, on real processes: what the clients saw must be right.
//!
//! Needs root, iproute2 and nftables; says so and passes where they are missing. A longer run: the program `faults`.

use std::time::Duration;

use faults::{lab, run::Run};

/// Fewer writes than this prove nothing: the cluster was hardly ever writable.
const WRITES_MIN: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_of_nodes_under_faults_saw_has_an_order() -> anyhow::Result<()> {
    if let Some(why) = lab::missing() {
        println!("skipped: {why}");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let record = dir.path().join("record.jsonl");
    let run = Run { seed: 4, nodes: 3, lasts: Duration::from_secs(60), record, mounts: false };

    let verdict = run.run(|what| println!("{what}")).await?;

    println!("{}", verdict.summary);
    if !verdict.problems.is_empty() {
        println!("the record is kept: {}", dir.keep().join("record.jsonl").display());
    }
    let problems: Vec<String> = verdict.problems.iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(verdict.summary.done >= WRITES_MIN && verdict.summary.fresh_reads >= WRITES_MIN);
    Ok(())
}
