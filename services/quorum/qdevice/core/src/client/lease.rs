//! How long the arbiter's vote may be believed without a word from it.
//!
//! The arbiter takes a node for dead one and a half heartbeats after it last heard from it, and may then give its
//! vote to another part. A node that is cut off from it must give the vote up before that, though it knows only
//! when its own question was sent that was answered last: the arbiter heard it then or later. So the vote counts
//! for one and a quarter heartbeats from there. Differs: `corosync-qdevice` asks once in a heartbeat and waits for
//! the answer until it would ask again, which is half a heartbeat longer than the arbiter waits.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The vote's time.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    heartbeat: Duration,
    /// Questions that are not answered, with when they were sent; at most those of one lease.
    asked: VecDeque<(u32, Instant)>,
    next: Instant,
    ends: Instant,
}

impl Lease {
    /// A lease of a node whose last message that was answered was sent at `heard`.
    pub(crate) fn new(heartbeat: Duration, heard: Instant, now: Instant) -> Self {
        let asked = VecDeque::new();
        Self { heartbeat, asked, next: now + heartbeat / 2, ends: heard + heartbeat + heartbeat / 4 }
    }

    /// When [`Self::is_due`] or [`Self::is_over`] changes.
    pub(crate) fn deadline(&self) -> Instant {
        self.next.min(self.ends)
    }

    /// Whether the vote counts no more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.ends
    }

    /// Whether a question is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// A question with this number is sent.
    pub(crate) fn asked(&mut self, seq: u32, now: Instant) {
        self.asked.push_back((seq, now));
        self.next = now + self.heartbeat / 2;
    }

    /// A question is answered; answers come in the order of the questions.
    pub(crate) fn answered(&mut self, seq: u32) {
        let Some(place) = self.asked.iter().position(|(asked, _)| *asked == seq) else { return };
        if let Some((_, sent)) = self.asked.drain(..=place).next_back() {
            self.ends = sent + self.heartbeat + self.heartbeat / 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(8);

    #[test]
    fn the_lease_ends_before_the_arbiter_may_take_the_node_for_dead() {
        let start = Instant::now();
        let mut lease = Lease::new(HEARTBEAT, start, start);
        let second = |seconds| start + Duration::from_secs(seconds);
        lease.asked(1, second(4));
        lease.answered(1);
        lease.asked(2, second(8));

        // The arbiter heard question 1 at second 4 at the earliest: it waits until second 16 or longer.
        assert!(!lease.is_over(second(13)));
        assert!(lease.is_over(second(14)));
    }

    #[test]
    fn only_the_question_that_was_answered_counts() {
        let start = Instant::now();
        let mut lease = Lease::new(HEARTBEAT, start, start);
        lease.asked(1, start + Duration::from_secs(4));
        lease.asked(2, start + Duration::from_secs(8));
        lease.answered(1);
        assert!(lease.is_over(start + Duration::from_secs(14)));
        lease.answered(7);
        assert!(lease.is_over(start + Duration::from_secs(14)));
        lease.answered(2);
        assert!(!lease.is_over(start + Duration::from_secs(17)));
    }

    #[test]
    fn questions_come_twice_in_a_heartbeat() {
        let start = Instant::now();
        let mut lease = Lease::new(HEARTBEAT, start, start);
        assert_eq!(lease.deadline(), start + Duration::from_secs(4));
        lease.asked(1, start + Duration::from_secs(4));
        assert_eq!(lease.deadline(), start + Duration::from_secs(8));
    }
}
