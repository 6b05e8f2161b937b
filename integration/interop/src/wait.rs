//! Waiting for a condition, with an end.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How long anything may take that is not measured: generous, for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at for which there is no event.
const EVERY: Duration = Duration::from_millis(50);

/// Looks at something until it is as wanted: `look` returns the wanted, or in words what it saw instead.
///
/// # Errors
/// What was not seen within `within`, and what was seen last.
pub async fn until<T, F>(what: &str, within: Duration, mut look: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + within;
    loop {
        let begun = Instant::now();
        match look().await {
            Ok(seen) => return Ok(seen),
            Err(seen) if Instant::now() > deadline => {
                bail!("not seen within {within:?}: {what}; last seen:\n{seen}")
            }
            Err(_) => {}
        }
        // A look at many nodes is work for them: three quarters of the time are theirs.
        tokio::time::sleep(EVERY.max(3 * begun.elapsed())).await;
    }
}
