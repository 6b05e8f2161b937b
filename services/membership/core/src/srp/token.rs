//! The token visit, the same in recovery and operational, and the token of an idle ring.

use std::time::Duration;

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use super::{
    Destination, Drop, Output, OwnCopy, Reason, Ring, State, StateName,
    message::{Mcast, OrfToken, TokenHoldCancel},
    order::{Stored, seq_le, seq_lt, seq_min},
    params::WINDOW_SEQS,
    timer::Timer,
};

/// The least time that an idle token is held while retransmissions are asked for.
const HOLD_FOR_RETRANSMIT_MIN: Duration = Duration::from_millis(10);

/// What a node remembers from one visit to the next, and where the token is.
#[derive(Debug)]
pub(super) struct Rotation {
    /// The sequence of the last token handled (my_token_seq).
    token_seq: u32,
    /// The aru of the last token as it arrived.
    pub(super) last_aru: u32,
    last_seq: u32,
    idle_visits: u32,
    aru_unchanged: u32,
    token_held: bool,
    visited: bool,
    whereabouts: Whereabouts,
}

/// Where the token is, as far as this node knows.
#[derive(Debug)]
enum Whereabouts {
    /// Never seen on this ring, or lost.
    Unknown,
    /// Sent on; the copy is sent again if no later token comes.
    Passed { to: NodeId, packet: Bytes },
    /// Kept, as the representative of an idle ring.
    Kept(OrfToken),
    /// On the way to ourselves, the only member.
    Own(OrfToken),
}

impl Rotation {
    /// Before the first token of a ring.
    pub(super) fn new(initial_seq: u32) -> Self {
        Self {
            token_seq: initial_seq.wrapping_sub(1),
            last_aru: initial_seq,
            last_seq: initial_seq,
            idle_visits: 0,
            aru_unchanged: 0,
            token_held: false,
            visited: false,
            whereabouts: Whereabouts::Unknown,
        }
    }

    /// The token is here.
    pub(super) fn has_token(&self) -> bool {
        matches!(self.whereabouts, Whereabouts::Kept(_) | Whereabouts::Own(_))
    }

    /// The ring is idle: the representative keeps the token between rotations.
    pub(super) fn is_held(&self) -> bool {
        self.token_held
    }

    /// Nothing is sent again any more.
    pub(super) fn forget_token(&mut self) {
        self.token_held = false;
        self.whereabouts = Whereabouts::Unknown;
    }

    /// Keeps a copy of what was sent on.
    pub(super) fn remember(&mut self, to: NodeId, packet: Bytes) {
        self.whereabouts = Whereabouts::Passed { to, packet };
    }

    fn take_token(&mut self) -> Option<OrfToken> {
        match std::mem::replace(&mut self.whereabouts, Whereabouts::Unknown) {
            Whereabouts::Kept(token) | Whereabouts::Own(token) => Some(token),
            other => {
                self.whereabouts = other;
                None
            }
        }
    }
}

impl Ring {
    /// A token arrived. Source: Totem specification 3.2, in its order of actions.
    pub(super) fn handle_orf_token(&mut self, mut token: OrfToken) {
        if let Err(reason) = self.check_token(&token) {
            return self.drop_packet(reason);
        }
        let same_ring = std::mem::replace(&mut self.rotation.visited, true);
        self.stats.count_token(self.now(), same_ring);
        let keep = self.note_idle(token.seq);
        let token_aru = token.aru;
        let last_aru = std::mem::replace(&mut self.rotation.last_aru, token_aru);
        if matches!(self.state, State::Operational) {
            self.order.release(token_aru, last_aru);
        }
        let keep = self.send_on_visit(&mut token, keep);
        self.lower_aru(&mut token);
        if self.has_failed_to_receive(&token, last_aru) {
            self.failed_list.insert(self.me);
            self.failed_to_recv = true;
            return self.enter_gather(Reason::FailedToReceive);
        }
        self.rotation.token_seq = token.token_seq;
        token.token_seq = token.token_seq.wrapping_add(1);
        self.recover_on_visit(&mut token);
        token.nodeid = self.me;
        if keep {
            self.keep_token(token);
        } else {
            self.pass_on(token);
        }
        self.restart_token_timers();
        if matches!(self.state, State::Operational) {
            self.deliver_contiguous();
            self.announce_safe(seq_min(token_aru, last_aru));
        }
        self.outputs.push_back(Output::TokenSent);
    }

    fn check_token(&self, token: &OrfToken) -> Result<(), Drop> {
        match self.state.name() {
            StateName::Operational | StateName::Recovery => {}
            StateName::Stopped | StateName::Gather | StateName::Commit => return Err(Drop::WrongState),
        }
        if token.ring_id != self.ring_id {
            return Err(Drop::ForeignRing);
        }
        if seq_le(token.token_seq, self.rotation.token_seq) {
            return Err(Drop::DuplicateToken);
        }
        Ok(())
    }

    /// Counts idle visits; true if this node is to keep the token for a while.
    ///
    /// Differs: copies of a token and tokens of other rings are not counted.
    fn note_idle(&mut self, token_seq: u32) -> bool {
        let idle = token_seq == self.rotation.last_seq;
        self.note_merge_timer(idle);
        self.timers.cancel(Timer::TokenHold);
        self.rotation.last_seq = token_seq;
        self.rotation.idle_visits = if idle { self.rotation.idle_visits.saturating_add(1) } else { 0 };
        let most = self.params.seqno_unchanged_const;
        let representative = self.is_representative();
        self.rotation.token_held =
            self.rotation.idle_visits > most || (!representative && self.rotation.idle_visits == most);
        representative && self.rotation.token_held
    }

    /// Retransmissions, then requests, then new messages; returns whether to keep the token.
    fn send_on_visit(&mut self, token: &mut OrfToken, keep: bool) -> bool {
        let backlog = self.backlog();
        self.stats.backlog = token.backlog;
        let mut allowed = self.flow.allowed(token, backlog, &self.params);
        let retransmitted = self.serve_requests(token, allowed);
        allowed -= retransmitted;
        let window_end = token.seq;
        self.order.request_missing(window_end, self.params.miss_count_const, &mut token.rtr);
        let mut keep = keep;
        if self.params.cancel_token_hold_on_retransmit && (retransmitted > 0 || !token.rtr.is_empty()) {
            self.rotation.token_held = false;
            keep = false;
        }
        let sent = self.send_queued(token, allowed);
        self.flow.settle(token, retransmitted + sent);
        keep
    }

    fn serve_requests(&mut self, token: &mut OrfToken, allowed: u32) -> u32 {
        let mut count = 0;
        let (order, outputs, ring_id) = (&self.order, &mut self.outputs, self.ring_id);
        token.rtr.retain(|item| {
            if count >= allowed || item.ring_id != ring_id {
                return true;
            }
            let Some(stored) = order.get(item.seq) else { return true };
            outputs.push_back(Output::Send { to: Destination::All, packet: stored.raw.clone() });
            count += 1;
            false
        });
        self.stats.mcast_retx += u64::from(count);
        count
    }

    fn backlog(&self) -> u32 {
        let packets = match &self.state {
            State::Recovery(recovery) => recovery.backlog(),
            _ if self.waiting_trans_ack => self.transitional_queue.len(),
            _ => self.normal_queue.len(),
        };
        u32::try_from(packets).unwrap_or(u32::MAX)
    }

    /// Gives numbers to waiting messages and sends them.
    fn send_queued(&mut self, token: &mut OrfToken, allowed: u32) -> u32 {
        let room = WINDOW_SEQS.wrapping_sub(allowed).wrapping_sub(self.params.window_size);
        if seq_lt(self.order.last_released.wrapping_add(room), token.seq) {
            return 0;
        }
        let mut sent = 0;
        while sent < allowed && self.order.in_window(token.seq.wrapping_add(1)) {
            let Some(mcast) = self.next_to_send(token.seq.wrapping_add(1)) else { break };
            token.seq = mcast.seq;
            let raw = mcast.encode();
            if let Err(reason) = self.order.receive(Stored { raw: raw.clone(), mcast }) {
                // Somebody else's message has this number: a broken peer. Ours goes out as well.
                self.drop_packet(reason);
            }
            self.stats.mcast.tx += 1;
            self.send(Destination::All, raw);
            sent += 1;
        }
        sent
    }

    fn next_to_send(&mut self, seq: u32) -> Option<Mcast> {
        let (payload, encapsulated, guarantee) = match &mut self.state {
            State::Recovery(recovery) => {
                let payload = recovery.next_to_send()?;
                self.stats.recovered_tx += 1;
                (payload, true, 0)
            }
            _ => {
                let transitional = self.waiting_trans_ack;
                let queue = if transitional { &mut self.transitional_queue } else { &mut self.normal_queue };
                let queued = queue.pop_front()?;
                (queued.payload, false, queued.guarantee as u32)
            }
        };
        let this_seqno = self.this_seqno;
        self.this_seqno = this_seqno.wrapping_add(1);
        Some(Mcast {
            nodeid: self.me,
            target_nodeid: 0,
            encapsulated,
            system_from: self.me,
            seq,
            this_seqno,
            ring_id: self.ring_id,
            node_id: 0,
            guarantee,
            payload,
        })
    }

    /// The token's aru never exceeds what this node has; who lowered it raises it again.
    fn lower_aru(&mut self, token: &mut OrfToken) {
        let aru = self.order.aru;
        let me = self.me.get();
        if seq_lt(aru, token.aru) || token.aru_addr == me || token.aru_addr == 0 {
            token.aru = aru;
            token.aru_addr = if aru == token.seq { 0 } else { me };
        }
    }

    fn has_failed_to_receive(&mut self, token: &OrfToken, last_aru: u32) -> bool {
        let stuck = token.aru == last_aru && token.aru_addr != 0;
        self.rotation.aru_unchanged = if stuck { self.rotation.aru_unchanged.saturating_add(1) } else { 0 };
        self.rotation.aru_unchanged > self.params.fail_recv_const && token.aru_addr == self.me.get()
    }

    fn announce_safe(&mut self, aru: u32) {
        let safe = seq_min(aru, self.order.high_delivered);
        if seq_lt(self.order.safe, safe) {
            self.order.safe = safe;
            self.outputs.push_back(Output::SafeUpTo { ring: self.ring_id, seq: safe });
        }
    }

    /// Sends the token to the next member; on a ring of one it comes back with the next timer.
    pub(super) fn pass_on(&mut self, mut token: OrfToken) {
        self.stats.orf_token.tx += 1;
        let to = match &self.state {
            State::Recovery(recovery) => self.next_in(&recovery.commit_token.members),
            _ => self.next_member(),
        };
        if to == self.me {
            self.rotation.whereabouts = Whereabouts::Own(token);
            self.set_timer(Timer::OwnToken, Duration::ZERO);
        } else {
            // For knet, which routes by it; elsewhere the field has no meaning.
            token.target_nodeid = to.get();
            let packet = token.encode();
            self.send(Destination::Node(to), packet.clone());
            self.rotation.remember(to, packet);
        }
    }

    fn next_member(&self) -> NodeId {
        let after = self.members.range(self.me..).nth(1).or(self.members.first());
        *after.expect("this node is a member of its own ring")
    }

    /// Differs: while messages are missing an idle token is held for a tenth of the time, so that
    /// they arrive soon and the token still does not spin.
    fn keep_token(&mut self, token: OrfToken) {
        let hold = if token.rtr.is_empty() {
            self.pace.hold
        } else {
            (self.pace.hold / 10).max(HOLD_FOR_RETRANSMIT_MIN)
        };
        self.rotation.whereabouts = Whereabouts::Kept(token);
        self.set_timer(Timer::TokenHold, hold);
    }

    /// The hold is over: send what came up meanwhile, and pass the token on.
    ///
    /// Differs: corosync passes it on as it was, so that a message of the representative waits for
    /// one more rotation. Nobody else has seen this token, so the visit may as well go on.
    pub(super) fn let_token_go(&mut self) {
        let Some(mut token) = self.rotation.take_token() else { return };
        self.timers.cancel(Timer::TokenHold);
        if matches!(self.state, State::Operational) {
            let backlog = self.backlog();
            if backlog > 0 {
                let allowed = self.flow.allowed(&token, backlog, &self.params);
                let sent = self.send_queued(&mut token, allowed);
                self.flow.settle(&mut token, sent);
                self.lower_aru(&mut token);
            }
        }
        self.pass_on(token);
        if matches!(self.state, State::Operational) {
            self.deliver_contiguous();
        }
    }

    /// The token of a ring of one has come round.
    pub(super) fn take_own_token(&mut self) {
        if let Some(token) = self.rotation.take_token() {
            self.stats.orf_token.rx += 1;
            self.handle_orf_token(token);
        }
    }

    /// No later token came: send the last one, or the commit token, again.
    pub(super) fn retransmit_token(&mut self) {
        match (&self.state, &self.rotation.whereabouts) {
            (State::Commit(_), _) => self.retransmit_commit_token(),
            (State::Recovery(_) | State::Operational, Whereabouts::Passed { to, packet }) => {
                let (to, packet) = (Destination::Node(*to), packet.clone());
                self.stats.token_retx += 1;
                self.send(to, packet);
            }
            (State::Recovery(_) | State::Operational, Whereabouts::Kept(_)) => self.let_token_go(),
            _ => return,
        }
        self.set_timer(Timer::TokenRetransmit, self.pace.token_retransmit);
    }

    /// Something waits to be sent: an idle ring must turn again.
    pub(super) fn cancel_token_hold(&mut self) {
        if !self.rotation.token_held {
            return;
        }
        match &self.rotation.whereabouts {
            // With the next timer, so that all that is queued now leaves together.
            Whereabouts::Kept(_) => self.set_timer(Timer::TokenHold, Duration::ZERO),
            // It comes with the next timer anyway.
            Whereabouts::Own(_) => self.rotation.idle_visits = 0,
            Whereabouts::Unknown => {}
            Whereabouts::Passed { .. } => {
                self.rotation.token_held = false;
                self.stats.token_hold_cancel.tx += 1;
                let cancel = TokenHoldCancel { nodeid: self.me, target_nodeid: 0, ring_id: self.ring_id };
                self.send(Destination::All, cancel.encode());
                self.own_copies.push_back(OwnCopy::HoldCancel(self.ring_id));
            }
        }
    }

    /// Somebody has something to send.
    ///
    /// Differs: a representative that does not keep the token does not send a second copy of it.
    pub(super) fn handle_hold_cancel(&mut self, ring_id: RingId) {
        if !matches!(self.state, State::Operational | State::Recovery(_)) || ring_id != self.ring_id {
            return self.drop_packet(Drop::ForeignRing);
        }
        self.rotation.idle_visits = 0;
        if matches!(self.rotation.whereabouts, Whereabouts::Kept(_)) {
            self.let_token_go();
        }
    }

    /// A token or commit token was accepted: the ring is alive.
    pub(super) fn restart_token_timers(&mut self) {
        let storing = matches!(self.state, State::Commit(_));
        self.set_timer(Timer::Token, if storing { self.params.token } else { self.pace.token });
        self.set_timer(Timer::TokenRetransmit, self.pace.token_retransmit);
        match self.pace.token_warning {
            Some(after) => self.set_timer(Timer::TokenWarning, after),
            None => self.timers.cancel(Timer::TokenWarning),
        }
        match self.pace.heartbeat {
            Some(after) => self.set_timer(Timer::Heartbeat, after),
            None => self.timers.cancel(Timer::Heartbeat),
        }
    }
}
