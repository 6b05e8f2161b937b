//! Storing: one batch under way, everything since in the next one, and what becomes true when it is
//! on disk.

use super::{
    Replica,
    phase::{Active, Phase},
};
use crate::{
    batch::{Batch, BatchId},
    checksum::Checksum,
    epoch::Epoch,
    io::{Output, Reason},
    message::Message,
    request::RequestError,
};

/// The batch under way, and up to where in which epoch it has everything.
#[derive(Debug)]
pub(super) struct InFlight {
    id: BatchId,
    mark: Option<Mark>,
}

/// A position with what the tree was there.
#[derive(Debug, Clone, Copy)]
struct Mark {
    epoch: Epoch,
    position: u64,
    version: u64,
    checksum: Checksum,
}

impl Replica {
    /// Stores what changed, unless a batch is under way: then its end does.
    pub(super) fn flush(&mut self) {
        if self.in_flight.is_some() || matches!(self.phase, Phase::Failed) {
            return;
        }
        let mark = self.mark();
        if self.builder.is_clean() {
            if let Some(mark) = mark {
                self.durable(mark);
            }
            return;
        }
        self.last_batch += 1;
        let id = self.last_batch;
        if let Phase::Update(update) = &mut self.phase
            && update.done
            && update.ready_batch.is_none()
        {
            update.ready_batch = Some(id);
        }
        let meta = self.meta();
        let batch = self.builder.cut(id, &meta);
        self.stats.batches += 1;
        self.stats.batch_bytes += size(&batch);
        self.in_flight = Some(InFlight { id, mark });
        self.outputs.push_back(Output::Store(batch));
    }

    fn mark(&self) -> Option<Mark> {
        let (epoch, position) = match &self.phase {
            Phase::Active(active) => (active.epoch, active.ledger.position()),
            Phase::Local(ledger) => (Epoch::LOCAL, ledger.position()),
            _ => return None,
        };
        Some(Mark { epoch, position, version: self.tree.version(), checksum: self.tree.checksum() })
    }

    pub(super) fn stored(&mut self, batch: BatchId) {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.id == batch) else {
            return;
        };
        if let Phase::Update(update) = &self.phase
            && update.ready_batch == Some(batch)
        {
            let (round, epoch, checksum) = (update.round, update.epoch, self.tree.checksum());
            self.send_control(Message::Ready { round, epoch, checksum });
        }
        if let Some(mark) = in_flight.mark
            && !self.builder.is_clean()
        {
            self.durable(mark);
        }
        self.flush();
    }

    /// Everything up to the mark is on disk here: tells the group, if it is about its present epoch.
    fn durable(&mut self, mark: Mark) {
        match &mut self.phase {
            Phase::Active(active) if active.epoch == mark.epoch && is_news(active, mark.position) => {
                active.reported = Some(mark.position);
                let Mark { epoch, position, version, checksum } = mark;
                self.send_control(Message::Durable { epoch, position, version, checksum });
            }
            Phase::Local(ledger) if mark.epoch == Epoch::LOCAL => ledger.commit_to(mark.position),
            _ => {}
        }
    }

    pub(super) fn store_failed(&mut self, batch: BatchId) {
        tracing::error!(node = %self.settings.node, batch, "a batch could not be stored");
        self.enter(Phase::Failed, Reason::StoreFailed);
        self.group = None;
        self.start_at = None;
        let replies = self.requests.end_all(&RequestError::StoreFailed);
        self.reply_all(replies);
    }
}

fn is_news(active: &Active, position: u64) -> bool {
    active.reported.is_none_or(|reported| reported < position)
}

fn size(batch: &Batch) -> u64 {
    let bytes =
        batch.writes.iter().map(|write| write.key.len() + write.value.as_ref().map_or(0, |v| v.len()));
    bytes.sum::<usize>() as u64
}
