//! From the exchange of states to the new epoch: the losers catch up, everybody stores its promise, and
//! when all say that they are ready, the epoch begins at that place in the order.
//!
//! 1. All states are in: everybody knows the winner, the new epoch, and what each loser needs.
//! 2. Everybody stores the promise of the new epoch, a loser with the winner's state in the same batch.
//! 3. `Ready` from all: the epoch begins. It is stored, and only then is anything durable in it. So no
//!    write of an epoch is acknowledged but by a majority that has that epoch on disk, and what an
//!    earlier epoch left unacknowledged becomes certain only as part of the new one.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use quorate_types::NodeId;

use super::{
    Replica,
    adopt::AdoptError,
    phase::{Active, Phase, Update},
};
use crate::{
    ack::Ledger,
    checksum::Checksum,
    epoch::Epoch,
    io::{Output, Reason},
    message::{MemberState, Message, RoundId, StreamKind},
    sync::{self, CatchUp},
    transfer::{History, Job, Received},
};

impl Replica {
    pub(super) fn begin_update(&mut self, now: Instant) {
        let (Phase::Exchange(exchange), Some(group)) =
            (std::mem::replace(&mut self.phase, Phase::Waiting), &self.group)
        else {
            unreachable!("states are complete only in an exchange within a group");
        };
        let (ring, states) = (group.ring, exchange.states);
        if !self.remembers_enough(&states) {
            return self.arm(now, self.settings.exchange_timeout);
        }
        let winner = sync::winner(&states);
        let epoch = sync::next_epoch(ring, &states);
        let target = states[&winner].clone();
        let catch_up = sync::catch_up(&target, &states[&self.settings.node]);
        tracing::debug!(node = %self.settings.node, %winner, %epoch, version = target.version, ?catch_up, "states");
        self.promised = epoch;
        self.builder.touch_meta();
        let jobs =
            if winner == self.settings.node { self.delta_jobs(&target, &states) } else { VecDeque::new() };
        self.phase = Phase::Update(Box::new(Update {
            round: exchange.round,
            participants: exchange.participants,
            winner,
            target,
            epoch,
            ready: BTreeSet::new(),
            again: exchange.again,
            jobs,
            wants: BTreeMap::new(),
            catch_up,
            received: Received::default(),
            surplus: Vec::new(),
            diverged: false,
            asked_for_all: false,
            done: false,
            ready_batch: None,
        }));
        self.begin_catch_up();
        self.arm(now, self.settings.update_timeout);
    }

    /// One delta for all losers that are a prefix of this history.
    fn delta_jobs(&self, target: &MemberState, states: &BTreeMap<NodeId, MemberState>) -> VecDeque<Job> {
        let behind = states.iter().filter(|(_, state)| sync::catch_up(target, state) == CatchUp::Delta);
        let behind: Vec<(NodeId, u64)> = behind.map(|(node, state)| (*node, state.version)).collect();
        let Some(since) = behind.iter().map(|(_, version)| *version).min() else {
            return VecDeque::new();
        };
        let to = behind.into_iter().map(|(node, _)| node).collect();
        VecDeque::from([Job::delta(to, since, self.history(), &self.tree, &self.log)])
    }

    fn history(&self) -> History {
        History {
            root: self.tree.root(),
            epoch: self.epoch,
            chain: *self.log.chain(),
            epochs: self.epochs.clone(),
        }
    }

    fn begin_catch_up(&mut self) {
        let Phase::Update(update) = &mut self.phase else { return };
        match update.catch_up {
            CatchUp::Nothing => {
                update.done = true;
                self.epoch = update.target.epoch;
                self.epochs = update.target.epochs.clone();
                self.builder.put_epochs(&self.epochs);
            }
            CatchUp::Delta => {}
            CatchUp::Index { common } => {
                let silent = common == update.target.version && common == self.tree.version();
                let (node, version) = (update.winner, common);
                update.diverged = silent;
                if silent {
                    tracing::error!(node = %self.settings.node, winner = %node, version, "replicas diverged");
                    self.stats.divergences += 1;
                    self.outputs.push_back(Output::DivergenceDetected { node, version });
                }
                self.ask_for_index(false);
            }
        }
    }

    /// A message of the round under way, after the exchange.
    pub(super) fn round_message(&mut self, now: Instant, from: NodeId, message: Message) {
        let round = match &message {
            Message::IndexRequest { round, .. }
            | Message::Want { round, .. }
            | Message::Piece { round, .. }
            | Message::Ready { round, .. } => *round,
            _ => return,
        };
        if !self.is_in_round(from, round) {
            self.stats.messages_out_of_place += 1;
            return;
        }
        self.arm(now, self.settings.update_timeout);
        match message {
            Message::IndexRequest { sums, .. } => self.index_requested(from, &sums),
            Message::Want { last, inodes, .. } => self.wanted(from, last, inodes),
            Message::Piece { to, kind, first, last, bytes, .. } if to.contains(&self.settings.node) => {
                self.piece(now, kind, first, last, &bytes);
            }
            Message::Ready { epoch, checksum, .. } => self.member_ready(now, from, epoch, checksum),
            _ => {}
        }
    }

    fn is_in_round(&self, from: NodeId, round: RoundId) -> bool {
        let Phase::Update(update) = &self.phase else { return false };
        update.round == round && update.participants.contains(&from)
    }

    fn index_requested(&mut self, from: NodeId, sums: &[u64]) {
        let history = self.history();
        let Phase::Update(update) = &mut self.phase else { return };
        if update.winner == self.settings.node {
            update.jobs.push_back(Job::index(from, sums, history, &self.tree, &self.log));
        }
    }

    fn wanted(&mut self, from: NodeId, last: bool, mut inodes: Vec<u64>) {
        let Phase::Update(update) = &mut self.phase else { return };
        if update.winner != self.settings.node {
            return;
        }
        update.wants.entry(from).or_default().append(&mut inodes);
        if last {
            let inodes = update.wants.remove(&from).unwrap_or_default();
            update.jobs.push_back(Job::entries(from, &inodes));
        }
    }

    /// Sends pieces of what this replica, the winner, owes, as long as the window is open.
    pub(super) fn send_pieces(&mut self) {
        while self.outbox.has_room() {
            let Phase::Update(update) = &mut self.phase else { return };
            let Some(job) = update.jobs.front_mut() else { return };
            let piece = job.next_piece(&self.tree, &self.log);
            if piece.last {
                update.jobs.pop_front();
            }
            let round = update.round;
            self.stats.transfer_bytes_sent += piece.bytes.len() as u64;
            self.send_bulk(Message::Piece {
                round,
                to: piece.to,
                kind: piece.kind,
                first: piece.first,
                last: piece.last,
                bytes: piece.bytes,
            });
        }
    }

    fn piece(&mut self, now: Instant, kind: StreamKind, first: bool, last: bool, bytes: &[u8]) {
        let Phase::Update(update) = &mut self.phase else { return };
        if update.done {
            return;
        }
        if first && kind != StreamKind::Entries {
            update.received = Received::default();
        }
        self.stats.transfer_bytes_received += bytes.len() as u64;
        if let Err(error) = update.received.add(bytes) {
            return self.cannot_catch_up(now, &error.to_string());
        }
        if !last {
            return;
        }
        let outcome = match (kind, update.catch_up) {
            (StreamKind::Delta, CatchUp::Delta) => self.adopt_delta(),
            (StreamKind::Index, CatchUp::Index { .. }) => self.compare_index(),
            (StreamKind::Entries, CatchUp::Index { .. }) => self.adopt_index(),
            _ => Ok(()),
        };
        if let Err(problem) = outcome {
            self.ask_again(now, &problem);
        }
    }

    /// What came does not fit: compares by index, then everything by index, then gives up.
    fn ask_again(&mut self, now: Instant, problem: &AdoptError) {
        tracing::error!(node = %self.settings.node, %problem, "the winner's state does not fit");
        self.stats.divergences += 1;
        let version = self.tree.version();
        let Phase::Update(update) = &mut self.phase else { return };
        let (winner, all) = (update.winner, matches!(update.catch_up, CatchUp::Index { .. }));
        if update.asked_for_all {
            return self.cannot_catch_up(now, "not even by a full index");
        }
        update.diverged = true;
        if !all {
            update.catch_up = CatchUp::Index { common: version };
        }
        self.outputs.push_back(Output::DivergenceDetected { node: winner, version });
        self.ask_for_index(all);
    }

    fn cannot_catch_up(&mut self, now: Instant, problem: &str) {
        tracing::error!(node = %self.settings.node, problem, "cannot catch up");
        self.enter(Phase::Excluded, Reason::CannotRead);
        self.arm(now, self.settings.rejoin_delay);
    }

    fn member_ready(&mut self, now: Instant, from: NodeId, epoch: Epoch, checksum: Checksum) {
        let Phase::Update(update) = &mut self.phase else { return };
        if (epoch, checksum) != (update.epoch, update.target.checksum) {
            self.stats.messages_out_of_place += 1;
            return;
        }
        update.ready.insert(from);
        if update.ready.len() == update.participants.len() {
            self.begin_epoch(now);
        }
    }

    fn begin_epoch(&mut self, now: Instant) {
        let Phase::Update(update) = std::mem::replace(&mut self.phase, Phase::Waiting) else { return };
        assert!(update.done, "everybody is ready only after this replica said so");
        self.epoch = update.epoch;
        self.builder.touch_meta();
        self.stats.epochs_begun += 1;
        self.reason = Reason::EpochBegan(update.epoch);
        self.phase = Phase::Active(Active {
            epoch: update.epoch,
            ledger: Ledger::new(self.tree.version(), self.tree.checksum()),
            reported: None,
            parts: BTreeMap::new(),
            sync_requested: false,
        });
        self.start_at = None;
        if update.again {
            self.arm(now, std::time::Duration::ZERO);
        }
        self.resolve_requests();
    }
}
