//! `pvecm expected`: the operator's word on how many votes to expect, checked before it is sent.

use crate::{nodes::Tally, recalculate::quorum};

/// Why new expected votes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExpectedRefusal {
    /// There must be something to expect.
    #[error("expected votes must be at least 1")]
    Zero,
    /// More votes are present than would be expected.
    #[error("{expected} expected votes are less than the {present} votes present; give {present} or more")]
    BelowPresent {
        /// Expected votes asked for.
        expected: u32,
        /// Votes present.
        present: u32,
    },
    /// A quorate ring would stop.
    #[error(
        "{expected} expected votes need a quorum of {quorum}, more than the {present} votes present; give fewer"
    )]
    QuorumWouldBeLost {
        /// Expected votes asked for.
        expected: u32,
        /// Quorum they would mean.
        quorum: u32,
        /// Votes present.
        present: u32,
    },
    /// There is no ring, or it synchronises: the votes present are not known.
    #[error("the votes present are not known: the ring is not synchronised")]
    NotSynchronised,
}

/// Whether the members present may expect this many votes. Source: pvecm specification, 4.8 (today).
pub(crate) fn check(
    expected: u32,
    present: &Tally,
    is_quorate: bool,
    two_node: bool,
) -> Result<(), ExpectedRefusal> {
    if expected == 0 {
        return Err(ExpectedRefusal::Zero);
    }
    if expected < present.votes {
        return Err(ExpectedRefusal::BelowPresent { expected, present: present.votes });
    }
    let quorum = quorum(present, Some(expected), 0, two_node);
    if is_quorate && quorum > present.votes {
        return Err(ExpectedRefusal::QuorumWouldBeLost { expected, quorum, present: present.votes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_OF_THREE: Tally = Tally { votes: 2, nodes: 2, highest_expected: 3 };

    #[test]
    fn less_than_the_votes_present_is_refused() {
        let refusal = ExpectedRefusal::BelowPresent { expected: 1, present: 2 };
        assert_eq!(check(1, &TWO_OF_THREE, true, false), Err(refusal));
        assert_eq!(check(0, &TWO_OF_THREE, true, false), Err(ExpectedRefusal::Zero));
    }

    #[test]
    fn a_quorate_ring_is_not_stopped() {
        let refusal = ExpectedRefusal::QuorumWouldBeLost { expected: 4, quorum: 3, present: 2 };
        assert_eq!(check(4, &TWO_OF_THREE, true, false), Err(refusal));
        assert_eq!(check(4, &TWO_OF_THREE, false, false), Ok(()));
        assert_eq!(check(2, &TWO_OF_THREE, true, false), Ok(()));
    }
}
