//! The operation log: what each recent version changed, for watches, retries and catching up.
//!
//! A record says what an operation did, not with which bytes: contents are in the tree, where the newest
//! is all that a latecomer needs. Each record carries the chain hash of the history up to it. The log
//! covers the same window of versions on every replica, because it decides whether a repeated request is
//! recognised.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::{
    entry::Kind,
    epoch::Epoch,
    operation::{Envelope, RequestId},
    path::ConfigPath,
    tree::{EMPTY_VERSION, Step},
    wire::{Put, Reader, WireError},
};

/// How many versions the log reaches back: how long a request is recognised, and how far a watch resumes.
pub const LOG_WINDOW: u64 = 8192;

/// Hash of a history: of the previous hash, the epoch and version, and the operation as it travelled.
pub type ChainHash = [u8; 32];

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It was made, empty or with content.
    Created(Kind),
    /// Its content was written.
    Written,
    /// It has a new path.
    Renamed,
    /// It is gone.
    Deleted,
    /// Its modification time was set; for a lock: it was refreshed.
    Touched,
}

/// One change of the tree, as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The version that made it.
    pub version: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// The entry's path after the change; for a deletion the path it had.
    pub path: ConfigPath,
    /// The path before a rename.
    pub from: Option<ConfigPath>,
    /// The entry's number.
    pub inode: u64,
    /// The entry that a rename replaced, or the deleted one.
    pub removed: Option<u64>,
    /// Node id of who did it; 0 stand-alone.
    pub writer: u32,
    /// The writer's clock, whole UTC seconds.
    pub mtime: u32,
    /// Who asked for it, as the writer's node tells it.
    pub caller: Option<Arc<str>>,
    /// Whether the next version belongs to the same transaction: both happened at once.
    pub more: bool,
}

/// One version of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The epoch it was written in.
    pub epoch: Epoch,
    /// Hash of the history up to and with this version.
    pub chain: ChainHash,
    /// The request that asked for it.
    pub request: RequestId,
    /// What it did.
    pub change: Change,
}

impl Record {
    /// The records of what an operation did, one for each version, after a history of hash `previous`.
    pub(crate) fn of(
        epoch: Epoch,
        previous: &ChainHash,
        envelope: &Envelope,
        head: &[u8],
        steps: &[Step],
    ) -> Vec<Self> {
        let digests = Digests::of(head, &envelope.operation.content());
        let caller = envelope.extensions.caller();
        let mut chain = *previous;
        let record = |(index, step): (usize, &Step)| {
            let effect = &step.effect;
            let change = Change {
                version: effect.version,
                kind: effect.kind,
                path: step.path.clone(),
                from: step.from.clone(),
                inode: effect.inode,
                removed: effect.removed,
                writer: envelope.origin,
                mtime: envelope.mtime,
                caller: caller.clone(),
                more: index + 1 < steps.len(),
            };
            chain = digests.chain(&chain, epoch, effect.version);
            Self { epoch, chain, request: envelope.request, change }
        };
        steps.iter().enumerate().map(record).collect()
    }

    /// The version of the record.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.change.version
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        self.encode_to(&mut out);
        out.freeze()
    }

    pub(crate) fn encode_to(&self, out: &mut BytesMut) {
        let change = &self.change;
        out.put_u64_le(change.version);
        out.put_epoch(self.epoch);
        out.put_slice(&self.chain);
        out.put_slice(&self.request.0);
        let extended = change.caller.is_some() || change.more;
        out.put_u8(kind_code(change.kind) | if extended { EXTENDED } else { 0 });
        out.put_u64_le(change.inode);
        out.put_u64_le(change.removed.unwrap_or_default());
        out.put_u32_le(change.writer);
        out.put_u32_le(change.mtime);
        out.put_path(&change.path);
        out.put_path(change.from.as_ref().unwrap_or(&ConfigPath::root()));
        if extended {
            out.put_u8(change.more.into());
            out.put_short(change.caller.as_deref().unwrap_or_default().as_bytes());
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, WireError> {
        let version = reader.u64()?;
        let epoch = reader.epoch()?;
        let chain = reader.array()?;
        let request = RequestId(reader.array()?);
        let code = reader.u8()?;
        let mut change = Change {
            version,
            kind: change_kind(code & !EXTENDED)?,
            inode: reader.u64()?,
            removed: Some(reader.u64()?).filter(|inode| *inode != 0),
            writer: reader.u32()?,
            mtime: reader.u32()?,
            path: reader.path()?,
            from: Some(reader.path()?).filter(|from| !from.is_root()),
            caller: None,
            more: false,
        };
        if code & EXTENDED != 0 {
            change.more = reader.flag("more")?;
            change.caller = Some(reader.text("caller")?).filter(|caller| !caller.is_empty()).map(Arc::from);
        }
        Ok(Self { epoch, chain, request, change })
    }
}

/// Set in the kind of a record that has a caller, or belongs together with the next one.
const EXTENDED: u8 = 0x80;

fn kind_code(kind: ChangeKind) -> u8 {
    match kind {
        ChangeKind::Created(Kind::File) => 1,
        ChangeKind::Created(Kind::Directory) => 2,
        ChangeKind::Written => 3,
        ChangeKind::Renamed => 4,
        ChangeKind::Deleted => 5,
        ChangeKind::Touched => 6,
    }
}

fn change_kind(code: u8) -> Result<ChangeKind, WireError> {
    Ok(match code {
        1 => ChangeKind::Created(Kind::File),
        2 => ChangeKind::Created(Kind::Directory),
        3 => ChangeKind::Written,
        4 => ChangeKind::Renamed,
        5 => ChangeKind::Deleted,
        6 => ChangeKind::Touched,
        value => return Err(WireError::Unknown { what: "change kind", value: value.into() }),
    })
}

/// An operation as it goes into the hash of the history: hashed once, however many versions it makes.
struct Digests {
    head: [u8; 32],
    content: [u8; 32],
}

impl Digests {
    fn of(head: &[u8], content: &[u8]) -> Self {
        Self { head: Sha256::digest(head).into(), content: Sha256::digest(content).into() }
    }

    fn chain(&self, previous: &ChainHash, epoch: Epoch, version: u64) -> ChainHash {
        let mut hash = Sha256::new();
        hash.update(previous);
        let mut place = BytesMut::with_capacity(24);
        place.put_epoch(epoch);
        place.put_u64_le(version);
        hash.update(&place);
        hash.update(self.head);
        hash.update(self.content);
        hash.finalize().into()
    }
}

/// The last [`LOG_WINDOW`] versions of the history, without gaps.
#[derive(Debug, Clone)]
pub struct Log {
    records: VecDeque<Record>,
    requests: BTreeMap<RequestId, u64>,
    tip: u64,
    chain: ChainHash,
}

/// The log does not reach back far enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("versions before {oldest} are no longer kept")]
pub struct Compacted {
    /// The oldest version that can still be asked for.
    pub oldest: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self::new(EMPTY_VERSION, [0; 32])
    }
}

impl Log {
    /// An empty log of a history that ends at `tip` with this hash.
    #[must_use]
    pub fn new(tip: u64, chain: ChainHash) -> Self {
        Self { records: VecDeque::new(), requests: BTreeMap::new(), tip, chain }
    }

    /// Appends the next version. Returns the version that fell out of the window, if any.
    ///
    /// # Panics
    /// If the record is not of the version after the tip: history has no gaps.
    pub fn push(&mut self, record: Record) -> Option<u64> {
        assert_eq!(record.version(), self.tip + 1, "history has no gaps");
        self.tip = record.version();
        self.chain = record.chain;
        self.requests.insert(record.request, record.version());
        self.records.push_back(record);
        if self.records.len() as u64 <= LOG_WINDOW {
            return None;
        }
        let old = self.records.pop_front()?;
        if self.requests.get(&old.request) == Some(&old.version()) {
            self.requests.remove(&old.request);
        }
        Some(old.version())
    }

    /// The last version of the history.
    #[must_use]
    pub fn tip(&self) -> u64 {
        self.tip
    }

    /// Hash of the whole history.
    #[must_use]
    pub fn chain(&self) -> &ChainHash {
        &self.chain
    }

    /// The oldest version in the log; one more than the tip if it is empty.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.tip + 1 - self.records.len() as u64
    }

    /// The record of a version, if it is in the window.
    #[must_use]
    pub fn get(&self, version: u64) -> Option<&Record> {
        let index = version.checked_sub(self.first())?;
        self.records.get(usize::try_from(index).ok()?)
    }

    /// The last record that a request made, if it is in the window.
    #[must_use]
    pub fn find(&self, request: &RequestId) -> Option<&Record> {
        self.get(*self.requests.get(request)?)
    }

    /// All records after a version, oldest first.
    pub fn after(&self, version: u64) -> impl Iterator<Item = &Record> {
        let skip = version.saturating_add(1).saturating_sub(self.first());
        self.records.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// The changes from version `from` + 1 up to `to`, oldest first.
    ///
    /// # Errors
    /// [`Compacted`] when some of them are no longer kept.
    pub fn changes(&self, from: u64, to: u64) -> Result<Vec<Change>, Compacted> {
        if from.saturating_add(1) < self.first() {
            return Err(Compacted { oldest: self.first() });
        }
        let records = self.after(from).take_while(|record| record.version() <= to);
        Ok(records.map(|record| record.change.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: u64) -> Record {
        let mut request = [0; 16];
        request[..8].copy_from_slice(&version.to_le_bytes());
        Record {
            epoch: Epoch { seq: 4, rep: 1, round: 0 },
            chain: [version as u8; 32],
            request: RequestId(request),
            change: Change {
                version,
                kind: ChangeKind::Renamed,
                path: "a/b".parse().unwrap(),
                from: Some("a/c".parse().unwrap()),
                inode: 2,
                removed: Some(9),
                writer: 1,
                mtime: 77,
                caller: None,
                more: false,
            },
        }
    }

    fn log_of(versions: u64) -> Log {
        let mut log = Log::default();
        for version in 2..=versions {
            log.push(record(version));
        }
        log
    }

    #[test]
    fn a_record_is_read_back_as_written() {
        let written = record(5);
        let read = Record::decode(&mut Reader::new(written.encode()));
        assert_eq!(read, Ok(written));
    }

    #[test]
    fn caller_and_transaction_are_read_back_and_cost_nothing_where_there_is_none() {
        let plain = record(5).encode();
        for (caller, more) in [(Some("root@unix:4711/0"), false), (None, true), (Some("node 'hp2'"), true)] {
            let mut written = record(5);
            written.change.caller = caller.map(Arc::from);
            written.change.more = more;
            assert!(written.encode().len() > plain.len());
            assert_eq!(Record::decode(&mut Reader::new(written.encode())), Ok(written));
        }
    }

    #[test]
    fn the_window_is_bounded_and_the_oldest_request_forgotten() {
        let mut log = log_of(LOG_WINDOW + 1);
        assert_eq!((log.first(), log.tip()), (2, LOG_WINDOW + 1));
        assert!(log.find(&record(2).request).is_some());

        let dropped = log.push(record(LOG_WINDOW + 2));

        assert_eq!(dropped, Some(2));
        assert!(log.find(&record(2).request).is_none());
        assert_eq!(log.find(&record(3).request).unwrap().version(), 3);
    }

    #[test]
    fn changes_resume_at_any_version_that_is_kept() {
        let log = log_of(LOG_WINDOW + 10);
        let oldest = log.first();
        assert_eq!(log.changes(oldest - 1, oldest + 1).unwrap().len(), 2);
        assert_eq!(log.changes(oldest - 2, oldest), Err(Compacted { oldest }));
        assert_eq!(log.changes(log.tip(), log.tip()).unwrap(), []);
        assert_eq!(log.changes(log.tip() + 5, log.tip() + 9).unwrap(), []);
    }

    #[test]
    #[should_panic(expected = "history has no gaps")]
    fn a_gap_is_a_broken_invariant() {
        Log::default().push(record(7));
    }
}
