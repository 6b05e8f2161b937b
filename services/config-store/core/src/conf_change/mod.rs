//! How a new corosync.conf comes into force: stored by every member first, used by all at one place of the order then.
//!
//! **Why.** A member that uses the new file while another one does not have it yet sees another cluster than that one:
//! with other addresses or keys they do not hear each other, and the ring breaks.
//!
//! **How.** Each member looks at the file that the tree has, stores it beside the one it uses, and says so in the status
//! group: *prepared*. The group delivers what members say in one order, so all see the last of them at the same place:
//! there each one takes the new file. Who refuses stops the change, and the lowest member takes it back in the tree.
//! Only members of the group that the new file lists count: nobody waits for who is off or is being removed.
//!
//! **Afterwards.** A change that can break the ring is watched: if those who took the file together are not together, or
//! not quorate, within a bound, each takes the old content back, with the next `config_version`. All make the same file
//! of it, whether they hear each other or not, and the lowest one that may write puts it into the tree.
//!
//! **Contract.** Hand in one [`ConfInput`], then drain [`ConfChange::poll_output`]; what members say in the group's order,
//! this node's own words included. [`ConfInput::Timer`] when [`ConfChange::next_deadline`] has passed.
//!
//! Sources: pmxcfs specification, section 9 (why the sleep of one second was not enough).

mod word;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use quorate_types::NodeId;

pub use word::{ConfId, Phase, Word, WordError};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfInput {
    /// The file that this node uses is this one; `None` if it has none.
    Local(Option<ConfId>),
    /// The tree has this file, which this node can use or not.
    Offered {
        /// Which file.
        conf: ConfId,
        /// The nodes it lists.
        nodes: BTreeSet<NodeId>,
        /// Whether it can break the ring, and is watched for that.
        is_risky: bool,
    },
    /// The file was stored, or cannot be used.
    Prepared {
        /// Which file.
        conf: ConfId,
        /// Why not.
        result: Result<(), String>,
    },
    /// The group has these members.
    Members(Vec<NodeId>),
    /// A member said this; this node's own words come back as the others'.
    Said {
        /// Who.
        node: NodeId,
        /// What.
        word: Word,
    },
    /// Whether this node is quorate.
    Quorate(bool),
    /// The deadline has passed.
    Timer,
}

/// What must be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfOutput {
    /// Store this file beside the one in use and see whether it can be used.
    Prepare(ConfId),
    /// Say this to the group.
    Say(Word),
    /// Use this file: it was stored.
    Activate(ConfId),
    /// Put the file in use into the tree again, with the version after this one's, which is not used because.
    TakeBack {
        /// The file that is not used.
        conf: ConfId,
        /// Why.
        reason: String,
    },
    /// Use the file from before this one again, with the version after this one's.
    RollBack {
        /// The file that is given up.
        conf: ConfId,
        /// Why.
        reason: String,
    },
    /// A watched file works.
    Confirmed(ConfId),
}

/// A file that is on its way.
#[derive(Debug)]
struct Offer {
    conf: ConfId,
    nodes: BTreeSet<NodeId>,
    is_risky: bool,
    prepared: bool,
    refused: bool,
}

/// A file in use that may turn out to break the ring.
#[derive(Debug)]
struct Trial {
    conf: ConfId,
    together: BTreeSet<NodeId>,
    was_quorate: bool,
    deadline: Instant,
}

/// One member's part in changes of corosync.conf.
#[derive(Debug)]
pub struct ConfChange {
    me: Option<NodeId>,
    bound: Duration,
    local: Option<ConfId>,
    offer: Option<Offer>,
    trial: Option<Trial>,
    members: BTreeSet<NodeId>,
    said: BTreeMap<NodeId, Word>,
    told: Option<Word>,
    quorate: bool,
    outputs: VecDeque<ConfOutput>,
}

impl ConfChange {
    /// Nothing is on its way. `bound`: how long a ring may take to form with a new file.
    #[must_use]
    pub fn new(bound: Duration) -> Self {
        Self {
            me: None,
            bound,
            local: None,
            offer: None,
            trial: None,
            members: BTreeSet::new(),
            said: BTreeMap::new(),
            told: None,
            quorate: false,
            outputs: VecDeque::new(),
        }
    }

    /// Says which node this is; `None` while it is in no cluster.
    pub fn set_node(&mut self, node: Option<NodeId>) {
        self.me = node;
    }

    /// How long a ring may take to form with a new file, from the next change on.
    pub fn set_bound(&mut self, bound: Duration) {
        self.bound = bound;
    }

    /// Takes one input.
    pub fn handle_input(&mut self, now: Instant, input: ConfInput) {
        match input {
            ConfInput::Local(local) => self.local_is(local),
            ConfInput::Offered { conf, nodes, is_risky } => self.offered(conf, nodes, is_risky),
            ConfInput::Prepared { conf, result } => self.prepared(conf, result),
            ConfInput::Members(members) => {
                self.members = members.into_iter().collect();
                self.said.retain(|node, _| self.members.contains(node));
            }
            ConfInput::Said { node, word } => drop(self.said.insert(node, word)),
            ConfInput::Quorate(quorate) => self.quorate = quorate,
            ConfInput::Timer => self.judge(now),
        }
        self.decide(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<ConfOutput> {
        self.outputs.pop_front()
    }

    /// When to hand in [`ConfInput::Timer`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.trial.as_ref().map(|trial| trial.deadline)
    }

    /// The file that is on its way, and the members that have not stored it.
    #[must_use]
    pub fn waits_for(&self) -> Option<(ConfId, Vec<NodeId>)> {
        let offer = self.offer.as_ref()?;
        Some((offer.conf, self.counting(offer).filter(|node| !self.is_ready(offer, *node)).collect()))
    }

    /// The file in use, as far as one is.
    #[must_use]
    pub fn local(&self) -> Option<ConfId> {
        self.local
    }

    /// Members that use another file than this node while none is on its way, each with its file.
    pub fn differing(&self) -> impl Iterator<Item = (NodeId, ConfId)> + '_ {
        let settled = self.offer.is_none();
        self.said.iter().filter_map(move |(node, word)| {
            let differs = word.phase == Phase::Active && self.local.is_some_and(|local| local != word.conf);
            (settled && differs).then_some((*node, word.conf))
        })
    }

    fn say(&mut self, conf: ConfId, phase: Phase) {
        let word = Word { conf, phase };
        if self.told.as_ref() != Some(&word) {
            self.told = Some(word.clone());
            self.outputs.push_back(ConfOutput::Say(word));
        }
    }

    fn local_is(&mut self, local: Option<ConfId>) {
        self.local = local;
        if self.offer.as_ref().is_some_and(|offer| !self.is_news(offer.conf)) {
            self.offer = None;
        }
        if self.offer.is_none()
            && let Some(conf) = local
        {
            self.say(conf, Phase::Active);
        }
    }

    /// Source: pmxcfs specification, 9: higher, or equal with other bytes.
    fn is_news(&self, conf: ConfId) -> bool {
        self.local.is_none_or(|local| conf != local && conf.version >= local.version)
    }

    fn offered(&mut self, conf: ConfId, nodes: BTreeSet<NodeId>, is_risky: bool) {
        if self.offer.as_ref().is_some_and(|offer| offer.conf == conf) {
            return;
        }
        self.offer = None;
        if self.is_news(conf) {
            self.offer = Some(Offer { conf, nodes, is_risky, prepared: false, refused: false });
            self.outputs.push_back(ConfOutput::Prepare(conf));
        } else if let Some(local) = self.local {
            self.say(local, Phase::Active);
        }
    }

    fn prepared(&mut self, conf: ConfId, result: Result<(), String>) {
        let Some(offer) = self.offer.as_mut().filter(|offer| offer.conf == conf) else { return };
        offer.prepared = result.is_ok();
        match result {
            Ok(()) => self.say(conf, Phase::Prepared),
            Err(reason) => self.say(conf, Phase::Refused(reason)),
        }
    }

    /// Members that the new file lists.
    fn counting<'a>(&'a self, offer: &'a Offer) -> impl Iterator<Item = NodeId> + 'a {
        self.members.intersection(&offer.nodes).copied()
    }

    /// Who uses a later file already does not follow this one, and is not waited for.
    fn is_ready(&self, offer: &Offer, node: NodeId) -> bool {
        self.said.get(&node).is_some_and(|word| match word.phase {
            Phase::Prepared => word.conf == offer.conf,
            Phase::Active => word.conf == offer.conf || word.conf.version > offer.conf.version,
            Phase::Refused(_) => false,
        })
    }

    fn decide(&mut self, now: Instant) {
        let Some(offer) = &self.offer else { return };
        if let Some(reason) = self.refusal(offer) {
            let speaks = self.counting(offer).next() == self.me && self.me.is_some();
            let conf = offer.conf;
            // Only who speaks has done it: if it leaves before the tree has it, the next one does.
            if let Some(offer) = self.offer.as_mut().filter(|offer| speaks && !offer.refused)
                && self.local.is_some()
            {
                offer.refused = true;
                self.outputs.push_back(ConfOutput::TakeBack { conf, reason });
            }
            return;
        }
        let is_use = |word: &Word| word.conf == offer.conf && word.phase == Phase::Active;
        let is_decided = self.said.values().any(is_use);
        let counting: Vec<NodeId> = self.counting(offer).collect();
        let all = !counting.is_empty() && counting.iter().all(|node| self.is_ready(offer, *node));
        if offer.prepared && (is_decided || all) {
            self.activate(now);
        }
    }

    /// Why the file is not used, if a member cannot.
    fn refusal(&self, offer: &Offer) -> Option<String> {
        self.counting(offer).find_map(|node| match self.said.get(&node) {
            Some(Word { conf, phase: Phase::Refused(reason) }) if *conf == offer.conf => {
                Some(format!("node {node}: {reason}"))
            }
            _ => None,
        })
    }

    fn activate(&mut self, now: Instant) {
        let Some(offer) = self.offer.take() else { return };
        let together: BTreeSet<NodeId> = self.counting(&offer).collect();
        let is_watched = offer.is_risky && together.len() > 1 && self.local.is_some();
        self.trial = is_watched.then(|| Trial {
            conf: offer.conf,
            together,
            was_quorate: self.quorate,
            deadline: now + self.bound,
        });
        self.local = Some(offer.conf);
        self.outputs.push_back(ConfOutput::Activate(offer.conf));
        self.say(offer.conf, Phase::Active);
    }

    fn judge(&mut self, now: Instant) {
        let Some(trial) = self.trial.take_if(|trial| trial.deadline <= now) else { return };
        let away: Vec<String> = trial.together.difference(&self.members).map(ToString::to_string).collect();
        let reason = if !away.is_empty() {
            format!("with it, the ring did not form again: without node {}", away.join(", "))
        } else if trial.was_quorate && !self.quorate {
            "with it, there is no quorum".to_owned()
        } else {
            self.outputs.push_back(ConfOutput::Confirmed(trial.conf));
            return;
        };
        self.outputs.push_back(ConfOutput::RollBack { conf: trial.conf, reason });
    }
}

#[cfg(test)]
mod tests;
