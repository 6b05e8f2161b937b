//! What a process sends comes back to it.

use std::collections::BTreeMap;

use quorate_types::NodeId;

use super::{Checker, Violation};
use crate::{
    event::SimTime,
    history::{Event, MessageId, Observation, Probe},
};

/// Checks P3: a message that was accepted is delivered to its own sender, unless the daemon stops
/// first. Judged at the end of a run, when the cluster has been whole and quiet.
#[derive(Debug, Default)]
pub struct SelfDeliveryChecker {
    waiting: BTreeMap<(NodeId, MessageId), (Probe, SimTime)>,
}

impl Checker for SelfDeliveryChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        let node = observation.node;
        match &observation.event {
            Event::MembershipStarted { .. } | Event::MembershipStopped => {
                self.waiting.retain(|(owner, _), _| *owner != node);
            }
            Event::Sent { probe, message, .. } => {
                self.waiting.insert((node, *message), (*probe, observation.at));
            }
            Event::Delivered { message: Some(message), .. } => {
                self.waiting.remove(&(node, *message));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Violation> {
        let Some(((node, message), (probe, at))) = self.waiting.first_key_value() else { return Ok(()) };
        let what = format!(
            "node {node} never got its own #{message} ({probe:?} probe, sent at {:.6} s); {} missing in all",
            at.as_secs_f64(),
            self.waiting.len()
        );
        Err(Violation { checker: "self delivery", property: "P3 self delivery", what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::{judge, node, ring};

    fn sent(id: u32, message: MessageId) -> (u32, Event) {
        (id, Event::Sent { probe: Probe::Agreed, message, size: 10 })
    }

    fn delivered(id: u32, message: MessageId, origin: u32) -> (u32, Event) {
        let (message, origin) = (Some(message), node(origin));
        (
            id,
            Event::Delivered {
                probe: Probe::Agreed,
                message,
                origin,
                ring: ring(1, 5),
                seq: 1,
                spans_change: false,
            },
        )
    }

    #[test]
    fn a_message_that_reaches_only_others_is_caught() {
        let history = [sent(1, 10), delivered(2, 10, 1)];
        let violation = judge(&mut SelfDeliveryChecker::default(), &history).unwrap_err();
        assert_eq!(violation.property, "P3 self delivery");
    }

    #[test]
    fn a_message_that_comes_back_or_whose_sender_stops_is_fine() {
        let history = [sent(1, 10), delivered(1, 10, 1), sent(2, 11), (2, Event::MembershipStopped)];
        assert_eq!(judge(&mut SelfDeliveryChecker::default(), &history), Ok(()));
    }
}
