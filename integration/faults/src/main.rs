//! `faults`: runs nodes under faults and judges what their clients saw, or judges a record again.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use faults::{
    check::{self, Verdict},
    lab, record,
    run::Run,
};

/// Whole nodes under faults, and a judgement of everything that their clients saw.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Decides what goes wrong and when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    nodes: u8,
    /// For how many minutes things go wrong; may be a fraction
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Where everything is recorded [default: faults-SEED.jsonl in the directory for temporary files]
    #[arg(long)]
    record: Option<PathBuf>,
    /// Let some clients use each node's mount of the tree
    #[arg(long)]
    mounts: bool,
    /// Judge a record of an earlier run, and run nothing
    #[arg(long, conflicts_with_all = ["seed", "nodes", "minutes", "record", "mounts"])]
    judge: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(verdict) => tell(&verdict),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<Verdict> {
    if let Some(path) = arguments.judge {
        return Ok(check::judge(&record::load(&path)?));
    }
    if let Some(why) = lab::missing() {
        anyhow::bail!(why);
    }
    let Arguments { seed, nodes, minutes, mounts, .. } = arguments;
    let lasts = Duration::try_from_secs_f64(minutes * 60.0)?;
    let name = format!("faults-{seed}.jsonl");
    let record = arguments.record.unwrap_or_else(|| std::env::temp_dir().join(name));
    println!("seed {seed}, {nodes} nodes, {minutes} minutes, recorded in {}", record.display());
    let run = Run { seed, nodes, lasts, record, mounts };
    run.run(|what| println!("{what}")).await
}

fn tell(verdict: &Verdict) -> ExitCode {
    println!("{}", verdict.summary);
    for problem in &verdict.problems {
        println!("PROBLEM {problem}");
    }
    match verdict.problems.len() {
        0 => {
            println!("no problem");
            ExitCode::SUCCESS
        }
        count => {
            println!("{count} problems");
            ExitCode::FAILURE
        }
    }
}
