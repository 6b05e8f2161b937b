//! Safe delivery: who has seen a message knows that all others will.

use std::collections::BTreeSet;

use quorate_types::NodeId;

use super::{
    Checker, Violation,
    lives::{End, Lives, Segment},
};
use crate::history::{MessageId, Observation, Probe};

/// Checks P7.1 (a safe message that one member delivered is delivered by every member in the same
/// ring or its transitional configuration, unless that member fails) and P7.2 (if it
/// was delivered in the regular configuration, every member had installed the ring).
///
/// After a delivery in a transitional configuration only the members of that configuration owe it.
#[derive(Debug, Default)]
pub struct SafeChecker {
    lives: Lives,
}

impl Checker for SafeChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        self.lives.observe(observation);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Violation> {
        let safe = self.lives.rings().filter(|(probe, ..)| *probe == Probe::Safe);
        for (_, _, segments) in safe {
            for segment in segments {
                self.check_regular(segment, segments)?;
                self.check_transitional(segment, segments)?;
            }
        }
        Ok(())
    }
}

fn violation(property: &'static str, what: String) -> Violation {
    Violation { checker: "safe delivery", property, what }
}

impl SafeChecker {
    fn check_regular(&self, segment: &Segment, segments: &[Segment]) -> Result<(), Violation> {
        let Some(delivery) = segment.regular.first() else { return Ok(()) };
        for member in &segment.members {
            if !self.lives.has_installed(segment.ring, *member) {
                let what = format!(
                    "{} delivered #{} in ring {}, which {member} never installed",
                    segment.node, delivery.message, segment.ring
                );
                return Err(violation("P7.2 all members had installed the ring", what));
            }
        }
        self.check_owed(segment, &segment.members, segment.regular.iter().map(|d| d.message), segments)
    }

    fn check_transitional(&self, segment: &Segment, segments: &[Segment]) -> Result<(), Violation> {
        let Some(members) = &segment.moving_on else { return Ok(()) };
        self.check_owed(segment, members, segment.transitional.iter().map(|d| d.message), segments)
    }

    fn check_owed(
        &self,
        segment: &Segment,
        members: &[NodeId],
        messages: impl Iterator<Item = MessageId>,
        segments: &[Segment],
    ) -> Result<(), Violation> {
        let messages: BTreeSet<MessageId> = messages.collect();
        for other in segments.iter().filter(|other| members.contains(&other.node)) {
            if other.end == End::Stopped || !other.from_start {
                continue;
            }
            let has: BTreeSet<MessageId> = other.deliveries().map(|d| d.message).collect();
            let lacks = segment.deliveries().find(|d| {
                messages.contains(&d.message) && !has.contains(&d.message) && !self.lives.may_lack(other, d)
            });
            if let Some(delivery) = lacks {
                let what = format!(
                    "{} delivered #{} in ring {}, {} did not though it lived on",
                    segment.node, delivery.message, segment.ring, other.node
                );
                return Err(violation("P7.1 safe means all", what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::testing::{judge, node, regular, ring, transitional},
        history::{Change, Event},
    };

    fn sees(ids: &[u32], change: &Change) -> Vec<(u32, Event)> {
        ids.iter().map(|id| (*id, Event::ProbeRing(Probe::Safe, change.clone()))).collect()
    }

    fn delivered(id: u32, message: MessageId) -> (u32, Event) {
        let (ring, seq) = (ring(1, 5), u32::try_from(message).unwrap());
        let (message, origin) = (Some(message), node(1));
        (id, Event::Delivered { probe: Probe::Safe, message, origin, ring, seq, spans_change: false })
    }

    fn verdict(installed: &[u32], tail: &[(u32, Event)]) -> Result<(), &'static str> {
        let joined: Vec<_> = [1, 2, 3].map(|id| (id, Event::ProbeJoined(Probe::Safe))).to_vec();
        let together = transitional(1, 5, &[1, 2, 3]);
        let before: Vec<_> = [1, 2, 3].map(|id| (id, Event::Ring(together.clone()))).to_vec();
        let joined = [joined, before, sees(&[1, 2, 3], &together)].concat();
        let change = regular(1, 5, &[1, 2, 3]);
        let rings: Vec<_> = installed.iter().map(|id| (*id, Event::Ring(change.clone()))).collect();
        let history = [joined, rings, sees(installed, &change), tail.to_vec()].concat();
        judge(&mut SafeChecker::default(), &history).map_err(|violation| violation.property)
    }

    #[test]
    fn a_safe_message_that_every_member_delivered_is_fine() {
        assert_eq!(verdict(&[1, 2, 3], &[delivered(1, 1), delivered(2, 1), delivered(3, 1)]), Ok(()));
    }

    #[test]
    fn a_member_that_stopped_owes_nothing() {
        let tail = [delivered(1, 1), delivered(2, 1), (3, Event::MembershipStopped)];
        assert_eq!(verdict(&[1, 2, 3], &tail), Ok(()));
    }

    #[test]
    fn a_member_that_parted_without_the_message_is_caught() {
        let parted = [sees(&[3], &transitional(3, 9, &[3])), sees(&[3], &regular(3, 9, &[3]))].concat();
        let tail = [vec![delivered(1, 1), delivered(2, 1)], parted].concat();
        assert_eq!(verdict(&[1, 2, 3], &tail), Err("P7.1 safe means all"));
    }

    #[test]
    fn a_delivery_before_all_have_installed_the_ring_is_caught() {
        assert_eq!(verdict(&[1, 2], &[delivered(1, 1)]), Err("P7.2 all members had installed the ring"));
    }

    #[test]
    fn in_the_transitional_configuration_only_its_members_owe_the_message() {
        let moving = sees(&[1, 2], &transitional(1, 9, &[1, 2]));
        let both = [moving.clone(), vec![delivered(1, 1), delivered(2, 1)]].concat();
        assert_eq!(verdict(&[1, 2, 3], &both), Ok(()));
        let one = [moving, vec![delivered(1, 1)]].concat();
        assert_eq!(verdict(&[1, 2, 3], &one), Err("P7.1 safe means all"));
    }
}
