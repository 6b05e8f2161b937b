//! All timers of the ring in one table, and the random delay of a join.

use std::time::{Duration, Instant};

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// No token for too long: the ring is broken.
    Token,
    /// The same, with the shorter heartbeat timeout.
    Heartbeat,
    /// No token for long: say so.
    TokenWarning,
    /// No later token: send the last one again.
    TokenRetransmit,
    /// The token was held long enough.
    TokenHold,
    /// The token of a ring of one comes back to its only member.
    OwnToken,
    /// Send the next join.
    Join,
    /// The random delay before a join is over.
    SendJoin,
    /// Not all nodes have agreed in time.
    Consensus,
    /// An idle ring announces itself.
    Merge,
    /// Shows that this process is scheduled.
    Pause,
}

impl Timer {
    const ALL: [Self; 11] = [
        Self::Token,
        Self::Heartbeat,
        Self::TokenWarning,
        Self::TokenRetransmit,
        Self::TokenHold,
        Self::OwnToken,
        Self::Join,
        Self::SendJoin,
        Self::Consensus,
        Self::Merge,
        Self::Pause,
    ];
}

/// The deadlines that are set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    deadlines: [Option<Instant>; Timer::ALL.len()],
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.deadlines[timer as usize] = Some(at);
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize].is_some()
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Takes out the earliest timer whose deadline has come.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Timer> {
        let due = |timer: &Timer| self.deadlines[*timer as usize].filter(|at| *at <= now);
        let timer =
            Timer::ALL.into_iter().filter(|t| due(t).is_some()).min_by_key(|t| (due(t), *t as usize))?;
        self.cancel(timer);
        Some(timer)
    }
}

/// A small generator (xorshift64*), seeded by the caller: delays need no more.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// A duration between zero and `max`, both included, in whole milliseconds.
    pub(super) fn up_to(&mut self, max: Duration) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        let millis = u64::try_from(max.as_millis()).unwrap_or(u64::MAX - 1);
        Duration::from_millis(number % (millis + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_timers_come_in_the_order_of_their_deadlines() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set(Timer::Token, at(30));
        timers.set(Timer::Join, at(10));
        timers.set(Timer::Merge, at(20));

        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.take_expired(at(9)), None);
        assert_eq!(timers.take_expired(at(25)), Some(Timer::Join));
        assert_eq!(timers.take_expired(at(25)), Some(Timer::Merge));
        assert_eq!(timers.take_expired(at(25)), None);
        assert!(timers.is_set(Timer::Token));
    }

    #[test]
    fn table_has_a_place_for_each_timer() {
        for (index, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }

    #[test]
    fn random_delay_stays_in_its_range() {
        let mut chance = Chance::new(7);

        for _ in 0..100 {
            assert!(chance.up_to(Duration::from_millis(80)) <= Duration::from_millis(80));
        }
        assert_eq!(chance.up_to(Duration::ZERO), Duration::ZERO);
    }
}
