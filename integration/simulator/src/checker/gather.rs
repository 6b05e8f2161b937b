//! Gathering comes to an end.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::NodeId;

use super::{Checker, Violation};
use crate::history::{Change, Event, Observation};

/// Checks what makes a gathering end (P9): from one ring to the next the set of those whom a node considers
/// failed only grows. A node that had cut itself off begins anew.
#[derive(Debug, Default)]
pub struct GatherChecker {
    failed: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

impl Checker for GatherChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        let node = observation.node;
        match &observation.event {
            Event::MembershipStarted { .. }
            | Event::MembershipStopped
            | Event::Ring(Change::Regular { .. }) => {
                self.failed.remove(&node);
            }
            Event::Join { failed, .. } => {
                let before = self.failed.insert(node, failed.iter().copied().collect()).unwrap_or_default();
                let lost = before.iter().find(|one| !failed.contains(one));
                if let Some(lost) = lost.filter(|_| !before.contains(&node)) {
                    let what = format!("{observation}: {lost} counted as failed before");
                    let property = "P9 the failed set only grows";
                    return Err(Violation { checker: "gather", property, what });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::{judge, nodes, regular};

    fn join(failed: &[u32]) -> (u32, Event) {
        (1, Event::Join { known: nodes(&[1, 2, 3]), failed: nodes(failed) })
    }

    fn verdict(history: &[(u32, Event)]) -> Result<(), Violation> {
        judge(&mut GatherChecker::default(), history)
    }

    #[test]
    fn a_failed_set_that_shrinks_is_caught() {
        assert!(verdict(&[join(&[]), join(&[2]), join(&[3])]).is_err());
        assert_eq!(verdict(&[join(&[2]), join(&[2, 3])]), Ok(()));
    }

    #[test]
    fn a_new_ring_and_a_node_that_cut_itself_off_begin_anew() {
        let installed = (1, Event::Ring(regular(1, 5, &[1, 3])));
        assert_eq!(verdict(&[join(&[2]), installed, join(&[])]), Ok(()));
        assert_eq!(verdict(&[join(&[1]), join(&[])]), Ok(()));
    }
}
