//! The store: one history, and nothing that was acknowledged is lost.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::NodeId;

use super::{Checker, Violation};
use crate::history::{EpochKey, Event, Observation, Outcome, Position, WriteId};

/// What the options of the cluster promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreRule {
    /// Votes that must have a write on disk before it is acknowledged.
    pub votes_needed: u32,
    /// There is one history. Without: with two_node both sides of a split go on writing until one is
    /// fenced, and when they meet the history of one is put aside.
    pub single_history: bool,
}

/// What is known of a write.
#[derive(Debug, Default)]
struct Write {
    /// Its effect can be seen in the tree for ever.
    lasting: bool,
    /// Highest acknowledged version when it was first submitted.
    floor: u64,
    attempts: BTreeSet<u32>,
    outcomes: BTreeMap<u32, Outcome>,
    acknowledged: Option<(EpochKey, u64)>,
}

impl Write {
    /// Every attempt was refused.
    fn is_refused(&self) -> bool {
        self.acknowledged.is_none()
            && self.outcomes.len() == self.attempts.len()
            && self.outcomes.values().all(|outcome| *outcome == Outcome::Refused)
    }
}

/// Checks P11 and the promises of a write:
///
/// - one epoch and version means one checksum, at every replica and in every life
/// - an attempt is answered at most once, and only if it was asked
/// - at its acknowledgement nodes with more than half of all votes have its version on disk
/// - versions of acknowledged writes are unique and follow real time; a repeated request has one version
/// - a replica that has come to the place of an acknowledged write in history holds it
/// - a write that was refused, whatever was tried, never shows up
/// - a linearizable read sees what was acknowledged before it was asked for
/// - a transaction is in a tree, and told to watchers, as a whole or not at all
/// - watchers are told of each version once and in order
/// - what a replica held and holds no longer is in a conflict copy
#[derive(Debug)]
pub struct StoreChecker {
    votes: BTreeMap<NodeId, u32>,
    rule: StoreRule,
    known: BTreeMap<(EpochKey, u64), (u64, NodeId)>,
    durable: BTreeMap<NodeId, Position>,
    writes: BTreeMap<WriteId, Write>,
    by_version: BTreeMap<u64, WriteId>,
    reads: BTreeMap<u64, u64>,
    watched: BTreeMap<NodeId, u64>,
    /// Lasting writes whose effect each replica holds, and those in its conflict copies.
    held: BTreeMap<NodeId, BTreeSet<WriteId>>,
    put_aside: BTreeMap<NodeId, BTreeSet<WriteId>>,
}

fn violation(property: &'static str, observation: &Observation, why: String) -> Violation {
    Violation { checker: "store", property, what: format!("{observation}: {why}") }
}

impl Checker for StoreChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        let node = observation.node;
        match &observation.event {
            Event::Applied(position) => self.position(observation, *position)?,
            Event::StoreStarted(position) => {
                self.watched.remove(&node);
                // What was not yet on disk may be gone; the tree that follows shows what is there.
                self.held.remove(&node);
                self.durable.insert(node, *position);
                self.position(observation, *position)?;
            }
            Event::Durable(position) => {
                self.durable.insert(node, *position);
                self.position(observation, *position)?;
            }
            Event::Submitted { write, attempt, lasting } => {
                let (floor, lasting) = (self.floor(), *lasting);
                let known =
                    self.writes.entry(*write).or_insert_with(|| Write { floor, lasting, ..Write::default() });
                known.attempts.insert(*attempt);
            }
            Event::Replied { write, attempt, outcome } => {
                self.reply(observation, *write, *attempt, *outcome)?
            }
            Event::ReadSubmitted(read) => {
                let floor = self.floor();
                self.reads.insert(*read, floor);
            }
            Event::ReadReplied { read, version } => self.read(observation, *read, *version)?,
            Event::Tree { position, writes, last } => {
                self.check_put_aside(observation, writes)?;
                self.tree(observation, *position, writes, *last)?;
            }
            Event::Torn(writes) => {
                let why = format!("of {writes:?} only parts are there");
                let property = "P11 a transaction happens as a whole or not at all";
                return Err(violation(property, observation, why));
            }
            Event::Performed(write) => {
                self.held.entry(node).or_default().insert(*write);
            }
            Event::ConflictKept(writes) => self.put_aside.entry(node).or_default().extend(writes),
            Event::Watched(versions) => self.watched(observation, versions)?,
            Event::WatchReset(version) => {
                self.watched.insert(node, *version);
            }
            Event::StrayReply(_) => {
                return Err(violation("an answer has a question", observation, "nobody waits for it".into()));
            }
            Event::Divergence { .. } => {
                return Err(violation("P11 replicas never diverge", observation, "they did".into()));
            }
            _ => {}
        }
        Ok(())
    }
}

impl StoreChecker {
    /// A checker for nodes with these votes.
    #[must_use]
    pub fn new(votes: BTreeMap<NodeId, u32>, rule: StoreRule) -> Self {
        Self {
            votes,
            rule,
            known: BTreeMap::new(),
            durable: BTreeMap::new(),
            writes: BTreeMap::new(),
            by_version: BTreeMap::new(),
            reads: BTreeMap::new(),
            watched: BTreeMap::new(),
            held: BTreeMap::new(),
            put_aside: BTreeMap::new(),
        }
    }

    /// Two parts of the cluster may write from now on; also for what was asked before.
    pub fn expect_two_histories(&mut self) {
        if !std::mem::take(&mut self.rule.single_history) {
            return;
        }
        self.writes.values_mut().for_each(|write| write.floor = 0);
        self.reads.values_mut().for_each(|floor| *floor = 0);
    }

    /// Highest version that was acknowledged so far.
    fn floor(&self) -> u64 {
        if !self.rule.single_history {
            return 0;
        }
        self.by_version.last_key_value().map_or(0, |(version, _)| *version)
    }

    fn position(&mut self, observation: &Observation, position: Position) -> Result<(), Violation> {
        let key = (position.epoch, position.version);
        let (checksum, first) = *self.known.entry(key).or_insert((position.checksum, observation.node));
        // What a node wrote stand-alone is its own.
        if checksum != position.checksum && position.epoch != EpochKey::default() {
            let why = format!("node {first} has another checksum there");
            return Err(violation("P11 one epoch and version, one checksum", observation, why));
        }
        Ok(())
    }

    fn reply(
        &mut self,
        observation: &Observation,
        id: WriteId,
        attempt: u32,
        outcome: Outcome,
    ) -> Result<(), Violation> {
        let fail = |property, why: String| Err(violation(property, observation, why));
        let Some(write) = self.writes.get_mut(&id).filter(|write| write.attempts.contains(&attempt)) else {
            return fail("an answer has a question", "never submitted".into());
        };
        if let Some(before) = write.outcomes.insert(attempt, outcome) {
            return fail("an attempt is answered once", format!("it was answered {before:?} before"));
        }
        let Outcome::Acknowledged { epoch, version } = outcome else { return Ok(()) };
        if let Some((_, before)) = write.acknowledged.replace((epoch, version))
            && before != version
            && self.rule.single_history
        {
            return fail("a repeated request is applied once", format!("its version was {before}"));
        }
        if version <= write.floor {
            let why = format!("version {} was acknowledged before it was submitted", write.floor);
            return fail("versions follow real time", why);
        }
        let other = self.by_version.insert(version, id);
        if self.rule.single_history && other.is_some_and(|other| other != id) {
            return fail("acknowledged versions are unique", format!("write {other:?} has it too"));
        }
        self.check_durable(observation, (epoch, version))
    }

    fn check_durable(&self, observation: &Observation, place: (EpochKey, u64)) -> Result<(), Violation> {
        let has = |node: &NodeId| {
            let held = self.durable.get(node);
            held.is_some_and(|held| held.version >= place.1 && held.epoch >= place.0)
        };
        let present: u32 = self.votes.iter().filter(|(node, _)| has(node)).map(|(_, votes)| votes).sum();
        if present < self.rule.votes_needed {
            let why = format!("only {present} votes of {} have it on disk", self.rule.votes_needed);
            return Err(violation("acknowledged means on the disks of a majority", observation, why));
        }
        Ok(())
    }

    fn read(&mut self, observation: &Observation, read: u64, version: Option<u64>) -> Result<(), Violation> {
        let Some(floor) = self.reads.remove(&read) else {
            return Err(violation("an answer has a question", observation, "asked never or twice".into()));
        };
        if version.is_some_and(|version| version < floor) {
            let why = format!("version {floor} was acknowledged before it was submitted");
            return Err(violation("a linearizable read is not stale", observation, why));
        }
        Ok(())
    }

    fn tree(
        &mut self,
        observation: &Observation,
        position: Position,
        writes: &[WriteId],
        last: bool,
    ) -> Result<(), Violation> {
        let reached = |place: (EpochKey, u64)| {
            last || place.0 < position.epoch || (place.0 == position.epoch && place.1 <= position.version)
        };
        let owed = |write: &Write| write.lasting && write.acknowledged.is_some_and(reached);
        let stray = |id: WriteId| {
            let why = format!("write {id} was refused, or never asked for");
            Err(violation("a refused write has no effect", observation, why))
        };
        // Both are in the order of their numbers: one walk along the two.
        let mut held = writes.iter().copied().peekable();
        for (id, write) in &self.writes {
            if let Some(unknown) = held.next_if(|held| held < id) {
                return stray(unknown);
            }
            let is_held = held.next_if_eq(id).is_some();
            if is_held && write.is_refused() {
                return stray(*id);
            }
            if !is_held && owed(write) && self.rule.single_history {
                let why = format!("write {id} was acknowledged as {:?} and is not there", write.acknowledged);
                return Err(violation("P11 no acknowledged write is lost", observation, why));
            }
        }
        held.next().map_or(Ok(()), stray)
    }

    fn check_put_aside(&mut self, observation: &Observation, writes: &[WriteId]) -> Result<(), Violation> {
        let before = self.held.entry(observation.node).or_default();
        if before.iter().eq(writes) {
            return Ok(());
        }
        let aside = self.put_aside.entry(observation.node).or_default();
        let is_gone = |write: &&WriteId| writes.binary_search(write).is_err() && !aside.contains(write);
        if let Some(dropped) = before.iter().find(is_gone) {
            let why = format!("write {dropped} was there and is in no conflict copy");
            return Err(violation("nothing is dropped silently", observation, why));
        }
        *before = writes.iter().copied().collect();
        Ok(())
    }

    fn watched(&mut self, observation: &Observation, versions: &[u64]) -> Result<(), Violation> {
        for version in versions {
            let before = self.watched.insert(observation.node, *version);
            if before.is_some_and(|before| before + 1 != *version) {
                let why = format!("after version {before:?}");
                return Err(violation("watchers see each version once, in order", observation, why));
            }
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

    fn submitted(write: WriteId, attempt: u32) -> (u32, Event) {
        (1, Event::Submitted { write, attempt, lasting: true })
    }

    fn replied(write: WriteId, attempt: u32, outcome: Outcome) -> (u32, Event) {
        (1, Event::Replied { write, attempt, outcome })
    }

    fn acknowledged(version: u64) -> Outcome {
        Outcome::Acknowledged { epoch: (1, 1, 0), version }
    }

    fn durable(ids: &[u32], version: u64) -> Vec<(u32, Event)> {
        ids.iter().map(|id| (*id, Event::Durable(position(1, version, version)))).collect()
    }

    fn tree(version: u64, writes: &[WriteId]) -> (u32, Event) {
        (3, Event::Tree { position: position(1, version, version), writes: writes.to_vec(), last: false })
    }

    fn one_write(write: WriteId, version: u64) -> Vec<(u32, Event)> {
        let on_disk = durable(&[1, 2], version);
        [vec![submitted(write, 0)], on_disk, vec![replied(write, 0, acknowledged(version))]].concat()
    }

    fn verdict(history: &[Vec<(u32, Event)>]) -> Result<(), &'static str> {
        let votes = (1..=3).map(|id| (node(id), 1)).collect();
        let rule = StoreRule { votes_needed: 2, single_history: true };
        judge(&mut StoreChecker::new(votes, rule), &history.concat()).map_err(|violation| violation.property)
    }

    #[test]
    fn a_write_on_two_of_three_disks_may_be_acknowledged() {
        assert_eq!(verdict(&[one_write(1, 2), one_write(2, 3), vec![tree(3, &[1, 2])]]), Ok(()));
    }

    #[test]
    fn two_checksums_for_one_version_are_caught() {
        let history = vec![(1, Event::Applied(position(1, 2, 7))), (2, Event::Applied(position(1, 2, 8)))];
        assert_eq!(verdict(&[history]), Err("P11 one epoch and version, one checksum"));
    }

    #[test]
    fn an_acknowledgement_before_a_majority_has_it_on_disk_is_caught() {
        let history = [vec![submitted(1, 0)], durable(&[1], 2), vec![replied(1, 0, acknowledged(2))]];
        assert_eq!(verdict(&history), Err("acknowledged means on the disks of a majority"));
    }

    #[test]
    fn a_lost_acknowledged_write_is_caught_once_its_version_is_reached() {
        assert_eq!(verdict(&[one_write(1, 2), vec![tree(1, &[])]]), Ok(()));
        let lost = verdict(&[one_write(1, 2), vec![tree(2, &[])]]);
        assert_eq!(lost, Err("P11 no acknowledged write is lost"));
    }

    #[test]
    fn a_second_answer_to_one_attempt_is_caught() {
        let history = [one_write(1, 2), vec![replied(1, 0, Outcome::Unknown)]];
        assert_eq!(verdict(&history), Err("an attempt is answered once"));
    }

    #[test]
    fn a_request_that_is_applied_twice_is_caught() {
        let again =
            [vec![submitted(1, 1)], durable(&[1, 2], 3), vec![replied(1, 1, acknowledged(3))]].concat();
        assert_eq!(verdict(&[one_write(1, 2), again]), Err("a repeated request is applied once"));
    }

    #[test]
    fn two_writes_with_one_version_are_caught() {
        let both = [vec![submitted(1, 0), submitted(2, 0)], durable(&[1, 2], 2)].concat();
        let replies = vec![replied(1, 0, acknowledged(2)), replied(2, 0, acknowledged(2))];
        assert_eq!(verdict(&[both, replies]), Err("acknowledged versions are unique"));
    }

    #[test]
    fn a_version_that_goes_back_in_real_time_is_caught() {
        assert_eq!(verdict(&[one_write(1, 5), one_write(2, 4)]), Err("versions follow real time"));
    }

    #[test]
    fn a_refused_write_that_shows_up_is_caught() {
        let history = vec![submitted(1, 0), replied(1, 0, Outcome::Refused), tree(2, &[1])];
        assert_eq!(verdict(&[history]), Err("a refused write has no effect"));
    }

    #[test]
    fn a_stale_read_is_caught() {
        let read = vec![(2, Event::ReadSubmitted(1)), (2, Event::ReadReplied { read: 1, version: Some(1) })];
        assert_eq!(verdict(&[one_write(1, 2), read]), Err("a linearizable read is not stale"));
    }

    #[test]
    fn a_write_that_disappears_without_a_conflict_copy_is_caught() {
        let seen = vec![submitted(1, 0), (3, Event::Performed(1)), tree(1, &[1])];
        let dropped = [seen.clone(), vec![tree(2, &[])]];
        assert_eq!(verdict(&dropped), Err("nothing is dropped silently"));
        let kept = [seen.clone(), vec![(3, Event::ConflictKept(vec![1])), tree(2, &[])]];
        assert_eq!(verdict(&kept), Ok(()));
        let lost_with_the_power = [seen, vec![(3, Event::StoreStarted(position(1, 1, 1))), tree(2, &[])]];
        assert_eq!(verdict(&lost_with_the_power), Ok(()));
    }

    #[test]
    fn a_watcher_that_misses_a_version_is_caught() {
        let watched = vec![(1, Event::Watched(vec![2, 3])), (1, Event::Watched(vec![5]))];
        assert_eq!(verdict(&[watched]), Err("watchers see each version once, in order"));
    }

    #[test]
    fn a_transaction_in_parts_is_caught() {
        let property = "P11 a transaction happens as a whole or not at all";
        assert_eq!(verdict(&[vec![(1, Event::Torn(vec![4]))]]), Err(property));
    }

    #[test]
    fn an_answer_without_a_question_is_caught() {
        assert_eq!(verdict(&[vec![(1, Event::StrayReply(4))]]), Err("an answer has a question"));
    }
}
