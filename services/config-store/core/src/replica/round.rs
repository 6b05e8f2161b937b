//! Rounds of synchronisation: who starts them, and the exchange of states.
//!
//! A round is started by whoever sees the ring quorate, the lowest node first and the others when it
//! stays silent; the last start delivered counts, and its place in the order is the same for all. So one
//! node's missing quorum service holds nobody up. A participant that does not answer in time (a stopped
//! process in a healthy ring) is left out of the next start, as long as the rest has the votes; it asks
//! to be taken in when it wakes up. In a partition that is not quorate nothing starts, and every replica
//! stays as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use quorate_types::{NodeId, RingId};

use super::{
    Replica, Settings,
    phase::{Exchange, Group, Phase},
};
use crate::{
    io::Reason,
    message::{MemberState, Message, RoundId},
};

impl Replica {
    pub(super) fn group_changed(&mut self, now: Instant, ring: RingId, mut members: Vec<NodeId>) {
        if matches!(self.phase, Phase::Failed | Phase::Local(_)) {
            return;
        }
        if !members.contains(&self.settings.node) {
            return self.detach(Reason::GroupChanged);
        }
        members.sort_unstable();
        members.dedup();
        self.outbox.reset();
        self.group = Some(Group { ring, members, settled: true });
        self.forgot.clear();
        self.enter(Phase::Waiting, Reason::GroupChanged);
        self.arm(now, Duration::ZERO);
    }

    pub(super) fn transitional(&mut self) {
        if matches!(self.phase, Phase::Failed | Phase::Local(_) | Phase::Detached) {
            return;
        }
        if let Some(group) = &mut self.group {
            group.settled = false;
        }
        self.start_at = None;
        self.enter(Phase::Waiting, Reason::RingChanging);
    }

    /// Whether this replica may start a round: it sees its ring quorate, with enough replicas.
    pub(super) fn may_start(&self) -> bool {
        let settled = self.group.as_ref().is_some_and(|group| group.settled);
        let right_ring =
            self.group.as_ref().map(|group| group.ring) == self.view.as_ref().map(|view| view.ring);
        settled && right_ring && self.check_quorum().is_ok()
    }

    pub(super) fn may_act_on_timer(&self) -> bool {
        matches!(self.phase, Phase::Excluded) || self.may_start()
    }

    /// Sets the timer: after `wait`, and a step more for every member before this one.
    pub(super) fn arm(&mut self, now: Instant, wait: Duration) {
        let members = self.group.as_ref().map(|group| group.members.as_slice()).unwrap_or_default();
        let rank = members.iter().position(|member| *member == self.settings.node).unwrap_or_default();
        let rank = u32::try_from(rank).expect("a group has far fewer than 2^32 members");
        self.start_at = Some(now + wait + self.settings.step * rank);
    }

    pub(super) fn act_on_timer(&mut self, now: Instant) {
        if self.start_at.is_none_or(|at| at > now) || !self.may_act_on_timer() {
            return;
        }
        if matches!(self.phase, Phase::Excluded) {
            self.send_control(Message::SyncRequest);
            self.phase = Phase::Waiting;
        } else {
            self.start_round();
        }
        self.arm(now, self.settings.exchange_timeout);
    }

    fn start_round(&mut self) {
        let Some(group) = &self.group else { return };
        let ring = group.ring;
        let participants = self.answering_members().unwrap_or_else(|| group.members.clone());
        self.rounds += 1;
        let Settings { node: starter, incarnation, .. } = self.settings;
        let round = RoundId { starter, incarnation, count: self.rounds };
        tracing::debug!(node = %starter, ?participants, "starting a round");
        self.send_control(Message::SyncStart { round, ring, participants });
    }

    /// In an exchange that has waited too long: those that answered, if they have the votes.
    fn answering_members(&self) -> Option<Vec<NodeId>> {
        let Phase::Exchange(exchange) = &self.phase else { return None };
        let answering: Vec<NodeId> = exchange.states.keys().copied().collect();
        let enough = self.view.as_ref()?.check(&answering).is_ok();
        (enough && !answering.is_empty()).then_some(answering)
    }

    pub(super) fn sync_start(
        &mut self,
        now: Instant,
        round: RoundId,
        ring: RingId,
        participants: Vec<NodeId>,
    ) {
        let Some(group) = &self.group else { return };
        let known = participants.iter().all(|node| group.members.contains(node));
        if ring != group.ring || !known || participants.is_empty() || matches!(self.phase, Phase::Failed) {
            self.stats.messages_out_of_place += 1;
            return;
        }
        self.stats.rounds_started += 1;
        let again = participants.len() < group.members.len() && self.another_round_wanted();
        let participants: BTreeSet<NodeId> = participants.into_iter().collect();
        if !participants.contains(&self.settings.node) {
            tracing::warn!(node = %self.settings.node, "the group goes on without this replica");
            self.stats.times_left_out += 1;
            self.enter(Phase::Excluded, Reason::LeftOut);
            return self.arm(now, self.settings.rejoin_delay);
        }
        let states = BTreeMap::new();
        self.enter(Phase::Exchange(Exchange { round, participants, states, again }), Reason::RoundStarted);
        let state = self.own_state();
        self.send_control(Message::State { round, state });
        self.arm(now, self.settings.exchange_timeout);
    }

    fn another_round_wanted(&self) -> bool {
        match &self.phase {
            Phase::Exchange(exchange) => exchange.again,
            Phase::Update(update) => update.again,
            _ => false,
        }
    }

    fn own_state(&self) -> MemberState {
        MemberState {
            epoch: self.epoch,
            promised: self.promised,
            version: self.tree.version(),
            chain: *self.log.chain(),
            checksum: self.tree.checksum(),
            log_first: self.log.first(),
            epochs: self.epochs.clone(),
        }
    }

    pub(super) fn member_state(&mut self, now: Instant, from: NodeId, round: RoundId, state: MemberState) {
        let exchange = match &mut self.phase {
            Phase::Exchange(exchange) if exchange.round == round && exchange.participants.contains(&from) => {
                exchange
            }
            _ => return self.stats.messages_out_of_place += 1,
        };
        exchange.states.insert(from, state);
        let complete = exchange.states.len() == exchange.participants.len();
        self.arm(now, self.settings.exchange_timeout);
        if complete {
            self.begin_update(now);
        }
    }

    /// A member wants to be in the epoch: now, or after the round that is under way.
    pub(super) fn sync_request(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Active(_) => self.arm(now, Duration::ZERO),
            Phase::Exchange(exchange) => exchange.again = true,
            Phase::Update(update) => update.again = true,
            _ => {}
        }
    }
}
