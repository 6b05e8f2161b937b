//! Measures how the ring's times grow with its nodes, prints them as a table, and draws them.
//!
//! `scale --svg docs/protocols/scale.svg` measures 2 to 128 nodes, which takes some minutes in a release build.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use simulator::scale::{measure, setup, svg, table};

/// Measures formation, rotation of the token, and the loss of a node in simulated rings.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many nodes, one ring for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 3, 5, 8, 16, 32, 64, 128],
        value_parser = clap::value_parser!(u32).range(2..=128))]
    nodes: Vec<u32>,
    /// Milliseconds over which joins are spread; by default as corosync.conf(5) recommends it.
    #[arg(long)]
    send_join: Option<u64>,
    /// Where to write the picture.
    #[arg(long)]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut rows = Vec::new();
    for nodes in arguments.nodes {
        let began = Instant::now();
        match measure(setup(nodes, arguments.send_join.map(Duration::from_millis))) {
            Ok(times) => rows.push(times),
            Err(violation) => {
                eprintln!("{nodes} nodes: {violation}");
                return ExitCode::FAILURE;
            }
        }
        eprintln!("{nodes} nodes took {:.1} s to simulate", began.elapsed().as_secs_f64());
    }
    print!("{}", table(&rows));
    if let Some(path) = arguments.svg
        && let Err(error) = std::fs::write(&path, svg(&rows))
    {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
