//! From votes to quorum: pure functions over what is known.
//!
//! Source: service specification, 3.5.

use crate::nodes::Tally;

/// What a recalculation may do, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Recalculation {
    /// Quorum stays or rises.
    Rise,
    /// Quorum may also fall, to what the expected votes say.
    Fall,
    /// Expected votes are set to the number of nodes present, and quorum follows.
    ByNodes,
}

/// More than half of this many votes.
pub(crate) const fn majority(votes: u32) -> u32 {
    votes / 2 + 1
}

/// Votes needed.
///
/// `expected` replaces what the members expect; `floor` is the quorum that may not be undercut. In a two
/// node cluster one vote is enough.
pub(crate) fn quorum(present: &Tally, expected: Option<u32>, floor: u32, two_node: bool) -> u32 {
    if two_node && present.nodes <= 2 {
        return 1;
    }
    let expected = expected.unwrap_or(present.highest_expected);
    majority(expected.max(present.votes)).max(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn present(votes: u32, nodes: u32, highest_expected: u32) -> Tally {
        Tally { votes, nodes, highest_expected }
    }

    #[test]
    fn quorum_is_more_than_half_of_the_expected_votes() {
        let quorums: Vec<u32> = (0..=8).map(|votes| quorum(&present(0, 1, votes), None, 0, false)).collect();
        assert_eq!(quorums, [1, 1, 2, 2, 3, 3, 4, 4, 5]);
    }

    #[test]
    fn more_votes_present_than_expected_raise_quorum() {
        assert_eq!(quorum(&present(7, 7, 3), None, 0, false), 4);
    }

    #[test]
    fn quorum_does_not_fall_below_the_floor() {
        assert_eq!(quorum(&present(1, 1, 1), None, 3, false), 3);
        assert_eq!(quorum(&present(1, 1, 5), Some(1), 0, false), 1);
    }

    #[test]
    fn one_vote_of_two_nodes_is_enough_but_not_of_three() {
        assert_eq!(quorum(&present(1, 1, 2), None, 2, true), 1);
        assert_eq!(quorum(&present(3, 3, 3), None, 0, true), 2);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        assert_eq!(quorum(&present(u32::MAX, 1, u32::MAX), None, 0, false), u32::MAX / 2 + 1);
    }
}
