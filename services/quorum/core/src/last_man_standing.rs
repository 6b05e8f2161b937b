//! `last_man_standing`: a window after nodes were lost, the votes present become the votes expected.
//!
//! Differs: the window does not end while a ring synchronises, but right after. In between the votes of
//! the new ring are not known, and quorum would be that of the old one.
//!
//! Source: votequorum(5); service specification, 3.7.

use std::time::{Duration, Instant};

use crate::nodes::Nodes;

/// The window that runs, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LastManStanding {
    ends: Option<Instant>,
}

/// A ring that is to synchronise, seen by how many nodes it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewRing {
    pub(crate) members: u32,
    pub(crate) quorum: u32,
    /// Whether a node of the ring before is missing.
    pub(crate) someone_left: bool,
    /// Whether there is a tie breaker and its lowest node is here.
    pub(crate) has_tie_breaker: bool,
}

impl LastManStanding {
    /// Starts the window anew if enough nodes are left; a window that runs goes on otherwise.
    pub(crate) fn arm(&mut self, now: Instant, window: Duration, ring: NewRing) {
        let enough = ring.members >= ring.quorum && ring.someone_left;
        let tie = ring.members <= ring.quorum && ring.has_tie_breaker;
        if enough || tie {
            self.ends = Some(now + window);
        }
    }

    pub(crate) const fn cancel(&mut self) {
        self.ends = None;
    }

    pub(crate) const fn ends(&self) -> Option<Instant> {
        self.ends
    }

    /// Whether the window is over; says so once.
    pub(crate) fn take_end(&mut self, now: Instant) -> bool {
        self.ends.take_if(|ends| *ends <= now).is_some()
    }
}

/// It counts nodes as votes, so every member must have exactly one.
pub(crate) fn is_applicable(nodes: &Nodes) -> bool {
    nodes.members().all(|(_, record)| record.votes == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn armed(members: u32, someone_left: bool, has_tie_breaker: bool) -> bool {
        let mut timer = LastManStanding::default();
        let ring = NewRing { members, quorum: 3, someone_left, has_tie_breaker };
        timer.arm(Instant::now(), WINDOW, ring);
        timer.ends().is_some()
    }

    #[test]
    fn a_loss_that_leaves_quorum_starts_the_window() {
        assert!(armed(3, true, false));
        assert!(!armed(2, true, false));
        assert!(!armed(4, false, false));
    }

    #[test]
    fn a_half_starts_the_window_if_it_has_the_tie_breaker() {
        assert!(armed(2, true, true));
        assert!(!armed(4, false, true));
    }

    #[test]
    fn the_window_ends_once() {
        let now = Instant::now();
        let mut timer = LastManStanding::default();
        timer.arm(now, WINDOW, NewRing { members: 3, quorum: 2, someone_left: true, has_tie_breaker: false });

        assert!(!timer.take_end(now));
        assert!(timer.take_end(now + WINDOW));
        assert!(!timer.take_end(now + WINDOW));
    }
}
