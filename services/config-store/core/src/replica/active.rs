//! The work of a synchronised replica: operations in, results and certainty out.
//!
//! Every replica performs what the group delivers, in its order; whether a replica itself sees the ring
//! quorate matters only where a request is admitted and where an answer is given.

use std::time::Instant;

use bytes::Bytes;
use quorate_types::NodeId;

use super::{
    Replica,
    phase::{Active, Parts, Phase},
};
use crate::{
    checksum::Checksum,
    epoch::Epoch,
    io::{Output, Reason, State},
    log::Record,
    message::{Message, PIECE_MAX},
    operation::{Envelope, RequestId},
    request::{Applied, Wish},
    transaction::ENCODED_MAX,
    tree::OperationError,
};

impl Replica {
    /// A message that is meant for one epoch: dropped in any other.
    pub(super) fn epoch_message(&mut self, now: Instant, from: NodeId, incarnation: u64, message: Message) {
        let current = match &self.phase {
            Phase::Active(active) => active.epoch,
            _ => return self.stats.operations_of_other_epochs += 1,
        };
        let mine = from == self.settings.node && incarnation == self.settings.incarnation;
        match message {
            Message::Operation { epoch, head, content } if epoch == current => {
                self.operation(now, from, mine, head, content);
            }
            Message::Part { epoch, request, index, content } if epoch == current => {
                self.part(from, request, index, &content);
            }
            Message::OperationOfParts { epoch, request, parts, head } if epoch == current => {
                let collected = self.take_parts(from).complete(request, parts);
                match collected {
                    Some(content) => self.operation(now, from, mine, head, content),
                    None => self.cannot_read(now, from, "parts are missing"),
                }
            }
            Message::Barrier { epoch, request } if epoch == current => self.barrier(mine, request),
            Message::Durable { epoch, position, version, checksum } if epoch == current => {
                self.member_durable(from, position, version, checksum);
            }
            // Others are in an epoch whose beginning this replica missed.
            Message::Durable { epoch, version, .. } if epoch > current => self.diverged(from, version),
            _ => self.stats.operations_of_other_epochs += 1,
        }
    }

    fn active(&mut self) -> &mut Active {
        match &mut self.phase {
            Phase::Active(active) => active,
            phase => unreachable!("messages of an epoch are handled while it lasts, not in {phase:?}"),
        }
    }

    fn part(&mut self, from: NodeId, request: RequestId, index: u16, content: &Bytes) {
        let parts = self.active().parts.entry(from).or_default();
        if index == 0 {
            *parts = Parts { request: Some(request), ..Parts::default() };
        }
        let fits = parts.content.len() + content.len() <= ENCODED_MAX;
        if parts.request == Some(request) && parts.count == index && fits {
            parts.content.extend_from_slice(content);
            parts.count += 1;
        }
    }

    fn take_parts(&mut self, from: NodeId) -> Parts {
        self.active().parts.remove(&from).unwrap_or_default()
    }

    fn operation(&mut self, now: Instant, from: NodeId, mine: bool, head: Bytes, content: Bytes) {
        let envelope = match Envelope::decode(head.clone(), content) {
            Ok(envelope) if envelope.origin == from.get() => envelope,
            Ok(_) => return self.cannot_read(now, from, "another node's name"),
            Err(error) => return self.cannot_read(now, from, &error.to_string()),
        };
        let epoch = self.active().epoch;
        let (request, result) = (envelope.request, self.perform(now, epoch, envelope, &head));
        let (version, checksum) = (self.tree.version(), self.tree.checksum());
        let position = self.active().ledger.advance(version, checksum);
        if mine {
            self.requests.answer(request, position, result);
        }
    }

    /// Performs an operation as the next version of the history, unless its request was performed before.
    fn perform(
        &mut self,
        now: Instant,
        epoch: Epoch,
        envelope: Envelope,
        head: &[u8],
    ) -> Result<Applied, OperationError> {
        let before = self.log.find(&envelope.request).map(Applied::of);
        let repeated = before.is_some();
        let result = match before {
            Some(applied) => Ok(applied),
            None => self.perform_new(now, epoch, &envelope, head),
        };
        match &result {
            Ok(_) if repeated => self.stats.operations_repeated += 1,
            Ok(_) => self.stats.operations_performed += 1,
            Err(_) => {
                self.stats.operations_refused += 1;
                if [0, self.settings.node.get()].contains(&envelope.origin) {
                    self.break_old_lock(now, &envelope);
                }
            }
        }
        self.outputs.push_back(Output::Performed { envelope, result: result.clone(), repeated });
        result
    }

    fn perform_new(
        &mut self,
        now: Instant,
        epoch: Epoch,
        envelope: &Envelope,
        head: &[u8],
    ) -> Result<Applied, OperationError> {
        let steps = self.tree.transact(envelope.origin, envelope.mtime, &envelope.operation)?;
        let records = Record::of(epoch, self.log.chain(), envelope, head, &steps);
        let Some(applied) = records.last().map(Applied::of) else {
            return Ok(Applied { version: self.tree.version(), epoch: self.epoch, inode: 0 });
        };
        self.uncertain.performed(&self.tree, &steps);
        self.epoch = epoch;
        if self.epochs.note(epoch, records[0].version()) {
            self.builder.put_epochs(&self.epochs);
        }
        for (step, record) in steps.iter().zip(records) {
            self.builder.put_step(step);
            self.history.performed(&mut self.builder, step, &record.change);
            self.note_lock(now, &record.change);
            self.builder.put_record(&record);
            if let Some(old) = self.log.push(record) {
                self.builder.delete_record(old);
            }
        }
        Ok(applied)
    }

    fn barrier(&mut self, mine: bool, request: RequestId) {
        self.stats.barriers += 1;
        let (version, checksum, epoch) = (self.tree.version(), self.tree.checksum(), self.epoch);
        let position = self.active().ledger.advance(version, checksum);
        if mine {
            self.requests.answer(request, position, Ok(Applied { version, epoch, inode: 0 }));
        }
    }

    /// A report counts only if it is about the same tree: who diverged vouches for nothing. (A report
    /// older than all checkpoints is passed over; the next one counts.)
    fn member_durable(&mut self, from: NodeId, position: u64, version: u64, checksum: Checksum) {
        let active = self.active();
        match active.ledger.at(position) {
            Some(ours) if ours == (version, checksum) => return active.ledger.report(from, position),
            None if position <= active.ledger.position() => return,
            // Another tree at this position, or a position that this replica missed.
            _ => {}
        }
        self.diverged(from, version);
    }

    /// Asks for a round, once per epoch.
    fn diverged(&mut self, from: NodeId, version: u64) {
        let first = !std::mem::replace(&mut self.active().sync_requested, true);
        if first {
            tracing::error!(node = %self.settings.node, other = %from, version, "replicas diverged");
            self.stats.divergences += 1;
            self.outputs.push_back(Output::DivergenceDetected { node: from, version });
            self.send_control(Message::SyncRequest);
        }
    }

    /// Others may be able to read it, so their history goes on where this one cannot follow: the
    /// replica leaves the epoch and comes back with their state.
    fn cannot_read(&mut self, now: Instant, from: NodeId, reason: &str) {
        tracing::error!(node = %self.settings.node, %from, reason, "an operation cannot be read");
        self.stats.messages_malformed += 1;
        self.enter(Phase::Excluded, Reason::CannotRead);
        self.start_at = Some(now);
    }

    /// Sends what waits, as long as the replica is in sync and the window is open.
    pub(super) fn send_requests(&mut self, now: Instant) {
        match &self.phase {
            Phase::Local(_) => self.perform_local(now),
            Phase::Active(active) if self.state == State::Synced => {
                let epoch = active.epoch;
                while self.outbox.has_room()
                    && let Some(wish) = self.requests.send_next()
                {
                    self.send_wish(epoch, wish);
                }
            }
            _ => {}
        }
    }

    fn send_wish(&mut self, epoch: Epoch, wish: Wish) {
        let envelope = match wish {
            Wish::Barrier(request) => return self.send_bulk(Message::Barrier { epoch, request }),
            Wish::Operation(envelope) => Envelope { origin: self.settings.node.get(), ..envelope },
        };
        let (head, content) = (envelope.encode_head(), envelope.operation.content());
        if content.len() <= PIECE_MAX {
            return self.send_bulk(Message::Operation { epoch, head, content });
        }
        let (request, mut parts) = (envelope.request, 0);
        let mut rest = content;
        while !rest.is_empty() {
            let content = rest.split_to(rest.len().min(PIECE_MAX));
            self.send_bulk(Message::Part { epoch, request, index: parts, content });
            parts += 1;
        }
        self.send_bulk(Message::OperationOfParts { epoch, request, parts, head });
    }

    fn perform_local(&mut self, now: Instant) {
        while let Some(wish) = self.requests.send_next() {
            let id = wish.id();
            let result = match wish {
                Wish::Operation(envelope) => {
                    let envelope = Envelope { origin: 0, ..envelope };
                    let head = envelope.encode_head();
                    self.perform(now, Epoch::LOCAL, envelope, &head)
                }
                Wish::Barrier(_) => Ok(Applied { version: self.tree.version(), epoch: self.epoch, inode: 0 }),
            };
            let (version, checksum) = (self.tree.version(), self.tree.checksum());
            if let Phase::Local(ledger) = &mut self.phase {
                let position = ledger.advance(version, checksum);
                self.requests.answer(id, position, result);
            }
        }
        self.flush();
    }

    /// Gives the answers that have become certain, and shows the watchers what has.
    ///
    /// A replica that lost its quorum within the ring gives no answers, but what its members stored is certain by the
    /// votes that counted when they were asked to, and is shown. It may be the very configuration that makes the ring
    /// quorate again: the first votes of a new node, by which those who have it already count.
    pub(super) fn commit(&mut self) {
        let quorate = self.may_start();
        let ring = self.group.as_ref().filter(|group| group.settled).map(|group| group.ring);
        let view = if quorate { &self.view } else { &self.quorate_view };
        let view = view.as_ref().filter(|view| Some(view.ring) == ring);
        let (ledger, answers) = match (&mut self.phase, view) {
            (Phase::Local(ledger), _) => (ledger, true),
            (Phase::Active(active), Some(view)) => {
                active.ledger.commit(view);
                (&mut active.ledger, quorate)
            }
            _ => return,
        };
        let (Some(position), Some(version)) = (ledger.committed(), ledger.committed_version()) else {
            return;
        };
        self.show(version);
        if answers {
            let replies = self.requests.commit(position);
            self.reply_all(replies);
        }
    }

    fn show(&mut self, version: u64) {
        if version <= self.committed {
            return;
        }
        let from = std::mem::replace(&mut self.committed, version);
        self.hand_out_certain();
        match self.log.changes(from, version) {
            Ok(changes) => self.outputs.push_back(Output::Changed(changes)),
            Err(_) => self.outputs.push_back(Output::WatchReset { version }),
        }
    }
}
