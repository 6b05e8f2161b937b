//! Epochs: which activation of the group a piece of history was written in.
//!
//! Within one epoch all members apply the same operations in the same order, so a pair (epoch, version)
//! names one history, whoever holds it. [`Epochs`] remembers at which version each epoch wrote first:
//! two such tables tell how far two histories are the same, however long ago they parted.
//! The idea is the leader epoch of replicated logs; the uniqueness argument is that of Raft's terms: an
//! epoch is used only after all participants of a quorate round have stored their promise of it.

use std::fmt;

use quorate_types::RingId;

use crate::tree::EMPTY_VERSION;

/// Most epochs a replica remembers. A replica that missed more quorate rounds with writes than this is
/// treated as diverged: it catches up by index and its own tree is kept as a conflict copy.
pub const EPOCHS_MAX: usize = 512;

/// One activation of the group: the quorate ring, and the round of synchronisation in that ring.
///
/// Ordered by ring sequence, representative, round. The default, all zero, is the *local* epoch: what a
/// node wrote stand-alone. It is lower than any other and never common to two replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch {
    /// Sequence of the ring.
    pub seq: u64,
    /// Representative of the ring: tells apart rings of one sequence.
    pub rep: u32,
    /// Counts the activations in that ring.
    pub round: u32,
}

impl Epoch {
    /// What a node writes stand-alone.
    pub const LOCAL: Self = Self { seq: 0, rep: 0, round: 0 };

    /// The lowest epoch of `ring` that is above `promised`.
    pub(crate) fn after(promised: Self, ring: RingId) -> Self {
        let fresh = Self { seq: ring.seq, rep: ring.rep, round: 0 };
        if fresh > promised {
            return fresh;
        }
        match promised.round.checked_add(1) {
            Some(round) => Self { round, ..promised },
            None => Self { seq: promised.seq.saturating_add(1), round: 0, ..promised },
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}/{}", self.rep, self.seq, self.round)
    }
}

/// The epochs of one history: each with the first version written in it, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Epochs(Vec<(Epoch, u64)>);

impl Epochs {
    /// From a list as [`Epochs::starts`] gives it. Keeps the newest [`EPOCHS_MAX`].
    #[must_use]
    pub fn new(mut starts: Vec<(Epoch, u64)>) -> Self {
        starts.drain(..starts.len().saturating_sub(EPOCHS_MAX));
        Self(starts)
    }

    /// Each epoch with its first version, oldest first.
    #[must_use]
    pub fn starts(&self) -> &[(Epoch, u64)] {
        &self.0
    }

    /// Notes that `version` is written in `epoch`; true when that is the epoch's first.
    pub(crate) fn note(&mut self, epoch: Epoch, version: u64) -> bool {
        if self.0.last().is_some_and(|(last, _)| *last == epoch) {
            return false;
        }
        if self.0.len() == EPOCHS_MAX {
            self.0.remove(0);
        }
        self.0.push((epoch, version));
        true
    }

    /// The last version that two histories share, given where each of them ends.
    ///
    /// The newest epoch that wrote in both decides: they share it up to where the first of them left
    /// it. Local epochs never count as shared.
    #[must_use]
    pub fn common(&self, end: u64, other: &Self, other_end: u64) -> u64 {
        for (index, start) in self.0.iter().enumerate().rev() {
            if start.0 == Epoch::LOCAL {
                continue;
            }
            if let Some(other_index) = other.0.iter().position(|theirs| theirs == start) {
                return self.last_of(index, end).min(other.last_of(other_index, other_end));
            }
        }
        EMPTY_VERSION
    }

    fn last_of(&self, index: usize, end: u64) -> u64 {
        self.0.get(index + 1).map_or(end, |(_, next)| next.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(seq: u64) -> Epoch {
        Epoch { seq, rep: 1, round: 0 }
    }

    #[test]
    fn an_epoch_is_above_every_promise_even_if_the_ring_sequence_went_back() {
        let ring = RingId { rep: 1, seq: 8 };
        assert_eq!(Epoch::after(epoch(4), ring), epoch(8));
        assert_eq!(Epoch::after(epoch(8), ring), Epoch { round: 1, ..epoch(8) });
        assert_eq!(Epoch::after(epoch(100), ring), Epoch { round: 1, ..epoch(100) });
    }

    #[test]
    fn a_prefix_is_common_up_to_its_end() {
        let winner = Epochs::new(vec![(epoch(4), 2), (epoch(8), 11)]);
        let loser = Epochs::new(vec![(epoch(4), 2)]);
        assert_eq!(winner.common(20, &loser, 7), 7);
        assert_eq!(winner.common(20, &loser, 10), 10);
    }

    #[test]
    fn what_a_minority_wrote_after_the_others_left_its_epoch_is_not_common() {
        let winner = Epochs::new(vec![(epoch(4), 2), (epoch(8), 11)]);
        let loser = Epochs::new(vec![(epoch(4), 2)]);
        assert_eq!(winner.common(20, &loser, 13), 10);
    }

    #[test]
    fn local_writes_are_never_common() {
        let winner = Epochs::new(vec![(epoch(4), 2), (epoch(8), 11)]);
        let loser = Epochs::new(vec![(epoch(4), 2), (Epoch::LOCAL, 8)]);
        assert_eq!(winner.common(20, &loser, 30), 7);
        let strangers = Epochs::new(vec![(Epoch::LOCAL, 2)]);
        assert_eq!(strangers.common(9, &strangers.clone(), 9), EMPTY_VERSION);
    }

    #[test]
    fn an_empty_replica_shares_the_empty_tree() {
        let winner = Epochs::new(vec![(epoch(4), 2)]);
        assert_eq!(winner.common(20, &Epochs::default(), EMPTY_VERSION), EMPTY_VERSION);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut epochs = Epochs::default();
        for seq in 1..=1000 {
            assert!(epochs.note(epoch(seq), seq));
            assert!(!epochs.note(epoch(seq), seq + 1));
        }
        assert_eq!(epochs.starts().len(), EPOCHS_MAX);
        assert_eq!(epochs.starts().last(), Some(&(epoch(1000), 1000)));
    }
}
