//! Those who move together have delivered the same, and nobody has holes.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::RingId;

use super::{
    Checker, Violation,
    lives::{Delivery, End, Lives, Segment},
};
use crate::history::{MessageId, Observation, Probe};

/// Checks P4 (two members that go on to the same next ring delivered the same messages), P6.3
/// (what two members delivered in the regular configuration are prefixes of one sequence; holes exist
/// only in the transitional configuration and only for senders outside of it) and P5 (no message is
/// delivered without those that its sender had sent or delivered before).
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
            check_same_set(&self.lives, probe, ring, segments)?;
            check_holes(&self.lives, probe, ring, segments)?;
        }
        Ok(())
    }
}

fn violation(property: &'static str, probe: Probe, ring: RingId, why: String) -> Violation {
    let what = format!("{probe:?} probes in ring {ring}: {why}");
    Violation { checker: "virtual synchrony", property, what }
}

fn check_same_set(lives: &Lives, probe: Probe, ring: RingId, segments: &[Segment]) -> Result<(), Violation> {
    let mut companions: BTreeMap<RingId, &Segment> = BTreeMap::new();
    for segment in segments.iter().filter(|segment| segment.from_start) {
        let End::Moved(next) = segment.end else { continue };
        let other = *companions.entry(next).or_insert(segment);
        for (one, two) in [(segment, other), (other, segment)] {
            let has: BTreeSet<MessageId> = two.deliveries().map(|d| d.message).collect();
            let lacks = one.deliveries().find(|d| !has.contains(&d.message) && !lives.may_lack(two, d));
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

fn check_holes(lives: &Lives, probe: Probe, ring: RingId, segments: &[Segment]) -> Result<(), Violation> {
    let order = merge(segments);
    segments.iter().try_for_each(|segment| {
        check_holes_of(lives, segment, &order).map_err(|(hole, later)| {
            let (node, lost, origin) = (segment.node, hole.message, hole.origin);
            let why = format!("{node} delivered #{later} but not #{lost} of {origin} before it");
            violation("P6.3 no holes, P5 causes first", probe, ring, why)
        })
    })
}

/// Walks along the ring's order; returns the hole and the message delivered after it.
fn check_holes_of(lives: &Lives, segment: &Segment, order: &[Delivery]) -> Result<(), (Delivery, MessageId)> {
    let places: BTreeMap<MessageId, usize> =
        order.iter().enumerate().map(|(place, delivery)| (delivery.message, place)).collect();
    let mut skipped_before: Vec<Delivery> = Vec::new();
    let mut expected = if segment.from_start { Some(0) } else { None };
    for (index, delivery) in segment.deliveries().enumerate() {
        let regular = index < segment.regular.len();
        let at = places[&delivery.message];
        for skipped in order.get(expected.unwrap_or(at)..at).unwrap_or_default() {
            let sender_moves_on =
                segment.moving_on.as_ref().is_none_or(|members| members.contains(&skipped.origin));
            let excused = lives.may_lack(segment, skipped);
            if (regular || sender_moves_on) && !excused {
                return Err((*skipped, delivery.message));
            }
            if !excused {
                skipped_before.push(*skipped);
            }
        }
        let caused_by = |skipped: &&Delivery| {
            let seen = delivery.after.is_some_and(|after| skipped.seq.wrapping_sub(after).cast_signed() <= 0);
            seen || skipped.origin == delivery.origin
        };
        if let Some(cause) = skipped_before.iter().find(caused_by) {
            return Err((*cause, delivery.message));
        }
        expected = Some(at + 1);
    }
    Ok(())
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

    fn delivered(id: u32, message: MessageId, origin: u32) -> (u32, Event) {
        let (ring, seq) = (ring(1, 5), u32::try_from(message).unwrap());
        let (message, origin) = (Some(message), node(origin));
        (id, Event::Delivered { probe: Probe::Agreed, message, origin, ring, seq, spans_change: false })
    }

    /// The same, for a message that began before others joined.
    fn began_before(mut delivery: (u32, Event)) -> (u32, Event) {
        if let Event::Delivered { spans_change, .. } = &mut delivery.1 {
            *spans_change = true;
        }
        delivery
    }

    fn all(ids: &[u32], event: &Event) -> Vec<(u32, Event)> {
        ids.iter().map(|id| (*id, event.clone())).collect()
    }

    /// Three nodes that came from ring 1 into ring 5 together; then 1 and 2 move on without 3.
    fn history(in_ring: Vec<(u32, Event)>, in_transitional: Vec<(u32, Event)>) -> Vec<(u32, Event)> {
        let before = all(&[1, 2, 3], &Event::Ring(transitional(1, 5, &[1, 2, 3])));
        [before, strangers(in_ring, in_transitional)].concat()
    }

    /// The same, but the three have just met.
    fn strangers(in_ring: Vec<(u32, Event)>, in_transitional: Vec<(u32, Event)>) -> Vec<(u32, Event)> {
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
        assert_eq!(verdict(&history(in_ring, vec![])), Err("P6.3 no holes, P5 causes first"));
    }

    #[test]
    fn a_hole_of_a_sender_left_behind_is_fine_in_the_transitional_configuration() {
        let in_ring = vec![delivered(3, 1, 3)];
        let in_transitional = vec![delivered(1, 2, 2), delivered(2, 2, 2)];
        assert_eq!(verdict(&history(in_ring, in_transitional)), Ok(()));
    }

    #[test]
    fn a_message_whose_cause_is_missing_is_caught_in_the_transitional_configuration() {
        let after_hole = vec![delivered(3, 1, 3), delivered(3, 2, 3)];
        let in_transitional = vec![delivered(1, 2, 3), delivered(2, 2, 3)];
        let verdict = verdict(&history(after_hole, in_transitional));
        assert_eq!(verdict, Err("P6.3 no holes, P5 causes first"));
    }

    #[test]
    fn a_hole_of_a_companion_is_caught_in_the_transitional_configuration() {
        let in_ring = vec![delivered(3, 1, 1)];
        let in_transitional = vec![delivered(1, 2, 2), delivered(2, 2, 2)];
        assert_eq!(verdict(&history(in_ring, in_transitional)), Err("P6.3 no holes, P5 causes first"));
    }

    #[test]
    fn the_first_message_of_a_sender_met_halfway_may_be_lacking_and_no_other() {
        let first = vec![began_before(delivered(1, 1, 1)), delivered(1, 2, 1), delivered(2, 2, 1)];
        assert_eq!(verdict(&strangers(first.clone(), vec![])), Ok(()));
        assert!(verdict(&history(first, vec![])).is_err());
        let unmarked = vec![delivered(1, 1, 1), delivered(1, 2, 1), delivered(2, 2, 1)];
        assert!(verdict(&strangers(unmarked, vec![])).is_err());
        let second = vec![delivered(1, 1, 1), began_before(delivered(1, 2, 1)), delivered(2, 1, 1)];
        assert!(verdict(&strangers(second, vec![])).is_err());
    }
}
