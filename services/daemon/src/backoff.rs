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
        let pause = self.next_pause(self.attempt.elapsed());
        let waited = tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = shutdown.cancelled() => false,
        };
        self.attempt = Instant::now();
        waited
    }

    /// The pause after an attempt that lasted so long.
    fn next_pause(&mut self, lasted: Duration) -> Duration {
        if lasted > PAUSE_MAX {
            self.pause = PAUSE_MIN;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
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

    #[test]
    fn pauses_double_up_to_a_limit() {
        let mut backoff = Backoff::new();

        let pauses: Vec<_> = (0..8).map(|_| backoff.next_pause(Duration::ZERO).as_millis()).collect();

        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn a_connection_that_lasted_makes_the_next_pause_short() {
        let mut backoff = Backoff::new();
        backoff.next_pause(Duration::ZERO);
        backoff.next_pause(Duration::ZERO);

        assert_eq!(backoff.next_pause(PAUSE_MAX * 2), PAUSE_MIN);
    }

    #[tokio::test]
    async fn a_pause_that_passed_allows_the_next_attempt() {
        assert!(Backoff::new().wait(&CancellationToken::new()).await);
    }

    #[tokio::test]
    async fn shutdown_ends_the_pause() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        assert!(!Backoff::new().wait(&shutdown).await);
    }
}
