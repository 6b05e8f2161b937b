//! The phases of a replica, each with what only it needs, and the state that callers see.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use quorate_types::{NodeId, RingId};

use super::Replica;
use crate::{
    ack::Ledger,
    batch::BatchId,
    epoch::Epoch,
    io::{Reason, State},
    message::{MemberState, RoundId},
    operation::RequestId,
    sync::CatchUp,
    transfer::{Job, Received},
};

/// The group as it was last told.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) ring: RingId,
    /// By node id.
    pub(super) members: Vec<NodeId>,
    /// False from a transitional configuration to the next regular one.
    pub(super) settled: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Stand-alone.
    Local(Ledger),
    /// Not in the group.
    Detached,
    /// In the group; no round has begun.
    Waiting,
    /// The participants say what they have.
    Exchange(Exchange),
    /// The losers catch up; everybody stores its promise.
    Update(Box<Update>),
    /// In sync.
    Active(Active),
    /// The group goes on without this replica.
    Excluded,
    /// The store failed.
    Failed,
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) round: RoundId,
    pub(super) participants: BTreeSet<NodeId>,
    pub(super) states: BTreeMap<NodeId, MemberState>,
    /// Somebody asked to be taken in: another round must follow.
    pub(super) again: bool,
}

#[derive(Debug)]
pub(super) struct Update {
    pub(super) round: RoundId,
    pub(super) participants: BTreeSet<NodeId>,
    pub(super) winner: NodeId,
    pub(super) target: MemberState,
    pub(super) epoch: Epoch,
    pub(super) ready: BTreeSet<NodeId>,
    pub(super) again: bool,
    /// Transfers that this replica, the winner, still owes.
    pub(super) jobs: VecDeque<Job>,
    /// Entries that losers have asked for so far.
    pub(super) wants: BTreeMap<NodeId, Vec<u64>>,
    /// What this replica, a loser, needs and has received.
    pub(super) catch_up: CatchUp,
    pub(super) received: Received,
    /// Inodes that this replica has too much, once the index told.
    pub(super) surplus: Vec<u64>,
    /// The tree here is not what its history says: all that is replaced goes into the conflict copy.
    pub(super) diverged: bool,
    /// Whether all buckets were asked for: the last resort.
    pub(super) asked_for_all: bool,
    /// The tree here is the winner's.
    pub(super) done: bool,
    /// The batch that has it, with the promise.
    pub(super) ready_batch: Option<BatchId>,
}

#[derive(Debug)]
pub(super) struct Active {
    pub(super) epoch: Epoch,
    pub(super) ledger: Ledger,
    /// The position that was last reported as durable.
    pub(super) reported: Option<u64>,
    /// Contents on their way, one per sender.
    pub(super) parts: BTreeMap<NodeId, Parts>,
    /// A divergence was found and a round asked for.
    pub(super) sync_requested: bool,
}

/// The parts of one operation's content.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) request: Option<RequestId>,
    pub(super) count: u16,
    pub(super) content: BytesMut,
}

impl Parts {
    /// Takes the content if it is complete.
    pub(super) fn complete(self, request: RequestId, count: u16) -> Option<Bytes> {
        (self.request == Some(request) && self.count == count).then(|| self.content.freeze())
    }
}

impl Replica {
    /// The state that callers see: the phase, seen through the votes.
    pub(super) fn phase_state(&self) -> State {
        match (&self.phase, &self.group, &self.view) {
            (Phase::Local(_), ..) => State::Local,
            (Phase::Failed, ..) => State::Failed,
            (Phase::Detached, ..) | (_, None, _) => State::Alone,
            (.., None) => State::NotQuorate,
            // The votes of the ring to come, or of the one that was, are no answer: wait for the right ones.
            (_, Some(group), Some(view)) if view.ring != group.ring || !group.settled => State::Synchronising,
            (phase, Some(group), Some(view)) => match view.check(&group.members) {
                Err(_) => State::NotQuorate,
                Ok(()) if matches!(phase, Phase::Active(_)) => State::Synced,
                Ok(()) if !self.forgot.is_empty() => State::NotQuorate,
                Ok(()) => State::Synchronising,
            },
        }
    }

    /// Ends whatever was going on in the group: requests on their way are open again.
    pub(super) fn enter(&mut self, phase: Phase, reason: Reason) {
        if matches!(self.phase, Phase::Active(_) | Phase::Local(_)) {
            self.requests.reopen();
        }
        self.phase = phase;
        self.reason = reason;
    }

    pub(super) fn detach(&mut self, reason: Reason) {
        if matches!(self.phase, Phase::Failed) {
            return;
        }
        if matches!(self.phase, Phase::Local(_)) && reason == Reason::GroupLost {
            return;
        }
        self.enter(Phase::Detached, reason);
        self.group = None;
        self.start_at = None;
        self.outbox.reset();
    }
}
