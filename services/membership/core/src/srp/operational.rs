//! Operational: messages are queued, received and delivered on an installed ring.

use bytes::Bytes;

use super::{
    Delivery, Destination, Drop, Guarantee, Output, Phase, Queued, Ring, State,
    message::{Mcast, MembMergeDetect},
    order::Stored,
    timer::Timer,
};

impl Ring {
    /// Takes a packet of the packing layer into its send queue.
    pub(super) fn queue(&mut self, payload: Bytes, phase: Phase, guarantee: Guarantee) {
        if self.queue_room(phase) == 0 {
            return self.drop_packet(Drop::QueueFull);
        }
        let queued = Queued { payload, guarantee };
        match phase {
            Phase::Normal => self.normal_queue.push_back(queued),
            Phase::Transitional => self.transitional_queue.push_back(queued),
        }
        if (phase == Phase::Transitional) == self.waiting_trans_ack {
            self.cancel_token_hold();
        }
    }

    /// Synchronisation has finished: the normal queue has its turn.
    pub(super) fn end_transition(&mut self) {
        self.waiting_trans_ack = false;
        if !self.normal_queue.is_empty() {
            self.cancel_token_hold();
        }
    }

    /// A message arrived. Source: Totem specification 3.1.
    ///
    /// Differs: a recovery copy is taken in recovery only, any other message outside of it only, so
    /// that a late packet of an attempt that failed never reaches the messages of the old ring.
    pub(super) fn handle_mcast(&mut self, mcast: Mcast, raw: Bytes) {
        if mcast.ring_id != self.ring_id {
            return self.handle_foreign_mcast(&mcast);
        }
        let wanted = match &self.state {
            State::Operational => true,
            State::Gather(_) => self.order.ring_id == self.ring_id,
            State::Recovery(_) => mcast.encapsulated,
            State::Stopped | State::Commit(_) => false,
        };
        if !wanted {
            return self.drop_packet(Drop::WrongState);
        }
        if !self.is_from_member(&mcast) {
            return self.drop_packet(Drop::ForeignMessage);
        }
        if let Err(reason) = self.order.receive(Stored { raw, mcast }) {
            return self.drop_packet(reason);
        }
        if matches!(self.state, State::Operational) {
            self.deliver_contiguous();
        }
    }

    /// Whether originator and sender are in the ring that the message claims to belong to: layers above keep something
    /// for every originator, so their number must be bounded.
    ///
    /// Differs: corosync takes any originator.
    fn is_from_member(&self, mcast: &Mcast) -> bool {
        let members = match &self.state {
            State::Recovery(recovery) => &recovery.members,
            _ => &self.members,
        };
        members.contains(&mcast.nodeid) && members.contains(&mcast.system_from)
    }

    /// Delivers in order until a message is missing.
    pub(super) fn deliver_contiguous(&mut self) {
        while let Some(stored) = self.order.deliver_next() {
            let stored = stored.clone();
            self.deliver(&stored);
        }
    }

    /// Hands one message upward. A recovery copy has done its work when its ring was installed.
    pub(super) fn deliver(&mut self, stored: &Stored) {
        let mcast = &stored.mcast;
        if mcast.encapsulated {
            return;
        }
        self.stats.delivered += 1;
        self.outputs.push_back(Output::Deliver(Delivery {
            ring: mcast.ring_id,
            seq: mcast.seq,
            origin: mcast.nodeid,
            guarantee: mcast.guarantee(),
            payload: mcast.payload.clone(),
        }));
    }

    /// The merge timer: an idle ring tells other rings that it is there.
    pub(super) fn announce_ring(&mut self) {
        if !matches!(self.state, State::Operational) || !self.is_representative() {
            return;
        }
        let detect = MembMergeDetect {
            nodeid: self.me,
            target_nodeid: 0,
            system_from: self.me,
            ring_id: self.ring_id,
        };
        self.stats.memb_merge_detect.tx += 1;
        self.send(Destination::All, detect.encode());
    }

    /// An idle token starts the merge timer, a busy one stops it.
    pub(super) fn note_merge_timer(&mut self, idle: bool) {
        if !idle {
            self.timers.cancel(Timer::Merge);
        } else if !self.timers.is_set(Timer::Merge) {
            self.set_timer(Timer::Merge, self.params.merge);
        }
    }
}
