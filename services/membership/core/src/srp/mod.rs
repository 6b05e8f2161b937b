//! The Totem single ring protocol: who is a member, and in which order all members see all
//! messages. Speaks the packets of corosync 3.1.
//!
//! A [`Ring`] is one node. It moves between four states, one file each:
//!
//! ```text
//!            token lost, join, foreign message, merge detect
//!   operational ------------------------------------> gather <--+ consensus timeout, join
//!        ^                                              |  ^  \-+
//!        | all recovered                      consensus |  | token lost, join
//!        |                                              v  |
//!     recovery <------------------------------------- commit
//!               commit token came round complete
//! ```
//!
//! - `operational.rs` messages and configurations are delivered
//! - `gather.rs` joins are exchanged until all agree on the members
//! - `commit.rs` the commit token collects what each member has
//! - `recovery.rs` messages of the old ring are exchanged on the new ring
//! - `token.rs` the token visit, the same in recovery and operational; holding the token
//! - `order.rs`, `flow.rs`, `timer.rs` the window of messages, flow control, the timer table
//! - `pace.rs` how soon a loss is noticed: the configured timers and the fast ones
//! - `message.rs` the packets; `io.rs`, `params.rs`, `stats.rs` what crosses the border
//!
//! Source: Totem specification, sections 1 to 5; Amir et al., *The Totem single-ring ordering and
//! membership protocol*, ACM TOCS 13(4), 1995. Where the ring differs from corosync, a line that
//! starts with `Differs:` says so.

mod commit;
mod flow;
mod gather;
mod io;
pub mod message;
mod operational;
mod order;
mod pace;
mod params;
mod recovery;
mod stats;
mod timer;
mod token;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_types::{NodeId, RingId};
use tracing::{debug, info, trace, warn};

use self::{
    commit::Commit,
    flow::Flow,
    gather::Gather,
    message::{MembCommitToken, MembJoin, Packet},
    order::Order,
    recovery::Recovery,
    timer::{Chance, Timer, Timers},
    token::Rotation,
};
pub use self::{
    io::{
        ConfigurationChange, Delivery, Destination, Guarantee, Input, Output, Phase, Reason, RingProgress,
        RingStatus, StateName,
    },
    order::{seq_le, seq_lt, seq_min},
    pace::Pace,
    params::{Params, ParamsError, TotemSettings},
    stats::{Drop, StateCount, Stats, Traffic},
};

/// One node's view of the ring: one input, then drain all outputs, in order.
#[derive(Debug)]
pub struct Ring {
    me: NodeId,
    params: Params,
    /// The timers in force.
    pace: Pace,
    chance: Chance,
    now: Option<Instant>,
    timers: Timers,
    outputs: VecDeque<Output>,
    own_copies: VecDeque<OwnCopy>,
    stats: Stats,

    state: State,
    /// The installed ring, or the highest that was tried since (my_ring_id).
    ring_id: RingId,
    /// The highest ring sequence that any node told of.
    token_ring_id_seq: u64,
    proc_list: BTreeSet<NodeId>,
    failed_list: BTreeSet<NodeId>,
    /// Members of the installed ring (my_memb_list).
    members: BTreeSet<NodeId>,
    /// Members of the installed ring that agreed to the fast timers and were not away since.
    fast_members: BTreeSet<NodeId>,
    /// This node cuts itself off at the next consensus.
    failed_to_recv: bool,
    joins_ignored_until: Option<Instant>,

    /// Messages of the installed ring; in recovery those of the new ring.
    order: Order,
    rotation: Rotation,
    flow: Flow,
    this_seqno: u32,
    waiting_trans_ack: bool,
    normal_queue: VecDeque<Queued>,
    transitional_queue: VecDeque<Queued>,
}

/// The membership state with what only it needs.
#[derive(Debug)]
enum State {
    Stopped,
    Operational,
    Gather(Gather),
    Commit(Box<Commit>),
    Recovery(Box<Recovery>),
}

impl State {
    fn name(&self) -> StateName {
        match self {
            Self::Stopped => StateName::Stopped,
            Self::Operational => StateName::Operational,
            Self::Gather(_) => StateName::Gather,
            Self::Commit(_) => StateName::Commit,
            Self::Recovery(_) => StateName::Recovery,
        }
    }
}

/// A packet that waits for the token.
#[derive(Debug)]
struct Queued {
    payload: Bytes,
    guarantee: Guarantee,
}

/// This node's copy of a packet that went to all, or to itself as the only member.
#[derive(Debug)]
enum OwnCopy {
    Join(MembJoin),
    HoldCancel(RingId),
    CommitToken(MembCommitToken),
}

impl Ring {
    /// A stopped ring of node `me`. `seed` feeds the random delays.
    #[must_use]
    pub fn new(me: NodeId, params: Params, seed: u64) -> Self {
        let ring_id = RingId::new(me, 0);
        Self {
            me,
            chance: Chance::new(seed),
            now: None,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            own_copies: VecDeque::new(),
            stats: Stats::default(),
            state: State::Stopped,
            ring_id,
            token_ring_id_seq: 0,
            proc_list: BTreeSet::new(),
            failed_list: BTreeSet::new(),
            members: BTreeSet::new(),
            fast_members: BTreeSet::new(),
            failed_to_recv: false,
            joins_ignored_until: None,
            order: Order::new(ring_id, params.initial_seq),
            rotation: Rotation::new(params.initial_seq),
            flow: Flow::default(),
            this_seqno: 0,
            waiting_trans_ack: true,
            normal_queue: VecDeque::new(),
            transitional_queue: VecDeque::new(),
            pace: Pace::configured(&params),
            params,
        }
    }

    /// What happened. `now` is the only clock that the ring has; it never goes back.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.notice_pause(now);
        match input {
            Input::Start { stored_ring_seq } => self.start(stored_ring_seq),
            Input::Datagram(datagram) => self.handle_datagram(datagram),
            Input::Timer => self.handle_timers(),
            Input::Multicast { payload, phase, guarantee } => self.queue(payload, phase, guarantee),
            Input::NewMessage => self.cancel_token_hold(),
            Input::TransitionalAck => self.end_transition(),
            Input::Stored { ring_seq } => self.handle_stored(ring_seq),
            Input::SetParams(params) => {
                self.params = params;
                self.keep_pace();
            }
            Input::SetFast { ring, on } => self.set_fast(ring, on),
            Input::Leave => self.leave(),
        }
        self.handle_own_copies();
    }

    /// What must be done. Call until it returns `None`, then wait for the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Packets that may still be queued in this phase.
    #[must_use]
    pub fn queue_room(&self, phase: Phase) -> usize {
        let used = match phase {
            Phase::Normal => self.normal_queue.len(),
            Phase::Transitional => self.transitional_queue.len(),
        };
        self.params.send_queue_packets_max().saturating_sub(used)
    }

    /// True when the token is at this node, so that a message multicast now leaves with the next
    /// [`Input::Timer`].
    ///
    /// A layer that stages messages until the token comes flushes them when this is true: directly
    /// after staging, and before each [`Input::Timer`]. On a ring of one node no token datagram
    /// ever arrives, so this is the only sign there.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.rotation.has_token()
    }

    /// What the ring looks like now.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        RingStatus {
            state: self.state.name(),
            ring: self.ring_id,
            members: self.members.iter().copied().collect(),
            gathering: self.proc_list.iter().copied().collect(),
            failed: self.failed_list.iter().copied().collect(),
            representative: self.is_representative(),
            aru: self.order.aru,
            high_seq_received: self.order.high_seq_received,
            high_delivered: self.order.high_delivered,
            backlog: self.normal_queue.len() + self.transitional_queue.len(),
            waiting_trans_ack: self.waiting_trans_ack,
            token_held: self.rotation.is_held(),
            pace: self.pace,
        }
    }

    /// How far the messages have come; cheap enough to be asked after every input.
    #[must_use]
    pub fn progress(&self) -> RingProgress {
        let Order { ring_id, aru, last_released, .. } = self.order;
        RingProgress { ring: ring_id, aru, released: last_released }
    }

    /// All counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn start(&mut self, stored_ring_seq: u64) {
        if self.token_ring_id_seq != 0 {
            return;
        }
        // A restarted node never uses a ring id again: the stored sequence was in use.
        let seq = stored_ring_seq.min(message::RING_SEQ_MAX) + 1;
        self.ring_id = RingId::new(self.me, seq);
        self.token_ring_id_seq = seq;
        self.order = Order::new(self.ring_id, self.params.initial_seq);
        self.set_timer(Timer::Pause, self.pace.token / 5);
        self.enter_gather(Reason::Started);
    }

    fn leave(&mut self) {
        if matches!(self.state, State::Stopped) {
            return;
        }
        self.send_leave();
        self.timers = Timers::default();
        self.rotation = Rotation::new(self.params.initial_seq);
        self.change_state(State::Stopped, Reason::Left);
    }

    fn handle_datagram(&mut self, datagram: Bytes) {
        if matches!(self.state, State::Stopped) {
            return self.drop_packet(Drop::WrongState);
        }
        match message::decode(&datagram) {
            Err(reason) => self.drop_packet(reason),
            Ok(packet) => self.handle_packet(packet, datagram),
        }
    }

    fn handle_packet(&mut self, packet: Packet, raw: Bytes) {
        match packet {
            Packet::OrfToken(token) => {
                self.stats.orf_token.rx += 1;
                self.handle_orf_token(token);
            }
            Packet::Mcast(mcast) => {
                self.stats.mcast.rx += 1;
                self.handle_mcast(mcast, raw);
            }
            Packet::MembMergeDetect(detect) => {
                self.stats.memb_merge_detect.rx += 1;
                self.handle_merge_detect(&detect);
            }
            Packet::MembJoin(join) => {
                self.stats.memb_join.rx += 1;
                self.handle_join(&join);
            }
            Packet::MembCommitToken(token) => {
                self.stats.memb_commit_token.rx += 1;
                self.handle_commit_token(token);
            }
            Packet::TokenHoldCancel(cancel) => {
                self.stats.token_hold_cancel.rx += 1;
                self.handle_hold_cancel(cancel.ring_id);
            }
        }
    }

    /// This node takes part in everything that it sends to all. Its own mcast and merge detect
    /// would be ignored, so only the rest comes back.
    fn handle_own_copies(&mut self) {
        while let Some(copy) = self.own_copies.pop_front() {
            match copy {
                OwnCopy::Join(join) if matches!(self.state, State::Gather(_)) => self.handle_join(&join),
                OwnCopy::Join(_) => {}
                OwnCopy::HoldCancel(ring_id) => self.handle_hold_cancel(ring_id),
                OwnCopy::CommitToken(token) => self.handle_commit_token(token),
            }
        }
    }

    fn handle_timers(&mut self) {
        let now = self.now();
        while let Some(timer) = self.timers.take_expired(now) {
            trace!(me = %self.me, ?timer, "timer");
            match timer {
                Timer::Token | Timer::Heartbeat => self.handle_token_loss(),
                Timer::TokenWarning => warn!(me = %self.me, ring = %self.ring_id, "no token for long"),
                Timer::TokenRetransmit => self.retransmit_token(),
                Timer::TokenHold => self.let_token_go(),
                Timer::OwnToken => {
                    self.take_own_token();
                    // One rotation per input, so that a ring of one never keeps its driver.
                    return;
                }
                Timer::Join => self.repeat_join(),
                Timer::SendJoin => self.send_join(),
                Timer::Consensus => self.handle_consensus_timeout(),
                Timer::Merge => self.announce_ring(),
                Timer::Pause => self.set_timer(Timer::Pause, self.pace.token / 5),
            }
            self.handle_own_copies();
        }
    }

    fn handle_token_loss(&mut self) {
        match &self.state {
            State::Stopped => {}
            State::Gather(_) => {
                self.stats.gather.token_lost += 1;
                self.handle_commit_token_loss();
            }
            State::Operational => {
                self.stats.operational.token_lost += 1;
                self.enter_gather(Reason::TokenLost);
            }
            State::Commit(_) => {
                self.stats.commit.token_lost += 1;
                self.enter_gather(Reason::TokenLost);
            }
            State::Recovery(_) => {
                self.stats.recovery.token_lost += 1;
                self.enter_gather(Reason::TokenLost);
            }
        }
    }

    /// A turn that comes late means that this process was not scheduled. What waits in the
    /// sockets is then old: joins among it must not start a membership change.
    ///
    /// Differs: corosync empties its sockets; the ring ignores joins for one join interval, which
    /// costs at most one repetition of a join that is not old.
    fn notice_pause(&mut self, now: Instant) {
        if let Some(last) = self.now.replace(now)
            && self.timers.is_set(Timer::Pause)
            && now.saturating_duration_since(last) > self.pace.token / 2
        {
            self.stats.pauses += 1;
            self.joins_ignored_until = Some(now + self.pace.join);
            warn!(me = %self.me, pause = ?now.saturating_duration_since(last), "process was not scheduled");
        }
    }

    /// The one place where the state changes. Returns the state before.
    fn change_state(&mut self, to: State, reason: Reason) -> State {
        let from = mem::replace(&mut self.state, to);
        let (was, is) = (from.name(), self.state.name());
        match is {
            StateName::Stopped => {}
            StateName::Operational => {
                self.stats.operational.entered += 1;
                self.stats.continuous_gather = 0;
            }
            StateName::Gather => {
                self.stats.gather.entered += 1;
                self.stats.continuous_gather += 1;
            }
            StateName::Commit => self.stats.commit.entered += 1,
            StateName::Recovery => self.stats.recovery.entered += 1,
        }
        if was == is {
            debug!(me = %self.me, state = ?is, ?reason, ring = %self.ring_id, "ring state again");
        } else {
            info!(me = %self.me, from = ?was, to = ?is, ?reason, ring = %self.ring_id, "ring state");
            self.outputs.push_back(Output::StateChanged { from: was, to: is, reason });
        }
        from
    }

    fn drop_packet(&mut self, reason: Drop) {
        trace!(me = %self.me, reason = reason.name(), "dropped");
        self.stats.count_drop(reason);
    }

    fn send(&mut self, to: Destination, packet: Bytes) {
        self.outputs.push_back(Output::Send { to, packet });
    }

    fn is_representative(&self) -> bool {
        self.ring_id.rep == self.me.get()
    }

    fn now(&self) -> Instant {
        self.now.expect("handle_input sets the time before anything else")
    }

    fn set_timer(&mut self, timer: Timer, after: Duration) {
        self.timers.set(timer, self.now() + after);
    }

    fn cancel_timers(&mut self, timers: &[Timer]) {
        for timer in timers {
            self.timers.cancel(*timer);
        }
    }
}
