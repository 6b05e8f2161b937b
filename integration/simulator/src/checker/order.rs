//! One order for all: nothing invented, nothing twice, everything at one place.

use std::collections::BTreeMap;

use quorate_types::{NodeId, RingId};

use super::{Checker, Violation};
use crate::history::{Change, Event, MessageId, Observation, Probe};

/// A place in the order: the ring, and the number in it.
type Place = (RingId, u32);

/// Where a node's probe stands in the order.
#[derive(Debug, Default, Clone)]
struct Cursor {
    ring: Option<RingId>,
    last: Option<(Place, MessageId)>,
    /// Highest message of each sender that was delivered.
    from: BTreeMap<NodeId, MessageId>,
}

#[derive(Debug)]
struct SentMessage {
    probe: Probe,
    origin: NodeId,
    /// The last place that its sender had delivered when it sent.
    after: Option<Place>,
}

/// Checks P1.2 (no creation), P1.3 (no duplication: a node never delivers a message twice, and none
/// has two places), P2.2 (a message belongs to the configuration it is delivered in), P5 (causal
/// order, of one sender and across senders) and P6 (the order of one node never
/// contradicts that of another).
///
/// Message numbers grow with the time of sending; a sender that restarts goes on counting.
#[derive(Debug, Default)]
pub struct OrderChecker {
    sent: BTreeMap<MessageId, SentMessage>,
    places: BTreeMap<MessageId, Place>,
    cursors: BTreeMap<(NodeId, Probe), Cursor>,
}

/// Whether `a` is later than `b` in the order of one node; sequence numbers may wrap.
fn is_later(a: Place, b: Place) -> bool {
    match a.0.seq.cmp(&b.0.seq) {
        std::cmp::Ordering::Equal => a.1.wrapping_sub(b.1).cast_signed() > 0,
        other => other.is_gt(),
    }
}

fn violation(property: &'static str, observation: &Observation, why: String) -> Violation {
    Violation { checker: "order", property, what: format!("{observation}: {why}") }
}

impl Checker for OrderChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        let node = observation.node;
        match &observation.event {
            Event::MembershipStarted { .. } | Event::MembershipStopped => {
                self.cursors.retain(|(owner, _), _| *owner != node);
            }
            Event::Ring(Change::Regular { ring, .. }) => self.cursor(node, Probe::Agreed).ring = Some(*ring),
            Event::ProbeRing(probe, Change::Regular { ring, .. }) => {
                self.cursor(node, *probe).ring = Some(*ring);
            }
            Event::Sent { probe, message, .. } => {
                let after = self.cursor(node, *probe).last.map(|(place, _)| place);
                self.sent.insert(*message, SentMessage { probe: *probe, origin: node, after });
            }
            Event::Delivered { probe, message, origin, ring, seq, .. } => {
                return self.deliver(observation, *probe, *message, *origin, (*ring, *seq));
            }
            _ => {}
        }
        Ok(())
    }
}

impl OrderChecker {
    fn cursor(&mut self, node: NodeId, probe: Probe) -> &mut Cursor {
        self.cursors.entry((node, probe)).or_default()
    }

    fn deliver(
        &mut self,
        observation: &Observation,
        probe: Probe,
        message: Option<MessageId>,
        origin: NodeId,
        place: Place,
    ) -> Result<(), Violation> {
        let fail = |property, why: String| Err(violation(property, observation, why));
        let Some((message, sent)) = message.and_then(|id| Some((id, self.sent.get(&id)?))) else {
            return fail("P1.2 no creation", "nobody sent this".into());
        };
        if sent.origin != origin || sent.probe != probe {
            let why = format!("it was sent by the {:?} probe of {}", sent.probe, sent.origin);
            return fail("P1.2 no creation", why);
        }
        if let Some(after) = sent.after
            && !is_later(place, after)
        {
            let why = format!("its sender had seen {}:{} before", after.0, after.1);
            return fail("P5 causal order", why);
        }
        let known = *self.places.entry(message).or_insert(place);
        if known != place {
            let why = format!("elsewhere it has the place {}:{}", known.0, known.1);
            return fail("P6.2 same message, same place", why);
        }
        let cursor = self.cursors.entry((observation.node, probe)).or_default();
        if cursor.ring.is_some_and(|ring| ring != place.0) {
            let why = format!("the node is in {:?}", cursor.ring);
            return fail("P2.2 a message belongs to its configuration", why);
        }
        let last_from = cursor.from.insert(origin, message);
        if last_from.is_some_and(|last| last >= message) {
            let why = format!("after #{} of the same sender", last_from.unwrap_or_default());
            return fail("P1.3 no duplication, P5 order of one sender", why);
        }
        let Some((last_place, last_message)) = cursor.last.replace((place, message)) else { return Ok(()) };
        // One sender fills a packet, in the order in which it sent.
        let in_order = if last_place == place { message > last_message } else { is_later(place, last_place) };
        if in_order {
            return Ok(());
        }
        fail("P6.1 one global order", format!("after #{last_message} at {}:{}", last_place.0, last_place.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::{judge, node, regular, ring};

    fn sent(id: u32, message: MessageId) -> (u32, Event) {
        (id, Event::Sent { probe: Probe::Agreed, message, size: 10 })
    }

    fn delivered(id: u32, message: MessageId, origin: u32, seq: u32) -> (u32, Event) {
        let (message, origin) = (Some(message), node(origin));
        (
            id,
            Event::Delivered {
                probe: Probe::Agreed,
                message,
                origin,
                ring: ring(1, 5),
                seq,
                spans_change: false,
            },
        )
    }

    fn start() -> Vec<(u32, Event)> {
        [1, 2].map(|id| (id, Event::Ring(regular(1, 5, &[1, 2])))).to_vec()
    }

    fn verdict(tail: &[(u32, Event)]) -> Result<(), &'static str> {
        let history = [start(), tail.to_vec()].concat();
        judge(&mut OrderChecker::default(), &history).map_err(|violation| violation.property)
    }

    #[test]
    fn one_order_at_both_nodes_is_fine_even_across_the_wrap() {
        let tail = [
            sent(1, 10),
            sent(2, 11),
            delivered(1, 10, 1, u32::MAX),
            delivered(1, 11, 2, 0),
            delivered(2, 10, 1, u32::MAX),
            delivered(2, 11, 2, 0),
        ];
        assert_eq!(verdict(&tail), Ok(()));
    }

    #[test]
    fn a_message_nobody_sent_is_caught() {
        assert_eq!(verdict(&[delivered(1, 99, 1, 1)]), Err("P1.2 no creation"));
    }

    #[test]
    fn a_message_under_the_wrong_sender_is_caught() {
        assert_eq!(verdict(&[sent(1, 10), delivered(1, 10, 2, 1)]), Err("P1.2 no creation"));
    }

    #[test]
    fn a_message_delivered_twice_is_caught() {
        let tail = [sent(1, 10), delivered(2, 10, 1, 1), delivered(2, 10, 1, 1)];
        assert_eq!(verdict(&tail), Err("P1.3 no duplication, P5 order of one sender"));
    }

    #[test]
    fn a_message_with_two_places_is_caught() {
        let tail = [sent(1, 10), delivered(1, 10, 1, 1), delivered(2, 10, 1, 2)];
        assert_eq!(verdict(&tail), Err("P6.2 same message, same place"));
    }

    #[test]
    fn two_messages_swapped_at_one_node_are_caught() {
        let tail = [sent(1, 10), sent(2, 11), delivered(2, 11, 2, 2), delivered(2, 10, 1, 1)];
        assert_eq!(verdict(&tail), Err("P6.1 one global order"));
    }

    #[test]
    fn an_answer_that_overtakes_its_question_is_caught() {
        let tail = [sent(1, 10), delivered(2, 10, 1, 7), sent(2, 11), delivered(1, 11, 2, 6)];
        assert_eq!(verdict(&tail), Err("P5 causal order"));
    }

    #[test]
    fn a_message_of_another_ring_is_caught() {
        let history = [(1, Event::Ring(regular(1, 9, &[1]))), sent(1, 10), delivered(1, 10, 1, 1)];
        let violation = judge(&mut OrderChecker::default(), &history).unwrap_err();
        assert_eq!(violation.property, "P2.2 a message belongs to its configuration");
    }
}
