//! The store: one history, and nothing that was acknowledged is lost.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::NodeId;

use super::{Checker, Violation};
use crate::history::{EpochKey, Event, Observation, Outcome, Position, WriteId};

/// Checks P11 and the promises of a write:
///
/// - one epoch and version means one checksum, at every replica and in every life
/// - a write is answered at most once
/// - at its acknowledgement nodes with more than half of all votes have its version on disk
/// - versions of acknowledged writes are unique and follow real time
/// - a replica that becomes writable holds every write that was acknowledged before
/// - a refused write never shows up
#[derive(Debug)]
pub struct StoreChecker {
    votes: BTreeMap<NodeId, u32>,
    known: BTreeMap<(EpochKey, u64), (u64, NodeId)>,
    durable: BTreeMap<NodeId, Position>,
    /// Highest acknowledged version at the time of each submission.
    submitted: BTreeMap<WriteId, u64>,
    outcomes: BTreeMap<WriteId, Outcome>,
    acknowledged: BTreeMap<u64, WriteId>,
}

fn violation(property: &'static str, observation: &Observation, why: String) -> Violation {
    Violation { checker: "store", property, what: format!("{observation}: {why}") }
}

impl Checker for StoreChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        match &observation.event {
            Event::Applied(position) => self.position(observation, *position),
            Event::StoreStarted(position) | Event::Durable(position) => {
                self.durable.insert(observation.node, *position);
                self.position(observation, *position)
            }
            Event::Submitted(write) => {
                let floor = self.acknowledged.last_key_value().map_or(0, |(version, _)| *version);
                self.submitted.insert(*write, floor);
                Ok(())
            }
            Event::Replied(write, outcome) => self.reply(observation, *write, *outcome),
            Event::Tree(writes) => self.tree(observation, writes),
            _ => Ok(()),
        }
    }
}

impl StoreChecker {
    /// A checker for nodes with these votes.
    #[must_use]
    pub fn new(votes: BTreeMap<NodeId, u32>) -> Self {
        Self {
            votes,
            known: BTreeMap::new(),
            durable: BTreeMap::new(),
            submitted: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
        }
    }

    fn position(&mut self, observation: &Observation, position: Position) -> Result<(), Violation> {
        let key = (position.epoch, position.version);
        let (checksum, first) = *self.known.entry(key).or_insert((position.checksum, observation.node));
        if checksum != position.checksum {
            let why = format!("node {first} has another checksum there");
            return Err(violation("P11 one epoch and version, one checksum", observation, why));
        }
        Ok(())
    }

    fn reply(
        &mut self,
        observation: &Observation,
        write: WriteId,
        outcome: Outcome,
    ) -> Result<(), Violation> {
        let Some(floor) = self.submitted.get(&write).copied() else {
            return Err(violation("an answer has a question", observation, "never submitted".into()));
        };
        if let Some(before) = self.outcomes.insert(write, outcome) {
            let why = format!("it was answered {before:?} before");
            return Err(violation("a write is answered once", observation, why));
        }
        let Outcome::Acknowledged { version } = outcome else { return Ok(()) };
        if version <= floor {
            let why = format!("version {floor} was acknowledged before it was submitted");
            return Err(violation("versions follow real time", observation, why));
        }
        if let Some(other) = self.acknowledged.insert(version, write) {
            let why = format!("write {other} has the same version");
            return Err(violation("acknowledged versions are unique", observation, why));
        }
        self.check_durable(observation, version)
    }

    fn check_durable(&self, observation: &Observation, version: u64) -> Result<(), Violation> {
        let has = |node: &NodeId| self.durable.get(node).is_some_and(|held| held.version >= version);
        let all: u32 = self.votes.values().sum();
        let present: u32 = self.votes.iter().filter(|(node, _)| has(node)).map(|(_, votes)| votes).sum();
        if present * 2 <= all {
            let why = format!("only {present} of {all} votes have it on disk");
            return Err(violation("acknowledged means on the disks of a majority", observation, why));
        }
        Ok(())
    }

    fn tree(&mut self, observation: &Observation, writes: &[WriteId]) -> Result<(), Violation> {
        let held: BTreeSet<WriteId> = writes.iter().copied().collect();
        if let Some(lost) = self.acknowledged.values().find(|write| !held.contains(write)) {
            let why = format!("write {lost} was acknowledged and is not there");
            return Err(violation("P11 no acknowledged write is lost", observation, why));
        }
        let refused = held.iter().find(|write| self.outcomes.get(write) == Some(&Outcome::Refused));
        if let Some(write) = refused {
            let why = format!("write {write} was refused");
            return Err(violation("a refused write has no effect", observation, why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::{judge, node};

    fn position(epoch: u64, version: u64, checksum: u64) -> Position {
        Position { epoch: (epoch, 1, 0), version, checksum }
    }

    fn acknowledged(write: WriteId, version: u64) -> Event {
        Event::Replied(write, Outcome::Acknowledged { version })
    }

    fn durable(ids: &[u32], version: u64) -> Vec<(u32, Event)> {
        ids.iter().map(|id| (*id, Event::Durable(position(1, version, version)))).collect()
    }

    fn verdict(history: &[(u32, Event)]) -> Result<(), &'static str> {
        let votes = (1..=3).map(|id| (node(id), 1)).collect();
        judge(&mut StoreChecker::new(votes), history).map_err(|violation| violation.property)
    }

    fn one_write(write: WriteId, version: u64) -> Vec<(u32, Event)> {
        let on_disk = durable(&[1, 2], version);
        [vec![(1, Event::Submitted(write))], on_disk, vec![(1, acknowledged(write, version))]].concat()
    }

    #[test]
    fn a_write_on_two_of_three_disks_may_be_acknowledged() {
        let history = [one_write(1, 2), one_write(2, 3), vec![(2, Event::Tree(vec![1, 2]))]].concat();
        assert_eq!(verdict(&history), Ok(()));
    }

    #[test]
    fn two_checksums_for_one_version_are_caught() {
        let history = [(1, Event::Applied(position(1, 2, 7))), (2, Event::Applied(position(1, 2, 8)))];
        assert_eq!(verdict(&history), Err("P11 one epoch and version, one checksum"));
    }

    #[test]
    fn an_acknowledgement_before_a_majority_has_it_on_disk_is_caught() {
        let history =
            [vec![(1, Event::Submitted(1))], durable(&[1], 2), vec![(1, acknowledged(1, 2))]].concat();
        assert_eq!(verdict(&history), Err("acknowledged means on the disks of a majority"));
    }

    #[test]
    fn a_lost_acknowledged_write_is_caught() {
        let history = [one_write(1, 2), vec![(3, Event::Tree(vec![]))]].concat();
        assert_eq!(verdict(&history), Err("P11 no acknowledged write is lost"));
    }

    #[test]
    fn a_second_answer_is_caught() {
        let history = [one_write(1, 2), vec![(1, Event::Replied(1, Outcome::Unknown))]].concat();
        assert_eq!(verdict(&history), Err("a write is answered once"));
    }

    #[test]
    fn two_writes_with_one_version_are_caught() {
        let first = vec![(1, Event::Submitted(1)), (1, Event::Submitted(2))];
        let both = vec![(1, acknowledged(1, 2)), (1, acknowledged(2, 2))];
        let history = [first, durable(&[1, 2], 2), both].concat();
        assert_eq!(verdict(&history), Err("acknowledged versions are unique"));
    }

    #[test]
    fn a_version_that_goes_back_in_real_time_is_caught() {
        let history = [one_write(1, 5), one_write(2, 4)].concat();
        assert_eq!(verdict(&history), Err("versions follow real time"));
    }

    #[test]
    fn a_refused_write_that_shows_up_is_caught() {
        let history =
            [(1, Event::Submitted(1)), (1, Event::Replied(1, Outcome::Refused)), (2, Event::Tree(vec![1]))];
        assert_eq!(verdict(&history), Err("a refused write has no effect"));
    }
}
