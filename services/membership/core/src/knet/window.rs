//! Which data packets of one sender were seen: a window of 4096 sequence numbers.
//!
//! Numbers are 16 bits, grow by one per packet and skip 0. The window ends at the highest number
//! taken. A number inside is new unless its bit is set; one that is ahead by less than a window
//! moves the window; any other number is a jump and begins a new window, since its sender must have
//! gone on without us, or have begun again.
//!
//! Two bits are kept per number: *delivered*, and *begun* for a packet that arrives in fragments, so
//! that a late fragment of a packet that was given up is not mistaken for a new packet.
//!
//! Source: knet specification, section 4.

/// Sequence numbers that the window covers.
pub(super) const WINDOW: u16 = 4096;

const WORDS: usize = WINDOW as usize / 64;

/// What was seen of one sender.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// The highest number taken; `None` before the first.
    highest: Option<u16>,
    delivered: Bits,
    begun: Bits,
    /// The last timed and the last forced ping's number.
    timed: Option<u16>,
    forced: Option<u16>,
    /// A data packet came since the last forced ping.
    data_since_forced: bool,
}

/// What a data packet's number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not delivered yet.
    New,
    /// Not delivered yet, and so far from the numbers before that nothing of them counts any more.
    Jump,
    /// Delivered already.
    Duplicate,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            highest: None,
            delivered: Bits([0; WORDS]),
            begun: Bits([0; WORDS]),
            timed: None,
            forced: None,
            data_since_forced: false,
        }
    }
}

impl Window {
    /// Looks up the number of a data packet and moves the window if it is ahead. It counts as
    /// delivered with [`Window::set_delivered`] only.
    pub(super) fn look_up(&mut self, seq: u16) -> Seen {
        self.data_since_forced = true;
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return Seen::New;
        };
        if highest.wrapping_sub(seq) < WINDOW {
            return if self.delivered.has(seq) { Seen::Duplicate } else { Seen::New };
        }
        let ahead = seq.wrapping_sub(highest);
        self.highest = Some(seq);
        if ahead >= WINDOW {
            self.clear_bits();
            return Seen::Jump;
        }
        for step in 1..=ahead {
            self.delivered.clear(highest.wrapping_add(step));
            self.begun.clear(highest.wrapping_add(step));
        }
        Seen::New
    }

    /// The packet of this number was delivered.
    pub(super) fn set_delivered(&mut self, seq: u16) {
        self.delivered.set(seq);
    }

    /// Notes that fragments of this number are being collected. `false` if that was noted before:
    /// they were given up.
    pub(super) fn begin(&mut self, seq: u16) -> bool {
        let is_first = !self.begun.has(seq);
        self.begun.set(seq);
        is_first
    }

    /// Takes a ping. `true` if the sender has begun again, so that its window was forgotten and its
    /// fragments must be: a timed ping with number 0, after another number or after data, or a forced
    /// ping with a new number and no data since the forced ping before.
    ///
    /// Differs: the reference does not look at data, and misses a sender that begins again before
    /// its first data was followed by a ping.
    pub(super) fn take_ping(&mut self, seq: u16, is_timed: bool) -> bool {
        let begins_again = if is_timed {
            let is_new = self.timed.replace(seq) != Some(seq);
            seq == 0 && (is_new || self.highest.is_some())
        } else {
            let is_new = self.forced.replace(seq) != Some(seq);
            is_new && !std::mem::take(&mut self.data_since_forced)
        };
        if begins_again {
            self.highest = None;
            self.clear_bits();
        }
        begins_again
    }

    fn clear_bits(&mut self) {
        self.delivered = Bits([0; WORDS]);
        self.begun = Bits([0; WORDS]);
    }
}

/// One bit per number of the window.
#[derive(Debug, Clone)]
struct Bits([u64; WORDS]);

impl Bits {
    fn place(seq: u16) -> (usize, u64) {
        let bit = usize::from(seq % WINDOW);
        (bit / 64, 1 << (bit % 64))
    }

    fn has(&self, seq: u16) -> bool {
        let (word, bit) = Self::place(seq);
        self.0[word] & bit != 0
    }

    fn set(&mut self, seq: u16) {
        let (word, bit) = Self::place(seq);
        self.0[word] |= bit;
    }

    fn clear(&mut self, seq: u16) {
        let (word, bit) = Self::place(seq);
        self.0[word] &= !bit;
    }
}

/// The number after `seq`; 0 is skipped.
#[must_use]
pub(super) fn next_seq(seq: u16) -> u16 {
    seq.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn take(window: &mut Window, seq: u16) -> bool {
        let is_new = window.look_up(seq) != Seen::Duplicate;
        if is_new {
            window.set_delivered(seq);
        }
        is_new
    }

    #[test]
    fn each_number_is_taken_once_in_any_order() {
        let mut window = Window::default();

        assert!([10, 8, 12, 11].into_iter().all(|seq| take(&mut window, seq)));
        assert!(![8, 10, 11, 12].into_iter().any(|seq| take(&mut window, seq)));
        assert!(take(&mut window, 9));
    }

    #[test]
    fn the_counter_skips_zero_and_the_window_follows_it_round() {
        let mut window = Window::default();
        let mut seq = 65_000;
        for _ in 0..70_000 {
            assert!(take(&mut window, seq), "{seq}");
            assert!(!take(&mut window, seq), "{seq}");
            seq = next_seq(seq);
            assert_ne!(seq, 0);
        }
    }

    #[test]
    fn a_jump_begins_a_new_window() {
        let mut window = Window::default();
        assert!(take(&mut window, 1));
        assert_eq!(window.look_up(1 + WINDOW), Seen::Jump);
        assert_eq!(window.look_up(30_000), Seen::Jump);
        window.set_delivered(30_000);
        assert!(!take(&mut window, 30_000));
        assert_eq!(window.look_up(30_000 - WINDOW), Seen::Jump, "too old is a jump, too");
    }

    #[test]
    fn a_sender_that_begins_again_is_noticed_by_its_pings() {
        // given a sender at 100 that was pinging
        let mut window = Window::default();
        assert!(window.take_ping(0, true) && !window.take_ping(0, true));
        assert!((1..=100).all(|seq| take(&mut window, seq)));
        assert!(!window.take_ping(100, true));
        // when it begins again
        assert!(window.take_ping(0, true));
        assert!(!window.take_ping(0, true), "the same ping over another link");
        // then its low numbers are new
        assert!(take(&mut window, 1) && take(&mut window, 2));
    }

    #[test]
    fn a_sender_that_begins_again_right_after_its_first_data_is_noticed() {
        let mut window = Window::default();
        window.take_ping(0, true);
        assert!(take(&mut window, 1));
        assert!(window.take_ping(0, true) && !window.take_ping(0, true));
        assert!(take(&mut window, 1));
    }

    #[test]
    fn a_forced_ping_without_data_in_between_begins_again() {
        let mut window = Window::default();
        assert!(window.take_ping(8191, false), "no data yet");
        assert!(take(&mut window, 8192));
        assert!(!window.take_ping(16_382, false), "data in between");
        assert!(!window.take_ping(16_382, false), "the same over another link");
        assert!(window.take_ping(24_573, false), "nothing in between");
    }

    #[test]
    fn what_was_begun_and_given_up_is_remembered() {
        let mut window = Window::default();
        window.look_up(5);
        assert!(window.begin(5) && !window.begin(5));
        window.look_up(5 + WINDOW - 1);
        assert!(!window.begin(5));
        window.look_up(5 + WINDOW);
        assert!(window.begin(5 + WINDOW), "the place of 5 is free again");
    }

    /// The rules in the words of the specification, with sets instead of bits.
    #[derive(Default)]
    struct Model {
        highest: Option<u16>,
        seen: BTreeSet<u16>,
    }

    impl Model {
        fn take(&mut self, seq: u16) -> bool {
            let highest = *self.highest.get_or_insert(seq);
            let behind = (i32::from(highest) - i32::from(seq)).rem_euclid(65_536);
            let ahead = (i32::from(seq) - i32::from(highest)).rem_euclid(65_536);
            if behind >= 4096 {
                if ahead >= 4096 {
                    self.seen.clear();
                }
                self.highest = Some(seq);
                self.seen.retain(|old| (i32::from(seq) - i32::from(*old)).rem_euclid(65_536) < 4096);
            }
            self.seen.insert(seq)
        }
    }

    proptest! {
        #[test]
        fn the_window_does_what_the_naive_model_does(
            start in any::<u16>(),
            steps in prop::collection::vec(prop_oneof![-40i32..40, -5000i32..5000, any::<i32>()], 1..300),
        ) {
            let (mut window, mut model, mut seq) = (Window::default(), Model::default(), start);
            for step in steps {
                seq = seq.wrapping_add(step as u16);
                prop_assert_eq!(take(&mut window, seq), model.take(seq), "{}", seq);
            }
        }
    }
}
