//! The queue of what will happen: ordered by virtual time, and by insertion where times are equal.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

/// Virtual time: the span since the simulation began.
pub type SimTime = Duration;

#[derive(Debug)]
struct Entry<E> {
    at: SimTime,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Events in the order of their time. The time of the queue is that of the last event taken.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    order: u64,
    now: SimTime,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), order: 0, now: SimTime::ZERO }
    }
}

impl<E> Queue<E> {
    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// How many events wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Time of the next event.
    #[must_use]
    pub fn next_at(&self) -> Option<SimTime> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Adds an event; a time in the past counts as now.
    pub fn push(&mut self, at: SimTime, event: E) {
        let order = self.order;
        self.order += 1;
        self.heap.push(Reverse(Entry { at: at.max(self.now), order, event }));
    }

    /// Takes the next event and moves the time to it.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse(entry) = self.heap.pop()?;
        debug_assert!(entry.at >= self.now, "virtual time never goes back");
        self.now = entry.at;
        Some(entry.event)
    }

    /// Moves the time on to `at` where nothing is due before it.
    ///
    /// # Panics
    /// If an event is due before `at`.
    pub fn advance_to(&mut self, at: SimTime) {
        assert!(self.next_at().is_none_or(|next| next >= at), "an event is due before {at:?}");
        self.now = self.now.max(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> SimTime {
        SimTime::from_millis(ms)
    }

    #[test]
    fn events_come_by_time_and_equal_times_by_insertion() {
        let mut queue = Queue::default();
        queue.push(ms(5), 'c');
        queue.push(ms(1), 'a');
        queue.push(ms(5), 'd');
        queue.push(ms(1), 'b');
        let order: String = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, "abcd");
        assert_eq!(queue.now(), ms(5));
    }

    #[test]
    fn an_event_in_the_past_happens_now() {
        let mut queue = Queue::default();
        queue.push(ms(9), 1);
        queue.pop();
        queue.push(ms(3), 2);
        assert_eq!(queue.next_at(), Some(ms(9)));
    }
}
