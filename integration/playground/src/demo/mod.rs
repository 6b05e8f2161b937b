//! A cluster's life in six steps, each checked: what `make demo` shows.
//!
//! 1. A cluster is created on hp1; hp2 and hp3 join with tokens.
//! 2. `pvecm status` and `pvecm nodes` count right.
//! 3. A file written through hp2 is read on hp1 and hp3.
//! 4. hp3 dies; the other two stay quorate and writable. The time from the kill to the new quorate membership is
//!    taken from quorumd's watch stream.
//! 5. hp2 dies, too; hp1 refuses to write, says why, and goes on reading.
//! 6. Both come back; all replicas are equal, and nothing that was ever acknowledged is missing.
//!
//! From step 3 on, a writer writes small files through hp1 and keeps the list of those that were acknowledged.

mod shell;
mod steps;
mod writer;

use std::{collections::BTreeMap, time::Instant};

use crate::{Error, Mode, Playground, Setup, votes};

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The nodes could not be run.
    #[error(transparent)]
    Playground(#[from] Error),
    /// A step did not hold.
    #[error("step {step} does not hold: {what}")]
    Broken {
        /// Which step, from 1.
        step: u8,
        /// What was expected, and what was seen.
        what: String,
    },
}

/// Runs the demo in a directory of its own; leaves the nodes running if asked to.
///
/// # Errors
/// [`DemoError`] for the first step that does not hold. The nodes' logs are then kept, and named.
pub async fn run(keep: bool) -> Result<(), DemoError> {
    let started = Instant::now();
    let dir = tempfile::Builder::new().prefix("quorate-demo-").tempdir();
    let dir = dir.map_err(Error::file("create", std::env::temp_dir()))?.keep();
    let setup = Setup { nodes: 3, mode: Mode::Loopback, subnet: None, environment: BTreeMap::new() };
    println!("Three nodes on this machine, in {}", dir.display());
    let playground = Playground::up(&dir, &setup).await?;
    let result = steps::all(&playground).await;
    if let Err(error) = result {
        println!("\nThe nodes' logs are kept: {}/hp*/var/log/quorate/", dir.display());
        for node in playground.nodes() {
            node.kill(None).await?;
        }
        return Err(error);
    }
    if keep {
        println!("\nThe nodes go on: playground --dir {} status", dir.display());
    } else {
        playground.down().await?;
    }
    println!("\nAll six steps held, in {:.1} s.", started.elapsed().as_secs_f32());
    Ok(())
}
