//! Those who move together have delivered the same, and nobody has holes.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::RingId;

use super::{
    Checker, Violation,
    lives::{Delivery, End, Lives, Segment},
};
use crate::history::{MessageId, Observation, Probe};

/// Checks P4 (two members that go on to the same next ring delivered the same messages) and P6.3
/// (what two members delivered in the regular configuration are prefixes of one sequence; holes exist
/// only in the transitional configuration and only for senders outside of it).
///
/// A probe that joined its group while the ring was installed is judged from its first message on.
#[derive(Debug, Default)]
pub struct VirtualSynchronyChecker {
    lives: Lives,
}

impl Checker for VirtualSynchronyChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        self.lives.observe(observation);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Violation> {
        for (probe, ring, segments) in self.lives.rings() {
            self.check_same_set(probe, ring, segments)?;
            self.check_holes(probe, ring, segments)?;
        }
        Ok(())
    }
}

fn violation(property: &'static str, probe: Probe, ring: RingId, why: String) -> Violation {
    let what = format!("{probe:?} probes in ring {ring}: {why}");
    Violation { checker: "virtual synchrony", property, what }
}

impl VirtualSynchronyChecker {
    fn check_same_set(&self, probe: Probe, ring: RingId, segments: &[Segment]) -> Result<(), Violation> {
        let mut first: BTreeMap<RingId, &Segment> = BTreeMap::new();
        for segment in segments.iter().filter(|segment| segment.from_start) {
            let End::Moved(next) = segment.end else { continue };
            let other = *first.entry(next).or_insert(segment);
            for (one, two) in [(segment, other), (other, segment)] {
                let has: BTreeSet<MessageId> = two.deliveries().map(|d| d.message).collect();
                let lacks = one
                    .deliveries()
                    .find(|d| !has.contains(&d.message) && !self.lives.may_lack_fragments(two, d));
                if let Some(delivery) = lacks {
                    let why = format!(
                        "{} delivered #{} (place {}) and {} did not, both went on to {next}",
                        one.node, delivery.message, delivery.seq, two.node
                    );
                    return Err(violation("P4 those who move together delivered the same", probe, ring, why));
                }
            }
        }
        Ok(())
    }

    fn check_holes(&self, probe: Probe, ring: RingId, segments: &[Segment]) -> Result<(), Violation> {
        let order = merge(segments);
        segments.iter().try_for_each(|segment| {
            self.check_holes_of(segment, &order).map_err(|(hole, later)| {
                let why = format!(
                    "{} delivered #{later} but not #{} of {} before it",
                    segment.node, hole.message, hole.origin
                );
                violation("P6.3 no holes", probe, ring, why)
            })
        })
    }

    /// Walks along the ring's order; returns the hole and the message delivered after it.
    fn check_holes_of(&self, segment: &Segment, order: &[Delivery]) -> Result<(), (Delivery, MessageId)> {
        let place = |delivery: &Delivery| order.iter().position(|d| d.message == delivery.message);
        let first = segment.deliveries().next().and_then(place);
        let mut expected = if segment.from_start { 0 } else { first.unwrap_or(0) };
        let all = segment.deliveries().enumerate();
        for (index, delivery) in all {
            let regular = index < segment.regular.len();
            let at = place(delivery).expect("the order holds what every segment delivered");
            for skipped in order.get(expected..at).unwrap_or_default() {
                let sender_moves_on =
                    segment.moving_on.as_ref().is_none_or(|members| members.contains(&skipped.origin));
                let excused = self.lives.may_lack_fragments(segment, skipped);
                if (regular || sender_moves_on) && !excused {
                    return Err((*skipped, delivery.message));
                }
            }
            expected = at + 1;
        }
        Ok(())
    }
}

/// The order of a ring: everything that anyone delivered, by place; within a packet as delivered.
fn merge(segments: &[Segment]) -> Vec<Delivery> {
    let mut packets: BTreeMap<u32, Vec<Delivery>> = BTreeMap::new();
    let start = segments.iter().flat_map(Segment::deliveries).map(|d| d.seq);
    // Sequence numbers may wrap: count from the half of the circle that lies before all of them.
    let origin = start.reduce(|a, b| if a.wrapping_sub(b).cast_signed() < 0 { a } else { b });
    for delivery in segments.iter().flat_map(Segment::deliveries) {
        let packet = packets.entry(delivery.seq.wrapping_sub(origin.unwrap_or(0))).or_default();
        if !packet.contains(delivery) {
            packet.push(*delivery);
        }
    }
    // One sender fills a packet, and its messages are numbered as sent.
    packets.values_mut().for_each(|packet| packet.sort_by_key(|d: &Delivery| (d.origin, d.message)));
    packets.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::testing::{judge, node, regular, ring, transitional},
        history::Event,
    };

    fn sent(id: u32, message: MessageId, size: usize) -> (u32, Event) {
        (id, Event::Sent { probe: Probe::Agreed, message, size })
    }

    fn delivered(id: u32, message: MessageId, origin: u32) -> (u32, Event) {
        let (ring, seq) = (ring(1, 5), u32::try_from(message).unwrap());
        let (message, origin) = (Some(message), node(origin));
        (id, Event::Delivered { probe: Probe::Agreed, message, origin, ring, seq })
    }

    fn all(ids: &[u32], event: &Event) -> Vec<(u32, Event)> {
        ids.iter().map(|id| (*id, event.clone())).collect()
    }

    /// Three nodes in ring 5; then 1 and 2 move on without 3.
    fn history(in_ring: Vec<(u32, Event)>, in_transitional: Vec<(u32, Event)>) -> Vec<(u32, Event)> {
        [
            all(&[1, 2, 3], &Event::ProbeJoined(Probe::Agreed)),
            all(&[1, 2, 3], &Event::Ring(regular(1, 5, &[1, 2, 3]))),
            in_ring,
            all(&[1, 2], &Event::Ring(transitional(1, 9, &[1, 2]))),
            in_transitional,
            all(&[1, 2], &Event::Ring(regular(1, 9, &[1, 2]))),
        ]
        .concat()
    }

    fn verdict(history: &[(u32, Event)]) -> Result<(), &'static str> {
        judge(&mut VirtualSynchronyChecker::default(), history).map_err(|violation| violation.property)
    }

    #[test]
    fn a_member_left_behind_may_have_delivered_less() {
        let in_ring = vec![delivered(1, 1, 1), delivered(2, 1, 1), delivered(1, 2, 3), delivered(2, 2, 3)];
        assert_eq!(verdict(&history(in_ring, vec![])), Ok(()));
    }

    #[test]
    fn a_message_that_only_one_of_two_companions_delivered_is_caught() {
        let in_ring = vec![delivered(1, 1, 1), delivered(2, 1, 1), delivered(1, 2, 3)];
        let verdict = verdict(&history(in_ring, vec![]));
        assert_eq!(verdict, Err("P4 those who move together delivered the same"));
    }

    #[test]
    fn a_hole_in_the_regular_configuration_is_caught_at_a_member_left_behind() {
        let in_ring = vec![
            delivered(1, 1, 1),
            delivered(2, 1, 1),
            delivered(1, 2, 3),
            delivered(2, 2, 3),
            delivered(3, 2, 3),
        ];
        assert_eq!(verdict(&history(in_ring, vec![])), Err("P6.3 no holes"));
    }

    #[test]
    fn a_hole_of_a_sender_left_behind_is_fine_in_the_transitional_configuration() {
        let in_ring = vec![delivered(3, 1, 3)];
        let in_transitional = vec![delivered(1, 2, 2), delivered(2, 2, 2)];
        assert_eq!(verdict(&history(in_ring, in_transitional)), Ok(()));
    }

    #[test]
    fn a_hole_of_a_companion_is_caught_in_the_transitional_configuration() {
        let in_ring = vec![delivered(3, 1, 1)];
        let in_transitional = vec![delivered(1, 2, 2), delivered(2, 2, 2)];
        assert_eq!(verdict(&history(in_ring, in_transitional)), Err("P6.3 no holes"));
    }

    #[test]
    fn a_long_message_of_a_sender_met_halfway_may_be_lacking() {
        let in_ring = vec![sent(1, 1, 5000), delivered(1, 1, 1)];
        assert_eq!(verdict(&history(in_ring, vec![])), Ok(()));
    }
}
