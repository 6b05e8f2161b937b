//! The machine: rings come and go, votes are recalculated, the result is published.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use quorate_types::{NodeId, RingId};
use tracing::info;

use crate::{
    Input, NodeState, Output, QuorumConfig, Stats, Status,
    device::Device,
    expected::{self, ExpectedRefusal},
    last_man_standing::{self, LastManStanding, NewRing},
    message::{NodeFlags, Parameter},
    nodes::{Nodes, Record, Tally},
    recalculate::{Recalculation, quorum},
    tie_breaker::{Before, Extremes, Split},
};

/// How far the ring is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// None.
    NoRing,
    /// Votes are being told; nothing is decided.
    Syncing {
        ring: RingId,
        /// What is to be done when all are known.
        pending: Recalculation,
    },
    /// All votes are known.
    Active(RingId),
}

/// The votequorum engine of one node.
#[derive(Debug, Clone)]
pub struct Votequorum {
    pub(crate) me: NodeId,
    pub(crate) config: QuorumConfig,
    pub(crate) phase: Phase,
    pub(crate) nodes: Nodes,
    /// Members of the present ring, whether they have told their votes or not.
    pub(crate) members: BTreeSet<NodeId>,
    /// The last synchronised ring before the present one.
    before: Before,
    pub(crate) quorum: u32,
    pub(crate) quorate: bool,
    /// Not quorate until all nodes were seen at once.
    pub(crate) waiting_for_all: bool,
    /// Expected votes do not fall below this by clean leaves.
    pub(crate) expected_barrier: u32,
    /// The highest expected votes ever, with `expected_votes_tracking`.
    tracking: u32,
    extremes: Option<Extremes>,
    last_man_standing: LastManStanding,
    pub(crate) device: Device,
    /// Whether this process has told others that it is there.
    announced: bool,
    /// Whether what others say in answer to that is newer than what is known here.
    pub(crate) catching_up: bool,
    published: Option<Status>,
    outputs: VecDeque<Output>,
    pub(crate) stats: Stats,
}

impl Votequorum {
    /// An engine without a ring. `ev_tracking` is what [`Output::StoreExpectedTracking`] last said, read
    /// from disk; it counts only with `expected_votes_tracking`.
    #[must_use]
    pub fn new(me: NodeId, config: QuorumConfig, ev_tracking: Option<u32>) -> Self {
        let own = Record {
            state: NodeState::Member,
            votes: config.votes,
            expected_votes: config.expected_votes,
            flags: NodeFlags::FIRST,
        };
        let mut engine = Self {
            me,
            phase: Phase::NoRing,
            nodes: Nodes::new(me, own),
            members: BTreeSet::new(),
            before: Before::default(),
            quorum: 0,
            quorate: false,
            waiting_for_all: config.wait_for_all,
            expected_barrier: config.expected_votes,
            tracking: ev_tracking.unwrap_or(0),
            extremes: None,
            last_man_standing: LastManStanding::default(),
            device: Device::default(),
            announced: false,
            catching_up: false,
            published: None,
            outputs: VecDeque::new(),
            stats: Stats::default(),
            config,
        };
        engine.nodes.own_mut().expected_votes = engine.configured_expected();
        engine.register_device();
        engine.recalculate(Recalculation::Fall);
        engine
    }

    /// Tells the engine what happened. `now` is its only clock.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::SyncStarted { ring, members, .. } => self.start_sync(now, ring, members),
            Input::Message { from, message } => self.handle_message(from, &message),
            Input::SyncActivated { ring } => self.activate(now, ring),
            // The next ring starts from the votes as they are now.
            Input::SyncAborted => {}
            Input::RingLost => self.lose_ring(),
            Input::SetExpected { expected } => self.set_expected(expected),
            Input::Reconfigure(config) => self.reconfigure(config),
            Input::CancelWaitForAll => self.multicast_change(Parameter::CancelWaitForAll, 0),
            Input::Leave => self.leave(),
            Input::Device { ring, vote } => self.hear_device(ring, vote),
            Input::Timer => {
                self.stop_waiting_for_device(now);
                self.end_window(now);
            }
        }
        self.publish_difference();
    }

    /// What must be done next, `None` when all is said.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] is wanted.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let window = matches!(self.phase, Phase::Active(_)).then(|| self.last_man_standing.ends()).flatten();
        window.or(self.device_deadline())
    }

    /// The state that was last published, or that of an engine without a ring.
    #[must_use]
    pub fn status(&self) -> Status {
        self.published.clone().unwrap_or_else(|| self.compute_status())
    }

    /// Messages dropped so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn start_sync(&mut self, now: Instant, ring: RingId, members: Vec<NodeId>) {
        debug_assert!(members.contains(&self.me), "a node is a member of its own ring");
        let members: BTreeSet<NodeId> = members.into_iter().collect();
        // A ring that broke before it was synchronised was never a ring to compare with.
        if !matches!(self.phase, Phase::Syncing { .. }) {
            let earlier = std::mem::take(&mut self.members);
            self.before = Before { members: earlier, quorate: self.quorate };
        }
        self.phase = Phase::Syncing { ring, pending: Recalculation::Rise };
        self.catching_up = false;
        if members.len() > 1 {
            self.set_own_flag(NodeFlags::FIRST, false);
        }
        self.nodes.bury_all_but(&members);
        self.members = members;
        self.arm_last_man_standing(now);
        self.tell_for_sync(now, ring);
    }

    fn activate(&mut self, now: Instant, ring: RingId) {
        let pending = match self.phase {
            Phase::Syncing { ring: synchronised, pending } if synchronised == ring => pending,
            _ => return,
        };
        self.phase = Phase::Active(ring);
        if !self.announced {
            // What was told again after a restart may hold votes of an earlier configuration.
            self.nodes.own_mut().votes = self.config.votes;
        }
        self.recalculate(pending);
        self.end_window(now);
        self.publish();
        if !self.announced || self.is_kept_waiting() {
            (self.announced, self.catching_up) = (true, true);
            self.announce();
        }
    }

    /// Others were quorate before this ring, but whether they still are was not theirs to say yet.
    fn is_kept_waiting(&self) -> bool {
        let was_quorate = |record: &Record| record.flags.has(NodeFlags::QUORATE);
        self.waiting_for_all && self.has_odd_ties() && self.nodes.members().any(|(_, it)| was_quorate(it))
    }

    /// Whether a tie of an odd number of votes is possible: then who was quorate may not be any more, though
    /// there are enough votes. A new node must ask before it believes.
    pub(crate) fn has_odd_ties(&self) -> bool {
        self.config.auto_tie_breaker.is_some() && self.nodes.own().expected_votes % 2 == 1
    }

    /// As after a restart of everything, but for expected votes that rose.
    fn lose_ring(&mut self) {
        self.phase = Phase::NoRing;
        self.members.clear();
        self.nodes.bury_all_but(&self.members);
        self.before = Before::default();
        self.extremes = None;
        self.last_man_standing.cancel();
        self.device = Device::default();
        self.announced = false;
        let configured = self.configured_expected();
        let own = self.nodes.own_mut();
        own.expected_votes = own.expected_votes.max(configured);
        self.register_device();
        self.recalculate(Recalculation::Fall);
        self.publish();
    }

    fn set_expected(&mut self, expected: u32) {
        let checked = match self.phase {
            Phase::Active(_) => {
                expected::check(expected, &self.tally(), self.quorate, self.config.is_two_node())
            }
            _ => Err(ExpectedRefusal::NotSynchronised),
        };
        match checked {
            Err(refusal) => self.emit(Output::ExpectedRefused(refusal)),
            Ok(()) => {
                self.emit(Output::ExpectedAccepted { expected });
                self.multicast_change(Parameter::ExpectedVotes, expected);
            }
        }
    }

    /// Takes the new configuration and tells the others what it changes for them. Source: corosync sends
    /// the same after a reload.
    fn reconfigure(&mut self, config: QuorumConfig) {
        let starts_to_wait = config.wait_for_all && !self.config.wait_for_all;
        self.config = config;
        if starts_to_wait || !self.config.wait_for_all {
            self.set_waiting(starts_to_wait && !self.quorate);
        }
        if !self.config.last_man_standing {
            self.last_man_standing.cancel();
        }
        self.register_device();
        self.expected_barrier = self.config.expected_votes;
        let (votes, expected) = (self.config.votes, self.configured_expected());
        let old = *self.nodes.own();
        let own = self.nodes.own_mut();
        (own.votes, own.expected_votes) = (votes, expected);
        if self.phase == Phase::NoRing {
            return self.recalculate(Recalculation::Fall);
        }
        self.multicast_infos();
        if votes != old.votes {
            self.multicast_change(Parameter::NodeVotes, votes);
        }
        if expected != old.expected_votes {
            self.multicast_change(Parameter::ExpectedVotes, expected);
        }
    }

    fn end_window(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Active(_)) || !self.last_man_standing.take_end(now) {
            return;
        }
        if self.quorate && last_man_standing::is_applicable(&self.nodes) {
            self.recalculate(Recalculation::ByNodes);
        }
    }

    fn arm_last_man_standing(&mut self, now: Instant) {
        if !self.config.last_man_standing {
            return;
        }
        let lowest_is_here = self.extremes.is_some_and(|it| self.members.contains(&it.lowest));
        let ring = NewRing {
            members: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            quorum: self.quorum,
            someone_left: !self.before.members.is_subset(&self.members),
            has_tie_breaker: self.config.auto_tie_breaker.is_some() && lowest_is_here,
        };
        self.last_man_standing.arm(now, self.config.last_man_standing_window, ring);
    }

    /// Expected votes as configured, or as tracked if that is more.
    fn configured_expected(&self) -> u32 {
        let tracked = if self.config.expected_votes_tracking { self.tracking } else { 0 };
        self.config.expected_votes.max(tracked)
    }

    /// Lowest value that a message may give own expected votes.
    pub(crate) const fn tracked(&self) -> u32 {
        if self.config.expected_votes_tracking { self.tracking } else { 0 }
    }

    /// From the votes of the members to quorum. Source: service specification, 3.5.
    ///
    /// Differs: while a ring synchronises this waits until all votes are known. corosync decides after each
    /// message, and with `wait_for_all` forgets quorum or not by the order in which they come.
    pub(crate) fn recalculate(&mut self, how: Recalculation) {
        if let Phase::Syncing { pending, .. } = &mut self.phase {
            *pending = how.max(*pending);
            return;
        }
        let mut present = self.tally();
        let own = self.nodes.own_mut();
        if present.votes > own.expected_votes {
            own.expected_votes = present.votes;
            present.highest_expected = present.highest_expected.max(present.votes);
        }
        self.track_expected();
        let floor = if how == Recalculation::Rise { self.quorum } else { 0 };
        let barrier = if self.config.allow_downscale { self.expected_barrier } else { 0 };
        let expected = (how == Recalculation::ByNodes).then(|| present.nodes.max(barrier));
        self.quorum = quorum(&present, expected, floor, self.config.is_two_node());
        if let Some(expected) = expected.filter(|expected| *expected > 0) {
            self.nodes.set_members_expected(expected);
        }
        self.decide(present.votes);
    }

    /// The members taken together, with the votes of the quorum device if they count here.
    pub(crate) fn tally(&self) -> Tally {
        let present = self.nodes.tally();
        Tally { votes: present.votes.saturating_add(self.device_votes()), ..present }
    }

    fn track_expected(&mut self) {
        let expected = self.nodes.own().expected_votes;
        if self.config.expected_votes_tracking && expected > self.tracking {
            self.tracking = expected;
            self.emit(Output::StoreExpectedTracking(expected));
        }
    }

    fn decide(&mut self, votes: u32) {
        if self.phase == Phase::NoRing {
            return self.set_quorate(false);
        }
        if self.waiting_for_all && votes != self.nodes.own().expected_votes {
            assert!(!self.quorate, "who waits for all nodes is not quorate");
            return;
        }
        let rule = self.config.auto_tie_breaker.as_ref();
        let split = self.split(votes);
        let may_be_lost = rule.is_some_and(|rule| split.may_be_lost(rule));
        let by_votes = self.quorum <= votes && !may_be_lost;
        let quorate = by_votes || rule.is_some_and(|rule| split.is_won(rule)) || self.master_wins();
        if by_votes {
            self.extremes = Extremes::of(&self.nodes);
        }
        self.set_quorate(quorate);
    }

    fn split(&self, votes: u32) -> Split<'_> {
        Split {
            nodes: &self.nodes,
            votes,
            quorum: self.quorum,
            expected_votes: self.nodes.own().expected_votes,
            wait_for_all: self.config.wait_for_all,
            members: &self.members,
            before: &self.before,
            extremes: self.extremes,
        }
    }

    pub(crate) fn set_quorate(&mut self, quorate: bool) {
        self.quorate = quorate;
        self.set_own_flag(NodeFlags::QUORATE, quorate);
        self.set_waiting(self.config.wait_for_all && !quorate);
    }

    pub(crate) fn set_waiting(&mut self, waiting: bool) {
        self.waiting_for_all = waiting;
        self.set_own_flag(NodeFlags::WAIT_FOR_ALL, waiting);
    }

    pub(crate) fn set_own_flag(&mut self, flag: NodeFlags, set: bool) {
        let own = self.nodes.own_mut();
        own.flags = own.flags.with(flag, set);
    }

    fn publish_difference(&mut self) {
        let is_settled = !matches!(self.phase, Phase::Syncing { .. });
        let has_spoken = self.published.is_some();
        if is_settled && has_spoken && self.published.as_ref() != Some(&self.compute_status()) {
            self.publish();
        }
    }

    pub(crate) fn publish(&mut self) {
        let status = self.compute_status();
        if self.published.as_ref().is_none_or(|published| published.quorate != status.quorate) {
            let Status { quorate, total_votes, quorum, expected_votes, .. } = status;
            info!(quorate, total_votes, quorum, expected_votes, "quorum");
        }
        self.published = Some(status.clone());
        self.emit(Output::Changed(status));
    }
}
