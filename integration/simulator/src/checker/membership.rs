//! Rings: who is in one, and the ids they get.

use std::collections::BTreeMap;

use quorate_types::{NodeId, RingId};

use super::{Checker, Violation};
use crate::history::{Change, Event, Observation};

/// What a node has gone through.
#[derive(Debug, Default)]
struct Track {
    /// The ring it is in, with its members.
    current: Option<(RingId, Vec<NodeId>)>,
    /// The transitional configuration it is in.
    transitional: Option<(RingId, Vec<NodeId>)>,
    /// Highest sequence of any ring it installed, in all its lives.
    highest: u64,
    /// What its disk holds.
    durable: u64,
}

/// How a node came into a ring: from which ring, and who it said came along.
type Arrival = (Option<RingId>, Vec<NodeId>);

/// Checks P2.1 (a node is in its own rings), P2.4 (ids are unique, grow at each node across crashes,
/// and are durable before they are used), P2.5 (the transitional configuration lies within the old
/// and the new ring), that one id means one set of members, and that those who move
/// together agree on who does.
#[derive(Debug, Default)]
pub struct MembershipChecker {
    nodes: BTreeMap<NodeId, Track>,
    rings: BTreeMap<RingId, Vec<NodeId>>,
    arrivals: BTreeMap<RingId, BTreeMap<NodeId, Arrival>>,
}

fn violation(property: &'static str, observation: &Observation, why: String) -> Violation {
    Violation { checker: "membership", property, what: format!("{observation}: {why}") }
}

impl Checker for MembershipChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        let track = self.nodes.entry(observation.node).or_default();
        match &observation.event {
            Event::MembershipStarted { .. } | Event::MembershipStopped => {
                track.current = None;
                track.transitional = None;
                Ok(())
            }
            Event::RingSeqDurable(seq) => {
                track.durable = *seq;
                Ok(())
            }
            Event::Ring(Change::Transitional { next, members }) => {
                self.transitional(observation, *next, members)
            }
            Event::Ring(Change::Regular { ring, members }) => self.regular(observation, *ring, members),
            _ => Ok(()),
        }
    }
}

impl MembershipChecker {
    fn transitional(
        &mut self,
        observation: &Observation,
        next: RingId,
        members: &[NodeId],
    ) -> Result<(), Violation> {
        let me = observation.node;
        let track = self.nodes.entry(me).or_default();
        if !members.contains(&me) && (track.current.is_some() || !members.is_empty()) {
            return Err(violation("P2.1 self-inclusion", observation, "the node is missing".into()));
        }
        let alone = [me];
        let old = track.current.as_ref().map_or(&alone[..], |(_, members)| members);
        if let Some(stranger) = members.iter().find(|member| !old.contains(member)) {
            let why = format!("{stranger} was not in the old ring");
            return Err(violation("P2.5 transitional within the old ring", observation, why));
        }
        if track.transitional.is_some() {
            return Err(violation("P2.2", observation, "two transitional configurations in a row".into()));
        }
        track.transitional = Some((next, members.to_vec()));
        Ok(())
    }

    fn regular(
        &mut self,
        observation: &Observation,
        ring: RingId,
        members: &[NodeId],
    ) -> Result<(), Violation> {
        let me = observation.node;
        let fail = |property, why: String| Err(violation(property, observation, why));
        if !members.contains(&me) {
            return fail("P2.1 self-inclusion", "the node is missing".into());
        }
        if members.iter().map(|member| member.get()).min() != Some(ring.rep) {
            return fail("P2.4 ring ids", "the representative is not the lowest member".into());
        }
        let known = self.rings.entry(ring).or_insert_with(|| members.to_vec());
        if known != members {
            let why = format!("others know this ring with {known:?}");
            return fail("one ring id, one set of members", why);
        }
        let track = self.nodes.entry(me).or_default();
        if ring.seq <= track.highest {
            let why = format!("it had already installed sequence {:x}", track.highest);
            return fail("P2.4 ring ids grow at each node", why);
        }
        if ring.seq > track.durable {
            let why = format!("its disk holds {:x}", track.durable);
            return fail("P2.4 a ring id is durable before it is used", why);
        }
        let together = match track.transitional.take() {
            Some((next, together)) if next == ring => together,
            other => {
                let why = format!("preceded by the transitional configuration {other:?}");
                return fail("P2.2 each ring follows its transitional configuration", why);
            }
        };
        if let Some(lost) = together.iter().find(|member| !members.contains(member)) {
            let why = format!("{lost} was in the transitional configuration");
            return fail("P2.5 transitional within the new ring", why);
        }
        track.highest = ring.seq;
        let from = track.current.replace((ring, members.to_vec())).map(|(ring, _)| ring);
        self.arrive(observation, ring, (from, together))
    }

    /// Compares how two nodes say they came into the ring.
    fn arrive(&mut self, observation: &Observation, ring: RingId, own: Arrival) -> Result<(), Violation> {
        let arrivals = self.arrivals.entry(ring).or_default();
        for other in own.1.iter().filter(|member| **member != observation.node) {
            if let Some(theirs) = arrivals.get(other)
                && *theirs != own
            {
                let why = format!("came as {own:?}, but {other} came as {theirs:?}");
                return Err(violation("P2.5 those who move together agree", observation, why));
            }
        }
        arrivals.insert(observation.node, own);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::{judge, regular, transitional};

    fn installs(node: u32, seq: u64, members: &[u32], together: &[u32]) -> Vec<(u32, Event)> {
        let rep = *members.iter().min().unwrap();
        vec![
            (node, Event::RingSeqDurable(seq)),
            (node, Event::Ring(transitional(rep, seq, together))),
            (node, Event::Ring(regular(rep, seq, members))),
        ]
    }

    fn caught(history: &[Vec<(u32, Event)>]) -> &'static str {
        judge(&mut MembershipChecker::default(), &history.concat()).unwrap_err().property
    }

    #[test]
    fn two_nodes_that_form_a_ring_and_part_again_are_fine() {
        let history = [
            installs(1, 5, &[1, 2], &[1]),
            installs(2, 5, &[1, 2], &[2]),
            installs(1, 9, &[1], &[1]),
            installs(2, 9, &[2], &[2]),
        ];
        assert_eq!(judge(&mut MembershipChecker::default(), &history.concat()), Ok(()));
    }

    #[test]
    fn one_ring_id_with_two_sets_of_members_is_caught() {
        let history = [installs(1, 5, &[1, 2], &[1]), installs(2, 5, &[1, 2, 3], &[2])];
        assert_eq!(caught(&history), "one ring id, one set of members");
    }

    #[test]
    fn a_ring_id_used_again_after_a_crash_is_caught() {
        let history = [
            installs(1, 5, &[1], &[1]),
            vec![(1, Event::MembershipStopped), (1, Event::MembershipStarted { ring_seq: 0, level: None })],
            installs(1, 5, &[1], &[1]),
        ];
        assert_eq!(caught(&history), "P2.4 ring ids grow at each node");
    }

    #[test]
    fn a_ring_installed_before_its_sequence_is_durable_is_caught() {
        let mut history = installs(1, 5, &[1], &[1]);
        history.remove(0);
        assert_eq!(caught(&[history]), "P2.4 a ring id is durable before it is used");
    }

    #[test]
    fn a_stranger_in_the_transitional_configuration_is_caught() {
        assert_eq!(caught(&[installs(1, 5, &[1, 2], &[1, 2])]), "P2.5 transitional within the old ring");
    }

    #[test]
    fn a_transitional_member_that_is_not_in_the_new_ring_is_caught() {
        let history = [installs(1, 5, &[1, 2], &[1]), installs(1, 9, &[1], &[1, 2])];
        assert_eq!(caught(&history), "P2.5 transitional within the new ring");
    }

    #[test]
    fn members_that_disagree_on_who_moves_along_are_caught() {
        let history = [
            installs(1, 5, &[1, 2, 3], &[1]),
            installs(2, 5, &[1, 2, 3], &[2]),
            installs(1, 9, &[1, 2, 3], &[1, 2]),
            installs(2, 9, &[1, 2, 3], &[1, 2, 3]),
        ];
        assert_eq!(caught(&history), "P2.5 those who move together agree");
    }

    #[test]
    fn a_ring_without_oneself_is_caught() {
        assert_eq!(caught(&[installs(3, 5, &[1, 2], &[3])]), "P2.1 self-inclusion");
    }
}
