//! Sequence numbers, and the window of messages of one ring.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_types::RingId;

use super::{
    message::{Mcast, RTR_MAX, RtrItem},
    params::WINDOW_SEQS,
    stats::Drop,
};

/// From here on a comparison shifts both sides down, so that the wrap at 2³² lies elsewhere.
const ADJUST_FROM: u32 = 0x8000_0000;
const ADJUST_BY: u32 = 0x1_0000;

/// Does `a` come before `b`? Source: Totem specification 1.7.
#[must_use]
pub fn seq_lt(a: u32, b: u32) -> bool {
    let (a, b) = adjusted(a, b);
    a < b
}

/// Does `a` come before `b`, or is it the same?
#[must_use]
pub fn seq_le(a: u32, b: u32) -> bool {
    let (a, b) = adjusted(a, b);
    a <= b
}

/// The earlier of two sequence numbers.
#[must_use]
pub fn seq_min(a: u32, b: u32) -> u32 {
    if seq_lt(a, b) { a } else { b }
}

fn adjusted(a: u32, b: u32) -> (u32, u32) {
    if a > ADJUST_FROM || b > ADJUST_FROM {
        (a.wrapping_sub(ADJUST_BY), b.wrapping_sub(ADJUST_BY))
    } else {
        (a, b)
    }
}

/// A message as received, kept until all members have it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// The datagram, sent again unchanged when asked for.
    pub(super) raw: Bytes,
    /// The same, decoded.
    pub(super) mcast: Mcast,
}

#[derive(Debug, Default)]
struct Slot {
    message: Option<Stored>,
    misses: u32,
}

/// The messages of one ring in order: what is here, what is missing, what was delivered.
///
/// Holds sequence numbers `last_released + 1 ..= last_released + 16384`.
#[derive(Debug)]
pub(super) struct Order {
    /// The ring that the messages belong to.
    pub(super) ring_id: RingId,
    /// All received up to.
    pub(super) aru: u32,
    /// The highest message received or sent.
    pub(super) high_seq_received: u32,
    /// The highest message delivered.
    pub(super) high_delivered: u32,
    /// Everything up to here was received by all and is gone.
    pub(super) last_released: u32,
    /// The highest message that was announced as safe.
    pub(super) safe: u32,
    slots: VecDeque<Slot>,
}

impl Order {
    /// An empty ring whose first message will be `initial_seq + 1`.
    pub(super) fn new(ring_id: RingId, initial_seq: u32) -> Self {
        Self {
            ring_id,
            aru: initial_seq,
            high_seq_received: initial_seq,
            high_delivered: initial_seq,
            last_released: initial_seq,
            safe: initial_seq,
            slots: VecDeque::new(),
        }
    }

    fn index(&self, seq: u32) -> Option<usize> {
        let offset = seq.wrapping_sub(self.last_released).wrapping_sub(1);
        (offset < WINDOW_SEQS).then_some(offset as usize)
    }

    /// Can this sequence number be stored?
    pub(super) fn in_window(&self, seq: u32) -> bool {
        self.index(seq).is_some()
    }

    /// The message with this sequence number, if it is here.
    pub(super) fn get(&self, seq: u32) -> Option<&Stored> {
        self.slots.get(self.index(seq)?)?.message.as_ref()
    }

    /// Stores a message and moves the aru over what is contiguous.
    pub(super) fn receive(&mut self, stored: Stored) -> Result<(), Drop> {
        let seq = stored.mcast.seq;
        if seq_le(seq, self.last_released) {
            return Err(Drop::DuplicateMessage);
        }
        let index = self.index(seq).ok_or(Drop::OutOfWindow)?;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.slots[index];
        if slot.message.is_some() {
            return Err(Drop::DuplicateMessage);
        }
        slot.message = Some(stored);
        if seq_lt(self.high_seq_received, seq) {
            self.high_seq_received = seq;
        }
        while self.get(self.aru.wrapping_add(1)).is_some() {
            self.aru = self.aru.wrapping_add(1);
        }
        debug_assert!(seq_le(self.aru, self.high_seq_received), "what is contiguous was received");
        Ok(())
    }

    /// The next message to deliver, unless it is missing; counts as delivered.
    pub(super) fn deliver_next(&mut self) -> Option<&Stored> {
        let next = self.high_delivered.wrapping_add(1);
        if !seq_le(next, self.high_seq_received) || self.get(next).is_none() {
            return None;
        }
        self.high_delivered = next;
        self.get(next)
    }

    /// Forgets what two successive tokens saw received by all (and was delivered here).
    pub(super) fn release(&mut self, token_aru: u32, last_aru: u32) {
        let to = seq_min(seq_min(token_aru, last_aru), self.high_delivered);
        if !seq_lt(self.last_released, to) {
            return;
        }
        let count = to.wrapping_sub(self.last_released) as usize;
        self.slots.drain(..count.min(self.slots.len()));
        self.last_released = to;
    }

    /// Everything received counts as delivered and is forgotten: the recovered messages of a new
    /// ring have no meaning once it is installed.
    pub(super) fn release_recovered(&mut self) {
        self.high_delivered = self.high_seq_received;
        self.safe = self.high_seq_received;
        self.release(self.high_seq_received, self.high_seq_received);
    }

    /// Asks for messages up to `token_seq` that have been missing on `miss_count` visits.
    pub(super) fn request_missing(&mut self, token_seq: u32, miss_count: u32, rtr: &mut Vec<RtrItem>) {
        let range = token_seq.wrapping_sub(self.aru);
        if range > WINDOW_SEQS {
            return;
        }
        let ring_id = self.ring_id;
        for seq in (1..=range).map(|n| self.aru.wrapping_add(n)) {
            if rtr.len() >= RTR_MAX {
                return;
            }
            let Some(index) = self.index(seq) else { return };
            if self.slots.len() <= index {
                self.slots.resize_with(index + 1, Slot::default);
            }
            let slot = &mut self.slots[index];
            if slot.message.is_some() {
                continue;
            }
            slot.misses = slot.misses.saturating_add(1);
            let item = RtrItem { ring_id, seq };
            if slot.misses >= miss_count && !rtr.contains(&item) {
                rtr.push(item);
            }
        }
    }

    /// All stored messages in order.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Stored> {
        self.slots.iter().filter_map(|slot| slot.message.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::NodeId;

    use super::*;

    const RING: RingId = RingId { rep: 1, seq: 4 };

    fn stored(seq: u32) -> Stored {
        let nodeid = NodeId::new(1).unwrap();
        let mcast = Mcast {
            nodeid,
            target_nodeid: 0,
            encapsulated: false,
            system_from: nodeid,
            seq,
            this_seqno: 0,
            ring_id: RING,
            node_id: 0,
            guarantee: 0,
            payload: Bytes::new(),
        };
        Stored { raw: mcast.encode(), mcast }
    }

    #[test]
    fn comparison_holds_across_the_wrap() {
        for (earlier, later) in [(0, 1), (u32::MAX, 0), (0xffff_fe00, 0x200), (0x7fff_ffff, 0x8000_0001)] {
            assert!(seq_lt(earlier, later) && !seq_lt(later, earlier), "{earlier:#x} {later:#x}");
            assert!(seq_le(earlier, later) && seq_le(later, later));
            assert_eq!(seq_min(later, earlier), earlier);
        }
    }

    #[test]
    fn aru_moves_when_the_gap_closes_also_across_the_wrap() {
        let mut order = Order::new(RING, u32::MAX - 1);

        order.receive(stored(u32::MAX)).unwrap();
        order.receive(stored(1)).unwrap();
        assert_eq!((order.aru, order.high_seq_received), (u32::MAX, 1));
        order.receive(stored(0)).unwrap();

        assert_eq!(order.aru, 1);
        let delivered: Vec<u32> = std::iter::from_fn(|| order.deliver_next().map(|s| s.mcast.seq)).collect();
        assert_eq!(delivered, [u32::MAX, 0, 1]);
    }

    #[test]
    fn message_outside_of_the_window_is_refused() {
        let mut order = Order::new(RING, 0);

        assert_eq!(order.receive(stored(WINDOW_SEQS + 1)), Err(Drop::OutOfWindow));
        assert_eq!(order.receive(stored(0)), Err(Drop::DuplicateMessage));
        assert_eq!(order.receive(stored(WINDOW_SEQS)), Ok(()));
        assert_eq!(order.receive(stored(WINDOW_SEQS)), Err(Drop::DuplicateMessage));
    }

    #[test]
    fn release_waits_for_two_tokens_and_for_delivery() {
        let mut order = Order::new(RING, 0);
        for seq in 1..=4 {
            order.receive(stored(seq)).unwrap();
        }
        while order.deliver_next().is_some() {}

        order.release(4, 2);
        assert_eq!(order.last_released, 2);
        assert!(order.get(2).is_none() && order.get(3).is_some());
        order.release(u32::MAX, 4);
        assert_eq!(order.last_released, 2, "the aru before a first rotation releases nothing");
    }

    #[test]
    fn missing_message_is_asked_for_after_five_visits_and_once() {
        let mut order = Order::new(RING, 0);
        order.receive(stored(2)).unwrap();
        let mut rtr = Vec::new();

        for _ in 0..4 {
            order.request_missing(2, 5, &mut rtr);
        }
        assert!(rtr.is_empty());
        order.request_missing(2, 5, &mut rtr);
        order.request_missing(2, 5, &mut rtr);

        assert_eq!(rtr, [RtrItem { ring_id: RING, seq: 1 }]);
    }

    #[test]
    fn requests_fit_into_one_token() {
        let mut order = Order::new(RING, 0);
        let mut rtr = Vec::new();

        order.request_missing(1000, 1, &mut rtr);
        assert_eq!(rtr.len(), RTR_MAX);
        order.request_missing(u32::MAX, 1, &mut rtr);
        assert_eq!(rtr.len(), RTR_MAX);
    }
}
