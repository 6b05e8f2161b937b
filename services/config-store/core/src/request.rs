//! Requests of local callers, from admission to the one reply each of them gets.
//!
//! A request is *queued* until the replica may send it, *sent* until it comes back in the group's order,
//! *answered* once its result is known, and replied to when that result can no longer be lost. When an
//! epoch ends early, a request that was on its way is *open*: the next epoch's history decides whether it
//! happened, and if not it is sent again under the same id.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::{
    epoch::Epoch,
    log::Record,
    operation::{Envelope, Extensions, Operation, RequestId, TraceContext},
    quorum::Shortfall,
    tree::OperationError,
};

/// Most requests that wait to be sent. More are refused with [`RequestError::Overloaded`].
pub const QUEUE_MAX: usize = 4096;
/// Most bytes of file content that wait to be sent.
pub const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Names a request to its caller on this node: unique in this process, chosen by the driver.
pub type Handle = u64;

/// A write as a local caller asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRequest {
    /// Identifies the request across retries: the same id is applied at most once within the log's
    /// window, whichever node it is sent to.
    pub id: RequestId,
    /// This node's clock, whole UTC seconds.
    pub mtime: u32,
    /// The caller's trace.
    pub trace: Option<TraceContext>,
    /// What later versions add.
    pub extensions: Extensions,
    /// What to do.
    pub operation: Operation,
}

/// The answer to a request that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The tree's version that it made. For a barrier: the version that is certain to be no older than
    /// any write acknowledged before the barrier was asked for.
    pub version: u64,
    /// The epoch it was written in.
    pub epoch: Epoch,
    /// The entry that it changed; 0 for a barrier.
    pub inode: u64,
}

impl Applied {
    pub(crate) fn of(record: &Record) -> Self {
        Self { version: record.version(), epoch: record.epoch, inode: record.change.inode }
    }
}

/// Why a request was not, or perhaps not, performed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The group cannot write. Nothing was sent.
    #[error("the tree is read-only")]
    NotQuorate(#[source] Shortfall),
    /// The operation was refused; the tree is unchanged.
    #[error("the operation was refused")]
    Refused(#[source] OperationError),
    /// The operation was sent, and it is not known whether it happened. Read back, or repeat it under
    /// the same id.
    #[error("whether the operation happened is not known")]
    OutcomeUnknown,
    /// The deadline passed before the operation was sent. Nothing changed.
    #[error("the deadline passed while the replicas were synchronising")]
    DeadlineExceeded,
    /// Too many requests wait. Nothing was sent.
    #[error("too many requests wait")]
    Overloaded,
    /// The store failed; this replica has left the group until it is restarted.
    #[error("the store failed")]
    StoreFailed,
}

/// The one reply to a request.
pub type Reply = Result<Applied, RequestError>;

/// What a pending request wants.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Operation(Envelope),
    Barrier(RequestId),
}

impl Wish {
    pub(crate) fn id(&self) -> RequestId {
        match self {
            Self::Operation(envelope) => envelope.request,
            Self::Barrier(id) => *id,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Operation(envelope) => envelope.operation.content().len(),
            Self::Barrier(_) => 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Queued,
    Sent,
    Open,
    Answered { position: u64, result: Result<Applied, OperationError> },
}

#[derive(Debug)]
struct Pending {
    handle: Handle,
    wish: Wish,
    deadline: Instant,
    was_sent: bool,
    stage: Stage,
}

/// All pending requests, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pending: BTreeMap<u64, Pending>,
    queued: BTreeSet<u64>,
    queued_bytes: usize,
    deadlines: BTreeSet<(Instant, u64)>,
    sent: BTreeMap<RequestId, BTreeSet<u64>>,
    answered: BTreeSet<(u64, u64)>,
    next: u64,
}

impl Requests {
    /// Takes a request in, unless too many wait.
    pub(crate) fn admit(
        &mut self,
        handle: Handle,
        wish: Wish,
        deadline: Instant,
    ) -> Result<(), RequestError> {
        if self.queued.len() >= QUEUE_MAX || self.queued_bytes + wish.bytes() > QUEUE_BYTES_MAX {
            return Err(RequestError::Overloaded);
        }
        let number = self.next;
        self.next += 1;
        self.deadlines.insert((deadline, number));
        let pending = Pending { handle, wish, deadline, was_sent: false, stage: Stage::Queued };
        self.pending.insert(number, pending);
        self.enqueue(number);
        Ok(())
    }

    fn enqueue(&mut self, number: u64) {
        let pending = self.pending.get_mut(&number).expect("only pending requests are queued");
        pending.stage = Stage::Queued;
        self.queued_bytes += pending.wish.bytes();
        self.queued.insert(number);
    }

    fn unqueue(&mut self, number: u64) {
        if self.queued.remove(&number) {
            self.queued_bytes -= self.pending[&number].wish.bytes();
        }
    }

    /// The next request to send; it counts as sent.
    pub(crate) fn send_next(&mut self) -> Option<Wish> {
        let number = *self.queued.first()?;
        self.unqueue(number);
        let pending = self.pending.get_mut(&number)?;
        pending.stage = Stage::Sent;
        pending.was_sent = true;
        let wish = pending.wish.clone();
        self.sent.entry(wish.id()).or_default().insert(number);
        Some(wish)
    }

    /// A sent request came back in the group's order, with its result, at a position of the epoch.
    pub(crate) fn answer(&mut self, id: RequestId, position: u64, result: Result<Applied, OperationError>) {
        let Some(numbers) = self.sent.get_mut(&id) else { return };
        let Some(number) = numbers.pop_first() else { return };
        if numbers.is_empty() {
            self.sent.remove(&id);
        }
        self.set_answer(number, position, result);
    }

    fn set_answer(&mut self, number: u64, position: u64, result: Result<Applied, OperationError>) {
        if let Some(pending) = self.pending.get_mut(&number) {
            pending.stage = Stage::Answered { position, result };
            self.answered.insert((position, number));
        }
    }

    /// Everything up to this position is certain: the replies that may be given now.
    pub(crate) fn commit(&mut self, position: u64) -> Vec<(Handle, Reply)> {
        let mut replies = Vec::new();
        while let Some((at, number)) = self.answered.first().copied()
            && at <= position
        {
            let Some(pending) = self.finish(number) else { continue };
            if let Stage::Answered { result, .. } = pending.stage {
                replies.push((pending.handle, result.map_err(RequestError::Refused)));
            }
        }
        replies
    }

    /// The epoch ended: what was sent or answered in it is open again.
    pub(crate) fn reopen(&mut self) {
        self.sent.clear();
        self.answered.clear();
        for pending in self.pending.values_mut() {
            if pending.stage != Stage::Queued {
                pending.stage = Stage::Open;
            }
        }
    }

    /// A new epoch began, at position 0: `find` tells what of the open requests is in its history. The
    /// others are sent again.
    pub(crate) fn resolve(&mut self, find: impl Fn(&RequestId) -> Option<Applied>) {
        let open: Vec<u64> =
            self.pending.iter().filter(|(_, p)| p.stage == Stage::Open).map(|(n, _)| *n).collect();
        for number in open {
            match &self.pending[&number].wish {
                Wish::Operation(envelope) => match find(&envelope.request) {
                    Some(applied) => self.set_answer(number, 0, Ok(applied)),
                    None => self.enqueue(number),
                },
                Wish::Barrier(_) => self.enqueue(number),
            }
        }
    }

    /// Refuses all requests that were never sent.
    pub(crate) fn refuse_unsent(&mut self, error: &RequestError) -> Vec<(Handle, Reply)> {
        self.finish_all(error, |pending| !pending.was_sent)
    }

    /// Ends all requests: the unsent ones with `error`, the others with an unknown outcome.
    pub(crate) fn end_all(&mut self, error: &RequestError) -> Vec<(Handle, Reply)> {
        let mut replies = self.refuse_unsent(error);
        replies.extend(self.finish_all(&RequestError::OutcomeUnknown, |_| true));
        replies
    }

    fn finish_all(&mut self, error: &RequestError, which: impl Fn(&Pending) -> bool) -> Vec<(Handle, Reply)> {
        let numbers: Vec<u64> = self.pending.iter().filter(|(_, p)| which(p)).map(|(n, _)| *n).collect();
        let ended = numbers.into_iter().filter_map(|number| self.finish(number));
        ended.map(|pending| (pending.handle, Err(error.clone()))).collect()
    }

    /// Ends the requests whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(Handle, Reply)> {
        let mut replies = Vec::new();
        while let Some((deadline, number)) = self.deadlines.first().copied()
            && deadline <= now
        {
            let Some(pending) = self.finish(number) else { continue };
            let unknown = pending.was_sent;
            let error = if unknown { RequestError::OutcomeUnknown } else { RequestError::DeadlineExceeded };
            replies.push((pending.handle, Err(error)));
        }
        replies
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn pending_count(&self) -> usize {
        self.pending.len()
    }

    fn finish(&mut self, number: u64) -> Option<Pending> {
        self.unqueue(number);
        let pending = self.pending.remove(&number)?;
        self.deadlines.remove(&(pending.deadline, number));
        if let Stage::Answered { position, .. } = &pending.stage {
            self.answered.remove(&(*position, number));
        }
        if let Some(numbers) = self.sent.get_mut(&pending.wish.id()) {
            // The place in the group's order stays taken: another request of this id must not get it.
            if pending.stage != Stage::Sent {
                numbers.remove(&number);
            }
        }
        Some(pending)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wish(id: u8) -> Wish {
        let operation = Operation::Mkdir { path: "a".parse().unwrap() };
        let request = RequestId([id; 16]);
        let extensions = Extensions::default();
        Wish::Operation(Envelope { request, origin: 1, mtime: 0, trace: None, extensions, operation })
    }

    fn applied(version: u64) -> Applied {
        Applied { version, epoch: Epoch::LOCAL, inode: version }
    }

    fn soon(now: Instant) -> Instant {
        now + Duration::from_secs(1)
    }

    #[test]
    fn a_reply_waits_until_its_position_is_certain() {
        let now = Instant::now();
        let mut requests = Requests::default();
        requests.admit(10, wish(1), soon(now)).unwrap();
        requests.send_next().unwrap();
        requests.answer(RequestId([1; 16]), 3, Ok(applied(7)));
        assert_eq!(requests.commit(2), []);
        assert_eq!(requests.commit(3), [(10, Ok(applied(7)))]);
        assert_eq!((requests.commit(9), requests.expire(soon(now))), (vec![], vec![]));
    }

    #[test]
    fn the_deadline_tells_what_is_known() {
        let now = Instant::now();
        let mut requests = Requests::default();
        requests.admit(10, wish(1), soon(now)).unwrap();
        requests.send_next().unwrap();
        requests.admit(11, wish(2), soon(now)).unwrap();
        let replies = requests.expire(soon(now));
        assert_eq!(
            replies,
            [(10, Err(RequestError::OutcomeUnknown)), (11, Err(RequestError::DeadlineExceeded))]
        );
        assert_eq!(requests.pending_count(), 0);
    }

    #[test]
    fn an_open_request_is_answered_by_history_or_sent_again() {
        let now = Instant::now();
        let mut requests = Requests::default();
        requests.admit(10, wish(1), soon(now)).unwrap();
        requests.admit(11, wish(2), soon(now)).unwrap();
        requests.send_next().unwrap();
        requests.send_next().unwrap();
        requests.reopen();
        requests.resolve(|id| (*id == RequestId([1; 16])).then(|| applied(5)));
        assert_eq!(requests.commit(0), [(10, Ok(applied(5)))]);
        assert_eq!(requests.send_next().unwrap().id(), RequestId([2; 16]));
    }

    #[test]
    fn two_callers_of_one_request_id_get_one_reply_each() {
        let now = Instant::now();
        let mut requests = Requests::default();
        requests.admit(10, wish(1), soon(now)).unwrap();
        requests.admit(11, wish(1), soon(now)).unwrap();
        requests.send_next().unwrap();
        requests.send_next().unwrap();
        requests.answer(RequestId([1; 16]), 1, Ok(applied(5)));
        requests.answer(RequestId([1; 16]), 2, Ok(applied(5)));
        assert_eq!(requests.commit(2), [(10, Ok(applied(5))), (11, Ok(applied(5)))]);
    }

    #[test]
    fn the_queue_is_bounded() {
        let now = Instant::now();
        let mut requests = Requests::default();
        for handle in 0..QUEUE_MAX as u64 {
            requests.admit(handle, wish(1), soon(now)).unwrap();
        }
        assert_eq!(requests.admit(9999, wish(1), soon(now)), Err(RequestError::Overloaded));
        requests.send_next().unwrap();
        assert_eq!(requests.admit(9999, wish(1), soon(now)), Ok(()));
    }
}
