//! Process groups: at one place in the order a group has one set of members.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{NodeId, RingId};

use super::{Checker, Violation};
use crate::history::{Change, Event, Observation, Probe};

type Place = (Probe, RingId, u32);

/// Checks that all members of a ring agree on the members of a process group at every place of the
/// order. What several events at one place leave behind counts: after a synchronisation those
/// who were away leave and join at the same place. In a transitional configuration the two sides of a
/// split may differ, so nothing is compared there.
#[derive(Debug, Default)]
pub struct GroupChecker {
    in_transition: BTreeSet<NodeId>,
    members: BTreeMap<Place, BTreeMap<NodeId, Vec<NodeId>>>,
}

impl Checker for GroupChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        let node = observation.node;
        match &observation.event {
            Event::Ring(Change::Transitional { .. }) => {
                self.in_transition.insert(node);
            }
            Event::Ring(Change::Regular { .. }) | Event::MembershipStarted { .. } => {
                self.in_transition.remove(&node);
            }
            Event::GroupMembers { probe, ring, seq, members } => {
                let place = (*probe, *ring, *seq);
                if self.in_transition.contains(&node) {
                    if let Some(known) = self.members.get_mut(&place) {
                        known.remove(&node);
                    }
                } else {
                    self.members.entry(place).or_default().insert(node, members.clone());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Violation> {
        for ((probe, ring, seq), views) in &self.members {
            let Some((first, members)) = views.first_key_value() else { continue };
            if let Some((other, differently)) = views.iter().find(|(_, view)| *view != members) {
                let what = format!(
                    "{probe:?} group at {ring}:{seq}: node {first} has {members:?}, node {other} {differently:?}"
                );
                let property = "one place in the order, one set of members";
                return Err(Violation { checker: "groups", property, what });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::{judge, nodes, ring, transitional};

    fn members(id: u32, seq: u32, members: &[u32]) -> (u32, Event) {
        let event =
            Event::GroupMembers { probe: Probe::Agreed, ring: ring(1, 5), seq, members: nodes(members) };
        (id, event)
    }

    #[test]
    fn two_views_of_a_group_at_one_place_are_caught() {
        let history = [members(1, 7, &[1, 2]), members(2, 7, &[2])];
        assert!(judge(&mut GroupChecker::default(), &history).is_err());
    }

    #[test]
    fn only_what_the_last_event_at_a_place_leaves_behind_counts() {
        let history = [members(1, 7, &[1]), members(1, 7, &[1, 2]), members(2, 7, &[1, 2])];
        assert_eq!(judge(&mut GroupChecker::default(), &history), Ok(()));
    }

    #[test]
    fn the_sides_of_a_split_may_differ_in_the_transitional_configuration() {
        let history =
            [members(2, 7, &[1, 2]), (1, Event::Ring(transitional(1, 9, &[1]))), members(1, 7, &[1])];
        assert_eq!(judge(&mut GroupChecker::default(), &history), Ok(()));
    }
}
