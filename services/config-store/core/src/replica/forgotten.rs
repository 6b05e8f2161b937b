//! A replica whose disk is new says nothing of what it once had on it.
//!
//! Such a *blank* replica never promised anything; a node that joins is blank, too, but has no vote until it is in
//! sync. A blank one with votes may have vouched for writes on the disk that is gone. As long as those together with
//! members that are away could have been the majority that acknowledged a write, a round must not go on without those:
//! what they have may be the only copy. When nobody is away, or the operator has lowered the expected votes, there
//! is nothing to wait for. `docs/protocols/replication.md`, "A disk that forgets".

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::NodeId;

use super::Replica;
use crate::{epoch::Epoch, message::MemberState, quorum::QuorumView};

impl MemberState {
    /// Whether this replica has never been in an epoch, or no longer knows of it.
    fn is_blank(&self) -> bool {
        (self.epoch, self.promised) == (Epoch::LOCAL, Epoch::LOCAL)
    }
}

impl Replica {
    /// Whether a round may go on with these states; if not, callers are told who forgot.
    pub(super) fn remembers_enough(&mut self, states: &BTreeMap<NodeId, MemberState>) -> bool {
        let forgot = self.who_forgot(states);
        if forgot != self.forgot && !forgot.is_empty() {
            let absent = self.view.as_ref().map(|view| view.absent.as_slice()).unwrap_or_default();
            tracing::warn!(node = %self.settings.node, ?forgot, ?absent, "members have a new disk: waiting for those that are away");
        }
        self.forgot = forgot;
        self.forgot.is_empty()
    }

    /// Blank participants without whose lost memory it is not safe to go on; none if it is.
    fn who_forgot(&self, states: &BTreeMap<NodeId, MemberState>) -> BTreeSet<NodeId> {
        let blank: BTreeSet<NodeId> =
            states.iter().filter(|(_, state)| state.is_blank()).map(|(node, _)| *node).collect();
        if blank.len() == states.len() {
            // A new cluster; but not if this node knows that it is none.
            return if self.settings.disk_forgot { blank } else { BTreeSet::new() };
        }
        match &self.view {
            Some(view) if could_have_acknowledged(view, states, &blank) => blank,
            _ => BTreeSet::new(),
        }
    }
}

/// Whether blank participants and those that are away hold enough votes to have acknowledged a write between them.
fn could_have_acknowledged(
    view: &QuorumView,
    states: &BTreeMap<NodeId, MemberState>,
    blank: &BTreeSet<NodeId>,
) -> bool {
    let everybody = view.absent.is_empty() && view.votes.keys().all(|node| states.contains_key(node));
    let blank_votes = view.votes_of(blank);
    let away = view.expected_votes.saturating_sub(view.votes_of(states.keys()));
    !everybody && blank_votes > 0 && blank_votes + away > view.expected_votes / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checksum::Checksum,
        epoch::Epochs,
        quorum::tests::{node, view},
    };

    fn states(remembering: &[u32], blank: &[u32]) -> BTreeMap<NodeId, MemberState> {
        let state = |seq| MemberState {
            epoch: Epoch { seq, ..Epoch::LOCAL },
            promised: Epoch { seq, ..Epoch::LOCAL },
            version: 1 + seq,
            chain: [0; 32],
            checksum: Checksum::default(),
            log_first: 2,
            epochs: Epochs::default(),
        };
        let with = |ids: &[u32], seq| ids.iter().map(|id| (node(*id), state(seq))).collect::<Vec<_>>();
        [with(remembering, 4), with(blank, 0)].into_iter().flatten().collect()
    }

    fn blocks(expected: u32, remembering: &[u32], blank: &[u32]) -> bool {
        let present: Vec<u32> = [remembering, blank].concat();
        let blank_nodes = blank.iter().copied().map(node).collect();
        let view = view(expected, expected / 2 + 1, &present);
        could_have_acknowledged(&view, &states(remembering, blank), &blank_nodes)
    }

    #[test]
    fn who_is_blank_or_away_could_have_acknowledged_a_write_if_together_they_are_a_majority() {
        assert!(blocks(3, &[3], &[1]));
        assert!(blocks(4, &[3], &[1, 2]));
        assert!(blocks(5, &[1, 2], &[3]));
        assert!(!blocks(5, &[1, 2, 3], &[4]));
        assert!(!blocks(7, &[1, 2, 3, 4], &[5]));
    }

    #[test]
    fn when_nobody_is_away_there_is_nothing_to_wait_for() {
        assert!(!blocks(2, &[1], &[2]));
        assert!(!blocks(3, &[1], &[2, 3]));
    }

    #[test]
    fn who_has_no_vote_never_vouched_for_anything() {
        let mut view = view(3, 2, &[1, 2]);
        view.votes.insert(node(4), 0);
        assert!(!could_have_acknowledged(&view, &states(&[1, 2], &[4]), &BTreeSet::from([node(4)])));
    }

    #[test]
    fn an_operator_who_lowers_the_expected_votes_goes_on() {
        let mut lowered = view(3, 2, &[1, 3]);
        assert!(could_have_acknowledged(&lowered, &states(&[3], &[1]), &BTreeSet::from([node(1)])));
        lowered.expected_votes = 2;
        assert!(!could_have_acknowledged(&lowered, &states(&[3], &[1]), &BTreeSet::from([node(1)])));
    }
}
