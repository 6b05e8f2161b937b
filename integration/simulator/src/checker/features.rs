//! Feature levels: what the members of a ring say that they have in common.

use std::collections::BTreeMap;

use quorate_types::{NodeId, RingId};

use super::{Checker, Violation};
use crate::history::{Change, Event, Observation};

/// What was agreed: the level, and whether the timers are fast.
type Agreement = (u32, bool);

/// A ring as the first of its members installed it.
#[derive(Debug)]
struct Ring {
    /// The lowest level of its members; 0 if one takes no part.
    lowest: u32,
    /// What was agreed, one after the other, in the ring's order.
    agreements: Vec<Agreement>,
}

/// Checks that all members of a ring agree on the same things in the same order, beginning with the lowest level of
/// all; that who takes part knows it before the synchronisation is complete; that nothing is fast at level 0.
#[derive(Debug, Default)]
pub struct FeatureChecker {
    /// The level of each node's present life.
    levels: BTreeMap<NodeId, Option<u32>>,
    rings: BTreeMap<RingId, Ring>,
    /// The ring that each node is in, and how many of its agreements it knows.
    known: BTreeMap<NodeId, (RingId, usize)>,
}

fn violation(property: &'static str, observation: &Observation, why: String) -> Violation {
    Violation { checker: "features", property, what: format!("{observation}: {why}") }
}

impl Checker for FeatureChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        let node = observation.node;
        match &observation.event {
            Event::MembershipStarted { level, .. } => {
                self.levels.insert(node, *level);
                self.known.remove(&node);
                Ok(())
            }
            Event::Ring(Change::Regular { ring, members }) => {
                let level = |member| self.levels.get(member).copied().flatten().unwrap_or(0);
                let lowest = members.iter().map(level).min().unwrap_or(0);
                self.rings.entry(*ring).or_insert_with(|| Ring { lowest, agreements: Vec::new() });
                self.known.insert(node, (*ring, 0));
                Ok(())
            }
            Event::FeaturesAgreed { ring, level, fast } => self.agreed(observation, *ring, (*level, *fast)),
            Event::SyncCompleted(ring) => self.completed(observation, *ring),
            _ => Ok(()),
        }
    }
}

impl FeatureChecker {
    fn agreed(
        &mut self,
        observation: &Observation,
        ring: RingId,
        agreement: Agreement,
    ) -> Result<(), Violation> {
        let fail = |property, why: String| Err(violation(property, observation, why));
        if self.levels.get(&observation.node).copied().flatten().is_none() {
            return fail("who takes no part agrees to nothing", "it has no level".into());
        }
        if matches!(agreement, (0, true)) {
            return fail("nothing is fast at level 0", format!("{agreement:?}"));
        }
        let Some((_, count)) =
            self.known.get_mut(&observation.node).filter(|(installed, _)| *installed == ring)
        else {
            return fail("what is agreed is for the present ring", format!("it is not in {ring}"));
        };
        let known = self.rings.get_mut(&ring).expect("a ring that a node is in was installed");
        if *count == 0 && agreement.0 != known.lowest {
            let why = format!("the lowest level of its members is {}", known.lowest);
            return fail("a ring has the lowest level of its members", why);
        }
        match known.agreements.get(*count) {
            None => known.agreements.push(agreement),
            Some(theirs) if *theirs == agreement => {}
            Some(theirs) => {
                let why = format!("others agreed to {theirs:?} at this place");
                return fail("members of a ring agree on the same", why);
            }
        }
        *count += 1;
        Ok(())
    }

    fn completed(&self, observation: &Observation, ring: RingId) -> Result<(), Violation> {
        let takes_part = self.levels.get(&observation.node).copied().flatten().is_some();
        let knows = self.known.get(&observation.node).is_some_and(|known| known.0 == ring && known.1 > 0);
        if takes_part && !knows {
            let property = "the level is known before ordinary messages flow";
            return Err(violation(property, observation, "nothing was agreed".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::{judge, regular, ring};

    fn starts(node: u32, level: Option<u32>) -> (u32, Event) {
        (node, Event::MembershipStarted { ring_seq: 0, level })
    }

    fn installs(node: u32) -> (u32, Event) {
        (node, Event::Ring(regular(1, 5, &[1, 2])))
    }

    fn agrees(node: u32, level: u32, fast: bool) -> (u32, Event) {
        (node, Event::FeaturesAgreed { ring: ring(1, 5), level, fast })
    }

    fn completes(node: u32) -> (u32, Event) {
        (node, Event::SyncCompleted(ring(1, 5)))
    }

    /// Nodes 1 and 2 of these levels in a ring, and what they say then.
    fn verdict(levels: [Option<u32>; 2], then: &[(u32, Event)]) -> Result<(), &'static str> {
        let begin = [starts(1, levels[0]), starts(2, levels[1]), installs(1), installs(2)];
        let history = [&begin[..], then].concat();
        judge(&mut FeatureChecker::default(), &history).map_err(|violation| violation.property)
    }

    #[test]
    fn members_that_agree_on_the_lowest_level_and_on_every_change_are_fine() {
        let said = [
            agrees(1, 1, true),
            completes(1),
            agrees(1, 1, false),
            agrees(2, 1, true),
            agrees(2, 1, false),
            completes(2),
        ];
        assert_eq!(verdict([Some(1), Some(2)], &said), Ok(()));
    }

    #[test]
    fn a_node_without_a_level_is_silent_and_makes_it_level_0() {
        assert_eq!(verdict([Some(1), None], &[agrees(1, 0, false), completes(1), completes(2)]), Ok(()));
        let caught = verdict([Some(1), None], &[agrees(2, 0, false)]);
        assert_eq!(caught, Err("who takes no part agrees to nothing"));
    }

    #[test]
    fn a_level_that_a_member_does_not_have_is_caught() {
        let caught = verdict([Some(2), Some(1)], &[agrees(1, 2, true)]);
        assert_eq!(caught, Err("a ring has the lowest level of its members"));
        let caught = verdict([Some(1), None], &[agrees(1, 0, true)]);
        assert_eq!(caught, Err("nothing is fast at level 0"));
    }

    #[test]
    fn members_that_disagree_are_caught() {
        let caught = verdict([Some(1), Some(1)], &[agrees(1, 1, true), agrees(2, 1, false)]);
        assert_eq!(caught, Err("members of a ring agree on the same"));
    }

    #[test]
    fn a_synchronisation_without_an_agreement_is_caught() {
        let caught = verdict([Some(1), Some(1)], &[agrees(1, 1, true), completes(2)]);
        assert_eq!(caught, Err("the level is known before ordinary messages flow"));
    }

    #[test]
    fn an_agreement_of_another_ring_is_caught() {
        let stale = (1, Event::FeaturesAgreed { ring: ring(1, 1), level: 1, fast: true });
        assert_eq!(verdict([Some(1), Some(1)], &[stale]), Err("what is agreed is for the present ring"));
    }
}
