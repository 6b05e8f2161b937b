//! Reassembly: any order, duplicates, loss, nonsense; what is kept is bounded.

use proptest::prelude::*;

use super::*;
use crate::knet::window::{Seen, Window};

fn packet(length: usize, seed: usize) -> Bytes {
    (0..length).map(|i| ((i * 7 + i / 256 + seed) % 251) as u8).collect()
}

fn cut(seq: u16, packet: &Bytes, size: usize) -> Vec<Fragment> {
    let count = count(packet.len(), size).unwrap();
    let piece = |i: usize| packet.slice(i * size..packet.len().min((i + 1) * size));
    (1..=count).map(|number| Fragment { seq, number, count, piece: piece(usize::from(number) - 1) }).collect()
}

/// One receiver: what it delivered, by number.
#[derive(Default)]
struct Receiver {
    window: Window,
    reassembly: Reassembly,
    delivered: Vec<(u16, Bytes)>,
}

impl Receiver {
    fn take(&mut self, fragment: &Fragment) -> Option<Taken> {
        if self.window.look_up(fragment.seq) == Seen::Duplicate {
            return None;
        }
        let taken = self.reassembly.take(&mut self.window, fragment);
        if let Taken::Complete(packet) = &taken {
            self.window.set_delivered(fragment.seq);
            self.delivered.push((fragment.seq, packet.clone()));
        }
        Some(taken)
    }
}

#[test]
fn the_number_of_pieces_is_limited() {
    assert_eq!(count(1446, 1446), Some(1));
    assert_eq!(count(1447, 1446), Some(2));
    assert_eq!(count(0, 1446), Some(1));
    assert_eq!(count(65_446, 421), Some(156));
    assert_eq!(count(256, 1), None);
    assert_eq!(count(PACKET_MAX + 1, 1446), None);
}

#[test]
fn the_last_piece_may_come_first() {
    let whole = packet(3000, 1);
    let mut receiver = Receiver::default();

    for fragment in cut(9, &whole, 1446).iter().rev() {
        receiver.take(fragment);
    }
    assert_eq!(receiver.delivered, [(9, whole)]);
}

#[test]
fn a_fragment_that_does_not_fit_the_others_is_refused() {
    let mut receiver = Receiver::default();
    let fragment = |number, count, length| Fragment { seq: 5, number, count, piece: packet(length, 0) };
    let mut take = |f: Fragment| receiver.take(&f).unwrap();

    assert_eq!(take(fragment(1, 3, 100)), Taken::Kept);
    assert_eq!(take(fragment(1, 3, 100)), Taken::Duplicate);
    for bad in [
        fragment(2, 4, 100),
        fragment(2, 3, 99),
        fragment(3, 3, 101),
        fragment(0, 3, 100),
        fragment(4, 3, 100),
        fragment(2, 1, 100),
        fragment(2, 3, 0),
    ] {
        assert_eq!(take(bad.clone()), Taken::Bad, "{bad:?}");
    }
    assert_eq!(take(fragment(2, 3, 100)), Taken::Kept);
    assert!(matches!(take(fragment(3, 3, 100)), Taken::Complete(whole) if whole.len() == 300));
}

#[test]
fn a_packet_beyond_the_limit_is_refused_before_it_is_kept() {
    let mut receiver = Receiver::default();
    let huge = Fragment { seq: 1, number: 1, count: 255, piece: packet(60_000, 0) };

    assert_eq!(receiver.take(&huge), Some(Taken::Bad));
    assert_eq!(receiver.reassembly.bytes(), 0);
}

#[test]
fn late_fragments_of_a_packet_that_was_given_up_are_no_new_packet() {
    // given a packet of which one fragment is missing, and 33 later ones
    let mut receiver = Receiver::default();
    let late = cut(1, &packet(2000, 1), 1000);
    receiver.take(&late[0]);
    for seq in 2..=34 {
        cut(seq, &packet(2000, seq.into()), 1000).iter().for_each(|f| drop(receiver.take(f)));
    }
    // when the missing one arrives
    let taken = receiver.take(&late[1]);
    // then it is too late
    assert_eq!(taken, Some(Taken::Duplicate));
    assert_eq!((receiver.delivered.len(), receiver.reassembly.given_up()), (33, 1));
}

#[test]
fn what_one_sender_makes_us_keep_is_bounded() {
    let mut receiver = Receiver::default();
    for seq in 1..=5000 {
        for number in [2, 1] {
            receiver.take(&Fragment { seq, number, count: 255, piece: packet(257, 0) });
        }
        assert!(receiver.reassembly.bytes() <= BUFFERS * (PACKET_MAX + FRAGMENTS_MAX));
        assert!(receiver.reassembly.buffers.len() <= BUFFERS);
    }
}

proptest! {
    #[test]
    fn fragments_in_any_order_with_duplicates_give_the_packets_once(
        lengths in prop::collection::vec(1usize..5000, 1..8),
        size in 40usize..1500,
        order in any::<u64>(),
    ) {
        // given the fragments of some packets, twice each, shuffled
        let packets: Vec<Bytes> = lengths.iter().enumerate().map(|(i, length)| packet(*length, i)).collect();
        let mut fragments = Vec::new();
        for (seq, packet) in (1u16..).zip(&packets) {
            fragments.extend(cut(seq, packet, size).into_iter().filter(|f| f.count > 1));
        }
        fragments.extend(fragments.clone());
        let mut random = order | 1;
        fragments.sort_by_cached_key(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random >> 33
        });
        // when they arrive
        let mut receiver = Receiver::default();
        fragments.iter().for_each(|fragment| drop(receiver.take(fragment)));
        // then each packet is there once and whole
        receiver.delivered.sort_by_key(|(seq, _)| *seq);
        let expected: Vec<(u16, Bytes)> =
            (1u16..).zip(packets).filter(|(_, packet)| count(packet.len(), size) > Some(1)).collect();
        prop_assert_eq!(receiver.delivered, expected);
        prop_assert_eq!(receiver.reassembly.bytes(), 0);
    }

    #[test]
    fn no_fragments_whatsoever_panic_or_grow_memory(
        fragments in prop::collection::vec((any::<u16>(), any::<u8>(), any::<u8>(), 0usize..2000), 1..200),
        narrow in any::<bool>(),
    ) {
        let mut receiver = Receiver::default();
        for (seq, number, count, length) in fragments {
            let (seq, number, count) = if narrow { (seq % 3, number % 4, count % 4) } else { (seq, number, count) };
            receiver.take(&Fragment { seq, number, count, piece: packet(length, 0) });
            prop_assert!(receiver.reassembly.bytes() <= BUFFERS * 2 * PACKET_MAX);
        }
    }
}
