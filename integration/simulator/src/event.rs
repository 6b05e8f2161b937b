//! The queue of what will happen: ordered by virtual time, and by insertion where times are equal.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// Virtual time: the span since the simulation began.
pub type SimTime = Duration;

/// When, in nanoseconds; the how-manieth to be added (so never the same twice); and where the event is.
type Key = (u64, u64, usize);

/// Events in the order of their time. The time of the queue is that of the last event taken.
///
/// Events stay where they were put; only their small keys move when the heap is sorted.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Key>>,
    slots: Vec<Option<E>>,
    free: Vec<usize>,
    order: u64,
    now: SimTime,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), order: 0, now: SimTime::ZERO }
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
        self.heap.peek().map(|Reverse((at, ..))| SimTime::from_nanos(*at))
    }

    /// Adds an event; a time in the past counts as now.
    pub fn push(&mut self, at: SimTime, event: E) {
        let order = self.order;
        self.order += 1;
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(Some(event));
        } else {
            self.slots[slot] = Some(event);
        }
        self.heap.push(Reverse((at.max(self.now).as_nanos() as u64, order, slot)));
    }

    /// Takes the next event and moves the time to it.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        let at = SimTime::from_nanos(at);
        debug_assert!(at >= self.now, "virtual time never goes back");
        self.now = at;
        self.free.push(slot);
        self.slots[slot].take()
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
