//! Configuration changes and the synchronisation after each: which service does what, when.

use std::{collections::BTreeSet, time::Instant};

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use super::{
    Stack,
    clients::Position,
    external::{Answer, Step},
    io::Output,
};
use crate::{
    cmap, cpg,
    feature::Agreed,
    service::{CMAP, CPG, FEATURES, ServiceMessage},
    srp::{self, ConfigurationChange, Guarantee, Phase},
};

impl Stack {
    pub(super) fn change_configuration(&mut self, change: ConfigurationChange) {
        match &change {
            ConfigurationChange::Transitional { ring, members, left } => {
                self.leave_configuration(*ring, members, left);
            }
            ConfigurationChange::Regular { ring, members, joined } => {
                if !joined.is_empty() {
                    self.assembler.nodes_joined();
                    self.cpg.nodes_joined();
                }
                self.install(*ring, members);
            }
        }
        self.outputs.push_back(Output::Configuration(change.clone()));
        match &change {
            ConfigurationChange::Transitional { ring, members, .. } => {
                self.clients.transitional(*ring, members, &mut self.outputs);
            }
            ConfigurationChange::Regular { ring, members, .. } => {
                self.clients.regular(*ring, members, &mut self.outputs);
                self.start_sync(*ring);
            }
        }
    }

    /// What runs is given up; messages still to come belong to the old configuration.
    fn leave_configuration(&mut self, ring: RingId, members: &[NodeId], left: &[NodeId]) {
        tracing::debug!(%ring, ?members, ?left, "transitional configuration");
        for node in left {
            self.assembler.forget(*node);
        }
        if self.sync.abort() {
            self.cpg.abort_sync();
            self.externals.abort_sync(&mut self.outputs);
        }
        self.transitional = members.iter().copied().collect();
    }

    fn install(&mut self, ring: RingId, members: &[NodeId]) {
        tracing::debug!(%ring, ?members, "regular configuration");
        self.waiting = true;
        self.outbox.begin_sync();
        self.members = members.to_vec();
        self.transitional.retain(|node| members.contains(node));
        self.cmap.retain_members(members);
    }

    fn start_sync(&mut self, ring: RingId) {
        self.cpg.start_sync(&self.transitional, &self.members);
        self.features.start_sync(ring, &self.members);
        let mut own = self.externals.start_sync(ring, &self.members, &self.transitional, &mut self.outputs);
        if self.features.takes_part() {
            own.insert(FEATURES);
        }
        let list = self.sync.start(ring, &self.members, &own);
        self.stage_sync(list);
    }

    /// One process step of the current service, at most one per token.
    pub(super) fn step(&mut self, now: Instant) {
        let Some(service) = self.sync.step_due() else {
            return;
        };
        let messages = match u16::try_from(service) {
            Ok(CMAP) => vec![self.cmap.announcement(cmap::Reason::Sync)],
            Ok(CPG) => self.cpg.sync_messages(),
            Ok(FEATURES) => self.features.announcement().into_iter().collect(),
            Ok(service) => match self.externals.step(service, now) {
                Step::Send(messages) => messages,
                Step::Wait => return,
            },
            Err(_) => Vec::new(),
        };
        for message in messages {
            self.stage(Phase::Transitional, message, Bytes::new(), Guarantee::Agreed);
        }
        let barrier = self.sync.step_done();
        self.stage_sync(barrier);
    }

    /// The service that is awaited has answered or is gone.
    pub(super) fn step_if_awaited(&mut self, now: Instant) {
        if self.externals.deadline().is_some() {
            self.step(now);
        }
    }

    pub(super) fn handle_sync_messages(
        &mut self,
        now: Instant,
        service: u16,
        ring: RingId,
        messages: Vec<Bytes>,
    ) {
        match self.externals.answer(service, ring, messages) {
            Answer::Kept { due: true } => self.step(now),
            Answer::Kept { due: false } => {}
            Answer::Late(messages) => {
                for message in messages {
                    self.stage(Phase::Normal, message, Bytes::new(), Guarantee::Agreed);
                }
            }
            Answer::Outdated => tracing::debug!(service, %ring, "synchronisation answer for another ring"),
        }
    }

    /// All members have passed the barrier of a service.
    pub(super) fn activate(&mut self, now: Instant, at: Position, service: i32, last: bool) {
        match u16::try_from(service) {
            Ok(CPG) => {
                let mut changed = BTreeSet::new();
                for event in self.cpg.activate() {
                    if let cpg::Event::Membership(change) = &event {
                        changed.insert(change.group.clone());
                    }
                    self.clients.deliver(at, event, &mut self.outputs);
                }
                self.clients.confirm_members(at, &changed, self.cpg.table(), &mut self.outputs);
            }
            Ok(FEATURES) if self.features.takes_part() => {
                let agreed = self.features.activate();
                self.take_up(now, at.ring, agreed);
            }
            Ok(service) => self.externals.activate(service, &mut self.outputs),
            Err(_) => {}
        }
        if last {
            self.complete(now, at.ring);
        }
    }

    /// A member announces what it can do.
    pub(super) fn note_features(
        &mut self,
        now: Instant,
        at: Position,
        from: NodeId,
        message: &ServiceMessage,
    ) {
        match self.features.accept(from, message.function, &message.bytes) {
            Ok(Some(agreed)) => self.take_up(now, at.ring, agreed),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%from, %error, "announcement of features ignored");
                self.stats.malformed += 1;
            }
        }
    }

    /// All members have this in common from here on.
    fn take_up(&mut self, now: Instant, ring: RingId, agreed: Agreed) {
        let on = agreed.has_fast_detection();
        tracing::info!(%ring, level = agreed.level, fast_detection = on, "features of the ring");
        self.outputs.push_back(Output::FeaturesAgreed { ring, agreed });
        self.ring.handle_input(now, srp::Input::SetFast { ring, on });
    }

    /// The synchronisation is complete: ordinary messages flow again.
    ///
    /// When the ring has already moved on to another configuration, whose change is among the
    /// outputs that wait, that one's synchronisation will end the pause instead.
    fn complete(&mut self, now: Instant, ring: RingId) {
        self.waiting = false;
        self.outputs.push_back(Output::SyncCompleted { ring, members: self.members.clone() });
        let moved_on = self.from_ring.iter().any(|output| matches!(output, srp::Output::Configuration(_)));
        if !moved_on {
            self.ring.handle_input(now, srp::Input::TransitionalAck);
            self.outbox.touch();
        }
    }
}
