//! The Dfsm: one replica of the tree, from loading to its place in the group.
//!
//! ```text
//!            LocalMode(true)
//!   Local <------------------ any
//!   Detached --Members--> Waiting --SyncStart--> Exchange --all States--> Update --all Ready--> Active
//!      ^                   ^  ^                     |  (left out)                                 |
//!      |                   |  +---- Excluded <------+                                             |
//!      +----GroupLost------+------------ Members, Transitional, SyncStart ------------------------+
//! ```
//!
//! Rounds are in `round.rs`, catching up in `update.rs`, the work of a synchronised replica in
//! `active.rs`, storing in `storing.rs`, phases in `phase.rs`.

mod active;
mod adopt;
mod certain;
mod forgotten;
mod locks;
mod phase;
mod round;
mod storing;
mod update;

pub use locks::LOCK_LIFETIME;

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_types::NodeId;

use self::{
    certain::Uncertain,
    locks::LockAges,
    phase::{Group, Phase},
    storing::InFlight,
};
use crate::{
    ack::Ledger,
    batch::{BatchBuilder, BatchId, Meta, Space},
    epoch::{Epoch, Epochs},
    history::{History, HistoryLimits},
    io::{Input, Output, Reason, State},
    load::Image,
    log::{Change, Compacted, Log},
    message::{Message, Signed},
    operation::{Envelope, RequestId},
    outbox::Outbox,
    quorum::{QuorumView, Shortfall},
    request::{Handle, OperationRequest, RequestError, Requests, Wish},
    stats::Stats,
    tree::Tree,
};

/// Who a replica is and how patient it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// Different for every start of the process: time or chance.
    pub incarnation: u64,
    /// How much longer each further member, by node id, waits before it does what the ones before it
    /// should have done. Default 500 ms.
    pub step: Duration,
    /// How long the members of a round may be silent before it starts anew, without those that did not
    /// say what they have. Must be well above the group's delivery time. Default 3 s.
    pub exchange_timeout: Duration,
    /// How long nothing may happen while members catch up, storing included. Default 15 s.
    pub update_timeout: Duration,
    /// How long a member that was left out waits before it asks to be taken in again. Default 5 s.
    pub rejoin_delay: Duration,
    /// How much of the past is kept.
    pub history: HistoryLimits,
    /// Whether this node was in the cluster before and lost what its disk had: an empty tree here is then never the
    /// beginning of a new history. Default no.
    pub disk_forgot: bool,
}

impl Settings {
    /// The defaults for a node.
    #[must_use]
    pub fn new(node: NodeId, incarnation: u64) -> Self {
        Self {
            node,
            incarnation,
            step: Duration::from_millis(500),
            exchange_timeout: Duration::from_secs(3),
            update_timeout: Duration::from_secs(15),
            rejoin_delay: Duration::from_secs(5),
            history: HistoryLimits::default(),
            disk_forgot: false,
        }
    }
}

/// One replica of the tree.
#[derive(Debug)]
pub struct Replica {
    settings: Settings,
    tree: Tree,
    log: Log,
    epochs: Epochs,
    epoch: Epoch,
    promised: Epoch,
    conflicts: u64,
    committed: u64,
    uncertain: Uncertain,
    lock_ages: LockAges,
    history: History,
    phase: Phase,
    group: Option<Group>,
    view: Option<QuorumView>,
    /// The last view in which this replica could write.
    quorate_view: Option<QuorumView>,
    rounds: u64,
    start_at: Option<Instant>,
    /// Replicas with a new disk for whose sake the last round did not go on.
    forgot: BTreeSet<NodeId>,
    requests: Requests,
    outbox: Outbox,
    builder: BatchBuilder,
    in_flight: Option<InFlight>,
    last_batch: BatchId,
    outputs: VecDeque<Output>,
    state: State,
    reason: Reason,
    stats: Stats,
}

impl Replica {
    /// A replica with the state that storage has. It is not in the group until it is told so.
    #[must_use]
    pub fn load(settings: Settings, image: Image) -> Self {
        let mut history = image.history;
        history.set_limits(settings.history);
        let mut builder = BatchBuilder::default();
        image.garbage.into_iter().for_each(|key| builder.delete(Space::Content, key));
        Self {
            settings,
            tree: image.tree,
            log: image.log,
            epochs: image.epochs,
            epoch: image.epoch,
            promised: image.promised,
            conflicts: image.conflicts,
            committed: image.committed,
            uncertain: Uncertain::default(),
            lock_ages: LockAges::default(),
            history,
            phase: Phase::Detached,
            group: None,
            view: None,
            quorate_view: None,
            rounds: 0,
            start_at: None,
            forgot: BTreeSet::new(),
            requests: Requests::default(),
            outbox: Outbox::new(settings.incarnation),
            builder,
            in_flight: None,
            last_batch: 0,
            outputs: VecDeque::new(),
            state: State::Alone,
            reason: Reason::Loaded,
            stats: Stats::default(),
        }
    }

    /// Takes one input.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Members { ring, members } => self.group_changed(now, ring, members),
            Input::Transitional => self.transitional(),
            Input::Message { from, payload } => self.message(now, from, payload),
            Input::EndOfBatch => self.flush(),
            Input::GroupLost => self.detach(Reason::GroupLost),
            Input::Quorum(view) => self.quorum(now, Some(view)),
            Input::QuorumLost => self.quorum(now, None),
            Input::Request { handle, request, deadline } => self.request(handle, request, deadline),
            Input::Barrier { handle, id, deadline } => self.admit(handle, Wish::Barrier(id), deadline),
            Input::Stored { batch } => self.stored(batch),
            Input::StoreFailed { batch } => self.store_failed(batch),
            Input::Timer => {}
            Input::LocalMode(local) => self.local_mode(local),
        }
        self.settle(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] must be handed in at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let start = self.start_at.filter(|_| self.may_act_on_timer());
        [start, self.requests.next_deadline()].into_iter().flatten().min()
    }

    /// The tree as far as it was applied here: a prefix of the history, not all of it certain.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What the replica can do at the moment.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The epoch that the replica was last in sync in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The version up to which everything is known to be certain; watchers have seen it.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// The log: for retries and for where a change came from.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What each path held before, as far as this replica keeps it: versions up to [`Replica::committed`] are certain.
    #[must_use]
    pub fn file_history(&self) -> &History {
        &self.history
    }

    /// The certain changes after a version, for a watch that resumes. A version in the future has none.
    ///
    /// # Errors
    /// [`Compacted`] when some of them are no longer kept.
    pub fn changes_since(&self, version: u64) -> Result<Vec<Change>, Compacted> {
        self.log.changes(version, self.committed)
    }

    /// What is missing for writing, if votes are.
    ///
    /// # Errors
    /// [`Shortfall`] with the arithmetic.
    pub fn check_quorum(&self) -> Result<(), Shortfall> {
        match (&self.group, &self.view) {
            (Some(group), Some(view)) if view.ring == group.ring => view.check(&group.members),
            (_, Some(view)) => view.check(&[]),
            (_, None) => Err(Shortfall::default()),
        }
    }

    /// Why nothing can be written for want of votes, or of the memory of members whose disk is new.
    #[must_use]
    pub fn shortfall(&self) -> Shortfall {
        let shortfall = self.check_quorum().err().unwrap_or_else(|| {
            let absent = self.view.as_ref().map(|view| view.absent.clone());
            Shortfall { absent: absent.unwrap_or_default(), ..Shortfall::default() }
        });
        Shortfall { forgot: self.forgot.iter().copied().collect(), ..shortfall }
    }

    /// Nodes that run a replica, in the group as it was last told.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        self.group.as_ref().map_or(&[], |group| &group.members)
    }

    /// How many requests wait for their reply.
    #[must_use]
    pub fn pending_requests(&self) -> usize {
        self.requests.pending_count()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn message(&mut self, now: Instant, from: NodeId, payload: Bytes) {
        let Ok(Signed { incarnation, serial, message }) = Signed::decode(payload) else {
            self.stats.messages_malformed += 1;
            tracing::warn!(%from, "message cannot be read");
            return;
        };
        if from == self.settings.node {
            self.outbox.returned(incarnation, serial);
        }
        match &self.group {
            Some(group) if !group.settled => self.stats.messages_out_of_place += 1,
            Some(group) if group.members.contains(&from) => self.dispatch(now, from, incarnation, message),
            _ => self.stats.messages_of_strangers += 1,
        }
    }

    fn dispatch(&mut self, now: Instant, from: NodeId, incarnation: u64, message: Message) {
        match message {
            Message::SyncStart { round, ring, participants } => {
                self.sync_start(now, round, ring, participants);
            }
            Message::State { round, state } => self.member_state(now, from, round, state),
            Message::SyncRequest => self.sync_request(now),
            Message::Operation { .. }
            | Message::Part { .. }
            | Message::OperationOfParts { .. }
            | Message::Barrier { .. }
            | Message::Durable { .. } => self.epoch_message(now, from, incarnation, message),
            _ => self.round_message(now, from, message),
        }
    }

    fn request(&mut self, handle: Handle, request: OperationRequest, deadline: Instant) {
        let OperationRequest { id, mtime, trace, extensions, operation } = request;
        let envelope = Envelope { request: id, origin: 0, mtime, trace, extensions, operation };
        self.admit(handle, Wish::Operation(envelope), deadline);
    }

    fn admit(&mut self, handle: Handle, wish: Wish, deadline: Instant) {
        let admitted = match self.phase_state() {
            State::Failed => Err(RequestError::StoreFailed),
            State::Alone | State::NotQuorate => Err(self.not_quorate()),
            State::Local | State::Synchronising | State::Synced => {
                self.requests.admit(handle, wish, deadline)
            }
        };
        if let Err(error) = admitted {
            self.outputs.push_back(Output::Reply { handle, reply: Err(error) });
        }
    }

    fn not_quorate(&self) -> RequestError {
        RequestError::NotQuorate(self.shortfall())
    }

    fn quorum(&mut self, now: Instant, view: Option<QuorumView>) {
        let could = self.may_start();
        let before = std::mem::replace(&mut self.view, view);
        if could {
            self.quorate_view = before;
        }
        self.reason = Reason::QuorumChanged;
        if !could && self.may_start() && self.start_at.is_some() {
            self.arm(now, Duration::ZERO);
        }
    }

    fn local_mode(&mut self, local: bool) {
        if local == matches!(self.phase, Phase::Local(_)) || matches!(self.phase, Phase::Failed) {
            return;
        }
        self.detach(Reason::Mode);
        if local {
            self.phase = Phase::Local(Ledger::new(self.tree.version(), self.tree.checksum()));
            self.resolve_requests();
        }
    }

    /// After every input: what has become possible or impossible.
    fn settle(&mut self, now: Instant) {
        self.act_on_timer(now);
        self.commit();
        self.announce_state();
        self.send_requests(now);
        self.send_pieces();
        self.commit();
        let expired = self.requests.expire(now);
        self.reply_all(expired);
    }

    fn announce_state(&mut self) {
        let to = self.phase_state();
        if to == self.state {
            return;
        }
        let (from, reason) = (std::mem::replace(&mut self.state, to), self.reason);
        tracing::info!(node = %self.settings.node, ?from, ?to, ?reason, "replica state");
        self.outputs.push_back(Output::StateChanged { from, to, reason });
        if matches!(to, State::Alone | State::NotQuorate) {
            let refused = self.requests.refuse_unsent(&self.not_quorate());
            self.reply_all(refused);
        }
    }

    fn resolve_requests(&mut self) {
        let log = &self.log;
        self.requests.resolve(|id: &RequestId| log.find(id).map(crate::request::Applied::of));
    }

    fn reply_all(&mut self, replies: Vec<(Handle, crate::request::Reply)>) {
        let replies = replies.into_iter().filter(|(handle, _)| *handle != locks::NOBODY);
        self.outputs.extend(replies.map(|(handle, reply)| Output::Reply { handle, reply }));
    }

    fn send_control(&mut self, message: Message) {
        let bytes = self.outbox.control(message);
        self.outputs.push_back(Output::Multicast(bytes));
    }

    fn send_bulk(&mut self, message: Message) {
        let bytes = self.outbox.bulk(message);
        self.outputs.push_back(Output::Multicast(bytes));
    }

    fn meta(&self) -> Meta {
        Meta {
            promised: self.promised,
            epoch: self.epoch,
            root: self.tree.root(),
            chain: *self.log.chain(),
            checksum: self.tree.checksum(),
            conflicts: self.conflicts,
            committed: self.committed,
        }
    }
}
