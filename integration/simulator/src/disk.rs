//! A disk whose unsynced writes a crash may lose.
//!
//! Writes are made durable one after the other, in the order they were submitted. Until the disk has
//! reported a write, a crash of the machine keeps a random number of the first pending
//! writes and loses the rest: what a write-ahead log on a real disk does. A write is atomic: torn
//! batches are the business of the real store's checksums.
//!
//! The crash of a process alone is treated the same way: what it had handed to the disk may or may
//! not have got there.

use std::{collections::VecDeque, time::Duration};

use crate::{event::SimTime, rng::Rng};

/// How long a write takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiskSpeed {
    /// Fastest write with its sync.
    pub min: Duration,
    /// Slowest write with its sync.
    pub max: Duration,
}

impl DiskSpeed {
    /// A good solid-state disk with power-loss protection.
    pub const FAST: Self = Self { min: Duration::from_micros(50), max: Duration::from_micros(500) };
    /// A disk that stalls.
    pub const SLOW: Self = Self { min: Duration::from_millis(5), max: Duration::from_millis(800) };
}

/// One process' part of the disk: its pending writes, oldest first. What is durable lives with the
/// owner, who applies each write that [`Disk::complete`] or [`Disk::crash`] returns.
#[derive(Debug)]
pub struct Disk<W> {
    rng: Rng,
    speed: DiskSpeed,
    pending: VecDeque<W>,
    last_done: SimTime,
}

impl<W> Disk<W> {
    /// A disk without pending writes.
    #[must_use]
    pub fn new(rng: Rng, speed: DiskSpeed) -> Self {
        Self { rng, speed, pending: VecDeque::new(), last_done: SimTime::ZERO }
    }

    /// Changes the speed of the writes that follow.
    pub fn set_speed(&mut self, speed: DiskSpeed) {
        self.speed = speed;
    }

    /// Hands over a write and says when it will be durable. Call [`Disk::complete`] at that time.
    pub fn submit(&mut self, now: SimTime, write: W) -> SimTime {
        self.pending.push_back(write);
        let start = now.max(self.last_done);
        self.last_done = start + self.rng.span(self.speed.min, self.speed.max);
        self.last_done
    }

    /// The oldest pending write is durable: returns it.
    pub fn complete(&mut self) -> Option<W> {
        self.pending.pop_front()
    }

    /// How many writes are not yet durable.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// A crash: returns the pending writes that made it, oldest first; the others are gone.
    pub fn crash(&mut self) -> Vec<W> {
        let kept = self.rng.index(self.pending.len() + 1);
        let survivors = self.pending.drain(..).take(kept).collect();
        self.last_done = SimTime::ZERO;
        survivors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk<u32> {
        Disk::new(Rng::new(1), DiskSpeed::FAST)
    }

    #[test]
    fn writes_become_durable_in_the_order_they_were_submitted() {
        let mut disk = disk();
        let times: Vec<_> = (0..20).map(|write| disk.submit(SimTime::ZERO, write)).collect();
        assert!(times.is_sorted());
        assert_eq!(disk.complete(), Some(0));
        assert_eq!(disk.complete(), Some(1));
        assert_eq!(disk.pending(), 18);
    }

    #[test]
    fn a_crash_keeps_a_prefix_of_the_pending_writes() {
        let mut lengths = std::collections::BTreeSet::new();
        let mut disk = disk();
        for _ in 0..200 {
            for write in 0..4 {
                disk.submit(SimTime::ZERO, write);
            }
            let kept = disk.crash();
            assert!(kept.iter().copied().eq(0..kept.len() as u32));
            assert_eq!(disk.pending(), 0);
            lengths.insert(kept.len());
        }
        assert_eq!(lengths.len(), 5, "every length from nothing to all happens");
    }
}
