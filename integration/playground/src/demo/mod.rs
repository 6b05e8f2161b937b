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

use std::{collections::BTreeMap, fs, panic::AssertUnwindSafe, time::Instant};

use futures_util::FutureExt as _;

use crate::{Error, Interrupts, Mode, Playground, Setup, votes};

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

/// Runs the demo in a directory of its own; leaves the nodes running if asked to, and only if all steps hold.
///
/// # Errors
/// [`DemoError`] for the first step that does not hold; the nodes' logs are then kept, and named.
/// [`Error::Interrupted`] at a signal; then nothing is kept.
pub async fn run(keep: bool) -> Result<(), DemoError> {
    let started = Instant::now();
    let mut interrupts = Interrupts::receive()?;
    let dir = tempfile::Builder::new().prefix("quorate-demo-").tempdir();
    let dir = dir.map_err(Error::file("create", std::env::temp_dir()))?;
    let setup = Setup { nodes: 3, mode: Mode::Loopback, subnet: None, environment: BTreeMap::new() };
    println!("Three nodes on this machine, in {}", dir.path().display());
    let playground = match Playground::up_unless(dir.path(), &setup, interrupts.next()).await {
        Ok(playground) => playground,
        Err(error) => {
            if matches!(error, Error::Left { .. }) {
                let _ = dir.keep();
            }
            return Err(error.into());
        }
    };
    // From here on, the directory goes with the nodes.
    let dir = dir.keep();
    // A panic, such as that of `println!` when nobody reads it any more, must not leave the nodes either.
    let steps = AssertUnwindSafe(steps::all(&playground)).catch_unwind();
    let result = tokio::select! {
        biased;
        interrupt = interrupts.next() => Ok(Err(Error::Interrupted(interrupt).into())),
        result = steps => result,
    };
    match result {
        Ok(Ok(())) if keep => {
            println!("\nThe nodes go on: playground --dir {} status", dir.display());
        }
        Ok(Ok(())) => take_down(&playground).await?,
        Ok(Err(error @ DemoError::Playground(Error::Interrupted(_)))) => {
            take_down(&playground).await?;
            return Err(error);
        }
        Ok(Err(error)) => {
            println!("\nThe nodes' logs are kept: {}/hp*/var/log/quorate/", dir.display());
            playground.kill().await?;
            return Err(error);
        }
        Err(panic) => {
            take_down(&playground).await?;
            std::panic::resume_unwind(panic);
        }
    }
    println!("\nAll six steps held, in {:.1} s.", started.elapsed().as_secs_f32());
    Ok(())
}

/// Leaves nothing. If a node cannot be taken down, its directory stays, so that it can be tried again.
async fn take_down(playground: &Playground) -> Result<(), Error> {
    playground.down().await?;
    // A step may have left a file of its own there.
    let _ = fs::remove_dir_all(playground.dir());
    Ok(())
}
