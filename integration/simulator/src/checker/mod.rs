//! What must hold: one checker per property, fed with the observations of a run.
//!
//! Checkers never look into a core. Each has a test that feeds it a bad history and sees it caught.
//! Numbers such as P2.4 are those of the correctness specification, section 1.
//!
//! | file | properties |
//! |---|---|
//! | `membership.rs` | P2.1, P2.4, P2.5: who is in a ring, ring ids |
//! | `order.rs` | P1.2, P1.3, P2.2, P6: one order, nothing invented, nothing twice |
//! | `virtual_synchrony.rs` | P4, P6.3: those who move together delivered the same; no holes |
//! | `self_delivery.rs` | P3: what one sends one receives |
//! | `safe.rs` | P7: safe delivery |
//! | `token.rs` | P8: one token, always forward, true about what the members have |
//! | `gather.rs` | P9: gathering comes to an end |
//! | `groups.rs` | process groups: the same members at the same place |
//! | `features.rs` | feature levels: one and the same on all members, that of the lowest |
//! | `quorum.rs`, `last_man_standing.rs` | P10: no two disjoint quorate rings |
//! | `store.rs` | P11: one history of the store, no acknowledged write lost |
//! | `liveness.rs` | P9, P2.3: after healing, one ring, quorate, in sync |

mod features;
mod gather;
mod groups;
mod last_man_standing;
mod liveness;
mod lives;
mod membership;
mod order;
mod quorum;
mod safe;
mod self_delivery;
mod store;
mod token;
mod virtual_synchrony;

use std::{collections::BTreeMap, fmt};

use quorate_types::NodeId;

pub use features::FeatureChecker;
pub use gather::GatherChecker;
pub use groups::GroupChecker;
pub use liveness::{Expectation, LivenessChecker, NodeState};
pub use membership::MembershipChecker;
pub use order::OrderChecker;
pub use quorum::{QuorumChecker, QuorumRule};
pub use safe::SafeChecker;
pub use self_delivery::SelfDeliveryChecker;
pub use store::{StoreChecker, StoreRule};
pub use token::TokenChecker;
pub use virtual_synchrony::VirtualSynchronyChecker;

use crate::history::Observation;

/// A property does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The checker that found it.
    pub checker: &'static str,
    /// The property, with its number.
    pub property: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.checker, self.property, self.what)
    }
}

impl std::error::Error for Violation {}

/// Judges a history, observation by observation.
pub trait Checker {
    /// Takes the next observation.
    ///
    /// # Errors
    /// The violation that this observation completes.
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation>;

    /// The history is complete and the cluster was quiet at its end.
    ///
    /// # Errors
    /// A violation that only the whole history shows.
    fn finish(&mut self) -> Result<(), Violation> {
        Ok(())
    }
}

/// All checkers of the safety phase.
pub struct Checkers {
    all: Vec<Box<dyn Checker>>,
    quorum: QuorumChecker,
    store: StoreChecker,
}

impl Checkers {
    /// All of them, for nodes with these votes, by what the options of the cluster promise.
    #[must_use]
    pub fn new(votes: &BTreeMap<NodeId, u32>, quorum: QuorumRule, store: StoreRule) -> Self {
        Self {
            all: vec![
                Box::new(MembershipChecker::default()),
                Box::new(OrderChecker::default()),
                Box::new(VirtualSynchronyChecker::default()),
                Box::new(SelfDeliveryChecker::default()),
                Box::new(SafeChecker::default()),
                Box::new(TokenChecker::default()),
                Box::new(GatherChecker::default()),
                Box::new(GroupChecker::default()),
                Box::new(FeatureChecker::default()),
            ],
            quorum: QuorumChecker::new(quorum, votes.clone()),
            store: StoreChecker::new(votes.clone(), store),
        }
    }

    /// Feeds one observation to each.
    ///
    /// # Errors
    /// The first violation.
    pub fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        self.all.iter_mut().try_for_each(|checker| checker.observe(observation))?;
        self.quorum.observe(observation)?;
        if self.quorum.has_split() {
            self.store.expect_two_histories();
        }
        self.store.observe(observation)
    }

    /// Asks each for what only the whole history shows.
    ///
    /// # Errors
    /// The first violation.
    pub fn finish(&mut self) -> Result<(), Violation> {
        self.all.iter_mut().try_for_each(|checker| checker.finish())?;
        self.quorum.finish()?;
        self.store.finish()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Builders of histories.

    use quorate_types::{NodeId, RingId};

    use super::{Checker, Violation};
    use crate::{
        event::SimTime,
        history::{Change, Event, Observation},
    };

    pub(crate) fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    pub(crate) fn nodes(ids: &[u32]) -> Vec<NodeId> {
        ids.iter().copied().map(node).collect()
    }

    pub(crate) fn ring(rep: u32, seq: u64) -> RingId {
        RingId { rep, seq }
    }

    pub(crate) fn regular(rep: u32, seq: u64, members: &[u32]) -> Change {
        Change::Regular { ring: ring(rep, seq), members: nodes(members) }
    }

    pub(crate) fn transitional(rep: u32, seq: u64, members: &[u32]) -> Change {
        Change::Transitional { next: ring(rep, seq), members: nodes(members) }
    }

    /// Feeds the events, a millisecond apart, and returns what the checker says of the whole.
    pub(crate) fn judge(checker: &mut dyn Checker, history: &[(u32, Event)]) -> Result<(), Violation> {
        for (millis, (id, event)) in history.iter().enumerate() {
            let at = SimTime::from_millis(millis as u64);
            checker.observe(&Observation { at, node: node(*id), event: event.clone() })?;
        }
        checker.finish()
    }
}
