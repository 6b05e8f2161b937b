//! How long to wait before a daemon is started again.
//!
//! Short at first, longer with each failure that follows soon, short again once it has run well. A daemon that
//! says that its configuration makes no sense will say so again: it is tried rarely.

use std::time::Duration;

use quorate_daemon::EXIT_CONFIGURATION;

/// First pause: a daemon that was killed is back at once.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause: a daemon whose disk is full does not fill the log as well.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A daemon that ran so long has recovered.
const HEALTHY: Duration = Duration::from_secs(30);
/// Pause after a bad configuration: someone must edit a file.
const PAUSE_CONFIGURATION: Duration = Duration::from_secs(30);

/// The pauses of one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Restarts {
    next: Duration,
}

impl Restarts {
    pub(crate) fn new() -> Self {
        Self { next: PAUSE_MIN }
    }

    /// The pause after a run that lasted so long and ended with this exit code (`None`: by a signal, or it could
    /// not be started).
    pub(crate) fn pause(&mut self, lasted: Duration, code: Option<i32>) -> Duration {
        if code == Some(i32::from(EXIT_CONFIGURATION)) {
            return PAUSE_CONFIGURATION;
        }
        if lasted >= HEALTHY {
            self.next = PAUSE_MIN;
        }
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn pauses_double_from_100_ms_to_5_s() {
        let mut restarts = Restarts::new();
        let pauses: Vec<u128> = (0..8).map(|_| restarts.pause(SOON, Some(1)).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn half_a_minute_of_health_makes_pauses_short_again() {
        let mut restarts = Restarts::new();
        for _ in 0..5 {
            restarts.pause(SOON, None);
        }
        assert_eq!(restarts.pause(HEALTHY, None), PAUSE_MIN);
        assert_eq!(restarts.pause(SOON, None), PAUSE_MIN * 2);
    }

    #[test]
    fn a_bad_configuration_is_tried_rarely_and_leaves_other_pauses_alone() {
        let mut restarts = Restarts::new();
        assert_eq!(restarts.pause(SOON, Some(64)), PAUSE_CONFIGURATION);
        assert_eq!(restarts.pause(SOON, Some(1)), PAUSE_MIN);
    }
}
