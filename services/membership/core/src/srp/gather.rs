//! Gather: nodes exchange joins until all of them propose the same members.

use std::{cmp::Ordering, collections::BTreeSet};

use quorate_types::{NodeId, RingId};
use tracing::debug;

use super::{
    Destination, Drop, OwnCopy, Reason, Ring, State,
    message::{Mcast, MembJoin, MembMergeDetect, PROCESSORS_MAX},
    timer::Timer,
};

/// What only a gathering needs.
#[derive(Debug)]
pub(super) struct Gather {
    /// Nodes whose join had the same lists as ours.
    consensus: BTreeSet<NodeId>,
}

impl Ring {
    /// Begins to gather, or begins again with changed lists. Source: Totem specification 4.1.
    pub(super) fn enter_gather(&mut self, reason: Reason) {
        self.proc_list.insert(self.me);
        let gather = Gather { consensus: BTreeSet::from([self.me]) };
        if let State::Recovery(recovery) = self.change_state(State::Gather(gather), reason) {
            // The new ring was never installed here: go on from the old one, with what was recovered. Others
            // may have installed it and delivered these messages, counting on this node to do so, too.
            // Differs: corosync forgets them.
            let mut old = recovery.old;
            self.unpack_recovered(&mut old);
            self.order = old;
        }
        self.keep_pace();
        self.rotation.forget_token();
        self.cancel_timers(&[
            Timer::Token,
            Timer::Heartbeat,
            Timer::TokenWarning,
            Timer::TokenRetransmit,
            Timer::TokenHold,
            Timer::OwnToken,
            Timer::Merge,
        ]);
        self.announce_join();
        self.set_timer(Timer::Join, self.pace.join);
        self.set_timer(Timer::Consensus, self.pace.consensus);
    }

    /// The join timer: the last join may be lost.
    pub(super) fn repeat_join(&mut self) {
        if matches!(self.state, State::Gather(_)) {
            self.announce_join();
            self.set_timer(Timer::Join, self.pace.join);
        }
    }

    fn announce_join(&mut self) {
        if self.pace.send_join.is_zero() {
            self.send_join();
        } else if !self.timers.is_set(Timer::SendJoin) {
            let delay = self.chance.up_to(self.pace.send_join);
            self.set_timer(Timer::SendJoin, delay);
        }
    }

    /// Sends a join with the lists as they are now, if still gathering.
    pub(super) fn send_join(&mut self) {
        if !matches!(self.state, State::Gather(_)) {
            return;
        }
        let join = MembJoin {
            nodeid: Some(self.me),
            target_nodeid: 0,
            system_from: self.me,
            ring_seq: self.ring_id.seq,
            proc_list: self.proc_list.iter().copied().collect(),
            failed_list: self.failed_list.iter().copied().collect(),
        };
        self.stats.memb_join.tx += 1;
        self.send(Destination::All, join.encode());
        self.own_copies.push_back(OwnCopy::Join(join));
    }

    /// Tells all that this node leaves: a join without node id whose failed list ends with it.
    pub(super) fn send_leave(&mut self) {
        let me = self.me;
        let others = |list: &BTreeSet<NodeId>| list.iter().copied().filter(|n| *n != me).collect::<Vec<_>>();
        let mut failed_list = others(&self.failed_list);
        failed_list.push(me);
        let leave = MembJoin {
            nodeid: None,
            target_nodeid: 0,
            system_from: me,
            ring_seq: self.ring_id.seq,
            proc_list: others(&self.proc_list),
            failed_list,
        };
        self.stats.memb_join.tx += 1;
        self.send(Destination::All, leave.encode());
    }

    /// A join or leave. Source: Totem specification 4.2.
    pub(super) fn handle_join(&mut self, join: &MembJoin) {
        if self.joins_ignored_until.is_some_and(|until| self.now() < until) && join.system_from != self.me {
            return self.drop_packet(Drop::JoinAfterPause);
        }
        self.token_ring_id_seq = self.token_ring_id_seq.max(join.ring_seq);
        if !self.concerns_this_state(join) {
            return self.drop_packet(Drop::StaleJoin);
        }
        if self.merge_lists(join) || !matches!(self.state, State::Gather(_)) {
            let reason = if join.is_leave() { Reason::LeaveReceived } else { Reason::JoinReceived };
            self.enter_gather(reason);
        }
        // Differs: corosync forgets this join when it enters gather and waits for its repetition.
        // To look at it again is what a duplicated datagram would do, and saves a join interval.
        self.count_consensus(join);
    }

    fn concerns_this_state(&self, join: &MembJoin) -> bool {
        let from = join.system_from;
        let seq = join.ring_seq.cmp(&self.ring_id.seq);
        match &self.state {
            State::Stopped => false,
            State::Operational => {
                let outdated = self.members.contains(&from) && seq == Ordering::Less;
                !outdated && !join.failed_list.contains(&self.me)
            }
            State::Gather(_) => true,
            State::Commit(commit) => commit.members().contains(&from) && seq != Ordering::Less,
            State::Recovery(recovery) => recovery.members.contains(&from) && seq != Ordering::Less,
        }
    }

    /// Takes over what a join knows and this node does not; true if the lists changed.
    fn merge_lists(&mut self, join: &MembJoin) -> bool {
        let from = join.system_from;
        let proc_known = join.proc_list.iter().all(|n| self.proc_list.contains(n));
        let failed_known = join.failed_list.iter().all(|n| self.failed_list.contains(n));
        if (proc_known && failed_known) || self.failed_list.contains(&from) {
            return false;
        }
        let before = (self.proc_list.len(), self.failed_list.len());
        let room = |mine: &BTreeSet<NodeId>, theirs: &[NodeId]| {
            mine.len() + theirs.iter().filter(|n| !mine.contains(n)).count() <= PROCESSORS_MAX
        };
        if !room(&self.proc_list, &join.proc_list) || !room(&self.failed_list, &join.failed_list) {
            self.drop_packet(Drop::TooLong);
            return false;
        }
        self.proc_list.extend(&join.proc_list);
        if join.failed_list.contains(&self.me) {
            self.proc_list.insert(from);
            self.failed_list.insert(from);
        } else if self.members.contains(&from) {
            // Strangers are not believed.
            self.failed_list.extend(&join.failed_list);
        }
        before != (self.proc_list.len(), self.failed_list.len())
    }

    fn count_consensus(&mut self, join: &MembJoin) {
        let same = |list: &[NodeId], mine: &BTreeSet<NodeId>| {
            list.iter().all(|n| mine.contains(n)) && mine.iter().all(|n| list.contains(n))
        };
        if !same(&join.proc_list, &self.proc_list) || !same(&join.failed_list, &self.failed_list) {
            return;
        }
        let State::Gather(gather) = &mut self.state else { return };
        if !join.is_leave() {
            gather.consensus.insert(join.system_from);
        }
        if !self.is_agreed() {
            return;
        }
        if self.failed_to_recv {
            self.failed_to_recv = false;
            self.proc_list = BTreeSet::from([self.me]);
            self.failed_list.clear();
            self.create_commit_token();
        } else if self.candidates().next() == Some(self.me) {
            self.create_commit_token();
        }
    }

    /// The members of the next ring as proposed now, ascending.
    pub(super) fn candidates(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.proc_list.difference(&self.failed_list).copied()
    }

    fn is_agreed(&self) -> bool {
        match &self.state {
            State::Gather(gather) => self.candidates().all(|n| gather.consensus.contains(&n)),
            _ => false,
        }
    }

    /// Time is up: who did not agree counts as failed; if all did, the commit token must come.
    pub(super) fn handle_consensus_timeout(&mut self) {
        let agreed = self.is_agreed();
        let State::Gather(gather) = &mut self.state else { return };
        if agreed {
            gather.consensus = BTreeSet::from([self.me]);
            // The others may be storing the ring id: their disks have the configured time for it.
            self.set_timer(Timer::Token, self.params.token);
            return;
        }
        let silent: Vec<NodeId> = self.proc_list.difference(&gather.consensus).copied().collect();
        debug!(me = %self.me, ?silent, "no consensus in time");
        self.failed_list.extend(silent);
        self.stats.consensus_timeouts += 1;
        self.enter_gather(Reason::ConsensusTimeout);
    }

    /// All agreed, but the representative sent no commit token.
    pub(super) fn handle_commit_token_loss(&mut self) {
        let agreed = self.is_agreed();
        self.handle_consensus_timeout();
        if agreed {
            self.enter_gather(Reason::CommitTokenLost);
        }
    }

    /// A message of another ring: its sender is somebody to gather with.
    pub(super) fn handle_foreign_mcast(&mut self, mcast: &Mcast) {
        self.meet_stranger(mcast.system_from, mcast.ring_id, Reason::ForeignMessage);
    }

    /// Another ring announced itself.
    pub(super) fn handle_merge_detect(&mut self, detect: &MembMergeDetect) {
        if detect.ring_id != self.ring_id {
            self.meet_stranger(detect.system_from, detect.ring_id, Reason::MergeDetected);
        }
    }

    /// Differs: a late copy from before this configuration, sent by one of its members, is dropped;
    /// in corosync it breaks the ring.
    fn meet_stranger(&mut self, stranger: NodeId, ring: RingId, reason: Reason) {
        let wanted = match &self.state {
            State::Operational => !(self.members.contains(&stranger) && ring.seq < self.ring_id.seq),
            State::Gather(_) => !self.proc_list.contains(&stranger),
            State::Stopped | State::Commit(_) | State::Recovery(_) => false,
        };
        if !wanted || self.proc_list.len() >= PROCESSORS_MAX {
            return self.drop_packet(Drop::ForeignMessage);
        }
        self.proc_list.insert(stranger);
        self.enter_gather(reason);
    }
}
