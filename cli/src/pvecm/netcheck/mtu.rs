//! The search for the largest datagram that passes unfragmented both ways.

use std::time::Duration;

use super::datagram::{PAYLOAD_MAX, PROBE_LENGTH};

/// Time for an answer before a length is tried again.
const TRY_TIMEOUT: Duration = Duration::from_millis(250);
/// Tries before a length counts as too long.
const TRIES: u32 = 3;
/// Lengths that most networks have, tried first: Ethernet with 1500 and with 9000 bytes, without the headers of IPv4.
const USUAL: [usize; 2] = [1472, 8972];

/// A search between a length that passed and one that did not. Lengths are UDP payloads in bytes.
#[derive(Debug)]
pub(super) struct MtuSearch {
    passed: usize,
    failed: usize,
    trying: Option<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    length: usize,
    tries: u32,
    until: Duration,
}

impl MtuSearch {
    /// A search that knows only that short probes pass.
    pub(super) fn new() -> Self {
        Self { passed: PROBE_LENGTH, failed: PAYLOAD_MAX + 1, trying: None }
    }

    /// Whether the answer is known.
    pub(super) fn is_done(&self) -> bool {
        self.failed - self.passed <= 1
    }

    /// The largest payload that passed, in bytes.
    pub(super) fn passed(&self) -> usize {
        self.passed
    }

    /// The length to be sent now, if any.
    pub(super) fn poll(&mut self, now: Duration) -> Option<usize> {
        if let Some(attempt) = &mut self.trying {
            if now < attempt.until {
                return None;
            }
            if attempt.tries < TRIES {
                attempt.tries += 1;
                attempt.until = now + TRY_TIMEOUT;
                return Some(attempt.length);
            }
            self.failed = attempt.length;
            self.trying = None;
        }
        if self.is_done() {
            return None;
        }
        let inside = |length: &usize| (self.passed + 1..self.failed).contains(length);
        let length = USUAL.into_iter().find(inside).unwrap_or(usize::midpoint(self.passed, self.failed));
        self.trying = Some(Attempt { length, tries: 1, until: now + TRY_TIMEOUT });
        Some(length)
    }

    /// When to poll again.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.trying.as_ref().map(|attempt| attempt.until)
    }

    /// A probe of this length was answered.
    pub(super) fn answered(&mut self, length: usize) {
        if length < self.failed {
            self.passed = self.passed.max(length);
        }
        self.trying.take_if(|attempt| attempt.length <= length);
    }

    /// The operating system refuses to send this length unfragmented.
    pub(super) fn refused(&mut self, length: usize) {
        if length > self.passed {
            self.failed = self.failed.min(length);
        }
        self.trying.take_if(|attempt| attempt.length >= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches on a way that passes `max` bytes; `is_told` if the operating system says so. Returns result and time.
    fn search(max: usize, is_told: bool) -> (usize, Duration) {
        let (mut search, mut now) = (MtuSearch::new(), Duration::ZERO);
        while !search.is_done() {
            match search.poll(now) {
                Some(length) if length <= max => search.answered(length),
                Some(length) if is_told => search.refused(length),
                Some(_) => {}
                None => now = search.deadline().unwrap_or(now),
            }
        }
        (search.passed(), now)
    }

    #[test]
    fn any_length_is_found_exactly() {
        for max in [PROBE_LENGTH, 548, 1392, 1472, 1473, 8972, 20_000, PAYLOAD_MAX] {
            assert_eq!(search(max, true), (max, Duration::ZERO));
            assert_eq!(search(max, false).0, max);
        }
    }

    #[test]
    fn a_way_that_swallows_long_datagrams_takes_seconds_not_minutes() {
        let (found, took) = search(1472, false);
        assert_eq!(found, 1472);
        assert!(took < Duration::from_secs(15), "{took:?}");
    }
}
