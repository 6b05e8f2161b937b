//! Pauses between attempts to reach something that is restarting: short at first, then longer.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// First pause: a daemon of this node is back within a fraction of a second.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause: what is down for long is worth little effort.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The pauses of one connection that is kept up for good.
#[derive(Debug)]
pub struct Backoff {
    pause: Duration,
    attempt: Instant,
}

impl Backoff {
    /// Begins with the shortest pause; the first attempt starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { pause: PAUSE_MIN, attempt: Instant::now() }
    }

    /// Waits before the next attempt. The pause doubles with each attempt that failed soon, and is short
    /// again after a connection that lasted. False if `shutdown` came first.
    pub async fn wait(&mut self, shutdown: &CancellationToken) -> bool {
        if self.attempt.elapsed() > PAUSE_MAX {
            self.pause = PAUSE_MIN;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        let waited = tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = shutdown.cancelled() => false,
        };
        self.attempt = Instant::now();
        waited
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_limit() {
        let shutdown = CancellationToken::new();
        let mut backoff = Backoff::new();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let before = Instant::now();
            assert!(backoff.wait(&shutdown).await);
            pauses.push(before.elapsed().as_millis());
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_lasted_makes_the_next_pause_short() {
        let shutdown = CancellationToken::new();
        let mut backoff = Backoff::new();
        backoff.wait(&shutdown).await;
        backoff.wait(&shutdown).await;
        tokio::time::advance(PAUSE_MAX * 2).await;

        let before = Instant::now();
        backoff.wait(&shutdown).await;

        assert_eq!(before.elapsed(), PAUSE_MIN);
    }

    #[tokio::test]
    async fn shutdown_ends_the_pause() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        assert!(!Backoff::new().wait(&shutdown).await);
    }
}
