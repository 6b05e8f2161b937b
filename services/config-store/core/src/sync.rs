//! Who wins a round of synchronisation, under which epoch it goes on, and what each loser needs.
//!
//! Pure functions of the states that all participants have seen: everybody comes to the same result.

use std::collections::BTreeMap;

use quorate_types::{NodeId, RingId};

use crate::{checksum::Checksum, epoch::Epoch, message::MemberState, tree::EMPTY_VERSION};

/// What a replica needs to have the winner's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing.
    Nothing,
    /// What changed after its own version: it is a prefix of the winner's history, in reach of its log.
    Delta,
    /// A comparison by index: it diverged, or is too far behind.
    Index {
        /// The last version that it shares with the winner.
        common: u64,
    },
}

/// The winner of a round: highest epoch, then highest version. Among replicas that should be the same,
/// the checksum that most of them have; then the lowest node id.
///
/// # Panics
/// If there is no state.
#[must_use]
pub fn winner(states: &BTreeMap<NodeId, MemberState>) -> NodeId {
    let rank = |state: &MemberState| (state.epoch, state.version);
    let best = states.values().map(rank).max().expect("a round has participants");
    let mut groups: BTreeMap<Checksum, (usize, NodeId)> = BTreeMap::new();
    for (node, state) in states.iter().filter(|(_, state)| rank(state) == best) {
        groups.entry(state.checksum).or_insert((0, *node)).0 += 1;
    }
    let largest = groups.values().max_by_key(|(count, lowest)| (*count, std::cmp::Reverse(*lowest)));
    largest.expect("somebody has the best state").1
}

/// The epoch in which the participants go on: above every promise that any of them made.
#[must_use]
pub fn next_epoch(ring: RingId, states: &BTreeMap<NodeId, MemberState>) -> Epoch {
    let promised = states.values().map(|state| state.promised.max(state.epoch)).max();
    Epoch::after(promised.unwrap_or_default(), ring)
}

/// What `loser` needs to have the state of `winner`.
#[must_use]
pub fn catch_up(winner: &MemberState, loser: &MemberState) -> CatchUp {
    if (winner.version, winner.chain) == (loser.version, loser.chain) {
        let same = winner.checksum == loser.checksum;
        return if same { CatchUp::Nothing } else { CatchUp::Index { common: loser.version } };
    }
    let common = winner.epochs.common(winner.version, &loser.epochs, loser.version).max(EMPTY_VERSION);
    if loser.version == common && loser.version.saturating_add(1) >= winner.log_first {
        CatchUp::Delta
    } else {
        CatchUp::Index { common: common.min(loser.version) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{epoch::Epochs, quorum::tests::node};

    fn epoch(seq: u64) -> Epoch {
        Epoch { seq, rep: 1, round: 0 }
    }

    /// A state in `seq`'s epoch at `version`, whose history wrote the listed (epoch, first version).
    fn state(seq: u64, version: u64, history: &[(u64, u64)]) -> MemberState {
        MemberState {
            epoch: epoch(seq),
            promised: epoch(seq),
            version,
            chain: [version as u8; 32],
            checksum: Checksum::from_bytes([version as u8; 32]),
            log_first: 2,
            epochs: Epochs::new(history.iter().map(|(seq, start)| (epoch(*seq), *start)).collect()),
        }
    }

    fn states(list: Vec<(u32, MemberState)>) -> BTreeMap<NodeId, MemberState> {
        list.into_iter().map(|(id, state)| (node(id), state)).collect()
    }

    #[test]
    fn the_later_epoch_wins_over_the_higher_version() {
        let table = [
            (vec![(1, state(4, 90, &[])), (2, state(8, 10, &[]))], 2),
            (vec![(1, state(4, 90, &[])), (2, state(4, 91, &[]))], 2),
            (vec![(3, state(4, 90, &[])), (2, state(4, 90, &[]))], 2),
        ];
        for (list, expected) in table {
            assert_eq!(winner(&states(list.clone())), node(expected), "{list:?}");
        }
    }

    #[test]
    fn a_replica_that_silently_diverged_does_not_win_over_two_that_agree() {
        let damaged = MemberState { checksum: Checksum::default(), ..state(4, 9, &[]) };
        let list = vec![(1, damaged.clone()), (2, state(4, 9, &[])), (3, state(4, 9, &[]))];
        assert_eq!(winner(&states(list)), node(2));
        assert_eq!(catch_up(&state(4, 9, &[]), &damaged), CatchUp::Index { common: 9 });
    }

    #[test]
    fn the_next_epoch_is_above_all_promises() {
        let promised = MemberState { promised: Epoch { round: 3, ..epoch(8) }, ..state(4, 9, &[]) };
        let list = states(vec![(1, state(4, 9, &[])), (2, promised)]);
        assert_eq!(next_epoch(RingId { rep: 1, seq: 8 }, &list), Epoch { round: 4, ..epoch(8) });
        assert_eq!(next_epoch(RingId { rep: 1, seq: 12 }, &list), epoch(12));
    }

    #[test]
    fn each_loser_gets_the_least_that_suffices() {
        let mut best = state(8, 20, &[(4, 2), (8, 11)]);
        assert_eq!(catch_up(&best, &best.clone()), CatchUp::Nothing);
        assert_eq!(catch_up(&best, &state(4, 7, &[(4, 2)])), CatchUp::Delta);
        assert_eq!(catch_up(&best, &state(8, 19, &[(4, 2), (8, 11)])), CatchUp::Delta);
        assert_eq!(catch_up(&best, &state(0, 1, &[])), CatchUp::Delta);
        assert_eq!(catch_up(&best, &state(4, 13, &[(4, 2)])), CatchUp::Index { common: 10 });
        best.log_first = 12;
        assert_eq!(catch_up(&best, &state(4, 7, &[(4, 2)])), CatchUp::Index { common: 7 });
        assert_eq!(catch_up(&best, &state(0, 1, &[])), CatchUp::Index { common: 1 });
    }
}
