//! Taking over the winner's state: as a delta or by index, checked before it replaces anything, in one
//! batch with the copy of what it replaces.

use std::mem;

use super::{
    Replica,
    phase::{Phase, Update},
};
use crate::{
    conflict::{self, ConflictHeader},
    entry::Entry,
    history::Adopted,
    io::Output,
    log::{Log, Record},
    message::{Message, WANT_MAX},
    sync::CatchUp,
    transfer::{History, bucket_sums},
    tree::{ReplaceError, Replacement, Touched, Tree},
};

/// Why the winner's state could not be taken over as it came.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdoptError {
    #[error("the transfer is incomplete")]
    Incomplete,
    #[error("the entries make no tree")]
    Tree(#[source] ReplaceError),
    #[error("the result is not the winner's tree")]
    Checksum,
}

/// The winner's state, ready to replace this one.
struct Adoption {
    history: History,
    tree: Tree,
    log: Log,
    changed: Vec<u64>,
    removed: Vec<u64>,
}

impl Replica {
    fn update(&mut self) -> Result<&mut Update, AdoptError> {
        match &mut self.phase {
            Phase::Update(update) => Ok(update),
            _ => Err(AdoptError::Incomplete),
        }
    }

    pub(super) fn ask_for_index(&mut self, all: bool) {
        let sums = if all { Vec::new() } else { bucket_sums(&self.tree) };
        let Phase::Update(update) = &mut self.phase else { return };
        update.asked_for_all = all;
        let round = update.round;
        self.send_control(Message::IndexRequest { round, sums });
    }

    /// The index is complete: asks for what is missing, or is done if nothing is.
    pub(super) fn compare_index(&mut self) -> Result<(), AdoptError> {
        let Phase::Update(update) = &mut self.phase else { return Err(AdoptError::Incomplete) };
        let (wanted, surplus) = update.received.compare(&self.tree);
        update.surplus = surplus;
        let round = update.round;
        if wanted.is_empty() {
            return self.adopt_index();
        }
        let pieces = wanted.chunks(WANT_MAX);
        let count = pieces.len();
        for (index, inodes) in pieces.enumerate() {
            let last = index + 1 == count;
            self.send_bulk(Message::Want { round, last, inodes: inodes.to_vec() });
        }
        Ok(())
    }

    /// This replica is a prefix of the winner's history: adds what came after its version.
    pub(super) fn adopt_delta(&mut self) -> Result<(), AdoptError> {
        let since = self.tree.version();
        let received = mem::take(&mut self.update()?.received);
        let history = received.history.ok_or(AdoptError::Incomplete)?;
        let records = received.records.into_iter().filter(|record| record.version() > since);
        let records: Vec<Record> = records.collect();
        let removed: Vec<u64> = records.iter().filter_map(|record| record.change.removed).collect();
        let entries = received.entries.into_iter().filter(|entry| entry.head().version > since).collect();
        let log = extended(self.log.clone(), records)?;
        let adoption = self.prepare(history, log, entries, removed)?;
        self.stats.deltas_adopted += 1;
        self.adopt(adoption);
        Ok(())
    }

    /// This replica diverged or is far behind: replaces what the index showed to be different, and keeps
    /// aside what it wrote beyond the common history.
    pub(super) fn adopt_index(&mut self) -> Result<(), AdoptError> {
        let update = self.update()?;
        let received = mem::take(&mut update.received);
        let surplus = mem::take(&mut update.surplus);
        let history = received.history.ok_or(AdoptError::Incomplete)?;
        let first = received.records.first().map_or(history.root.version.saturating_add(1), Record::version);
        let base = Log::new(first.saturating_sub(1), history.chain);
        let log = extended(base, received.records)?;
        let adoption = self.prepare(history, log, received.entries, surplus)?;
        self.stats.indexes_adopted += 1;
        self.keep_conflict(&adoption);
        self.adopt(adoption);
        Ok(())
    }

    fn prepare(
        &mut self,
        history: History,
        log: Log,
        entries: Vec<Entry>,
        removed: Vec<u64>,
    ) -> Result<Adoption, AdoptError> {
        let changed = entries.iter().map(Entry::inode).collect();
        let own = |entry: Entry| match self.tree.entry(entry.inode()) {
            Some(own) => entry.stored_as(own),
            None => entry,
        };
        let entries = entries.into_iter().map(own).collect();
        let replacement = Replacement { root: history.root, entries, removed: removed.clone() };
        let tree = self.tree.replaced(replacement).map_err(AdoptError::Tree)?;
        let target = &self.update()?.target;
        let same = tree.checksum() == target.checksum && *log.chain() == target.chain;
        if !same || log.tip() != tree.version() {
            return Err(AdoptError::Checksum);
        }
        Ok(Adoption { history, tree, log, changed, removed })
    }

    fn keep_conflict(&mut self, adoption: &Adoption) {
        let Phase::Update(update) = &self.phase else { return };
        let CatchUp::Index { common } = update.catch_up else { return };
        let version = self.tree.version();
        let diverged = update.diverged;
        if version <= common && !diverged {
            return;
        }
        let header = ConflictHeader {
            number: self.conflicts,
            epoch: self.epoch,
            version,
            common,
            winner_epoch: adoption.history.epoch,
            winner_version: adoption.tree.version(),
        };
        let replaced = [adoption.changed.as_slice(), adoption.removed.as_slice()].concat();
        let also = if diverged { replaced.as_slice() } else { &[] };
        let paths = conflict::keep(&mut self.builder, &header, also, &self.tree, &self.log);
        self.conflicts += 1;
        self.stats.conflicts_kept += 1;
        tracing::warn!(node = %self.settings.node, version, common, entries = paths.len(), "conflict copy kept");
        self.outputs.push_back(Output::ConflictKept { header, paths });
        if self.committed > common {
            self.committed = adoption.tree.version();
            self.outputs.push_back(Output::WatchReset { version: self.committed });
        }
    }

    fn adopt(&mut self, adoption: Adoption) {
        let Adoption { history, tree, log, changed, removed } = adoption;
        let removed: Vec<u64> = removed.into_iter().filter(|inode| tree.entry(*inode).is_none()).collect();
        removed.iter().for_each(|inode| self.builder.delete_entry(*inode));
        let common = match &self.phase {
            Phase::Update(update) => match update.catch_up {
                CatchUp::Index { common } => common,
                _ => self.tree.version(),
            },
            _ => self.tree.version(),
        };
        let touched = changed.iter().chain(&removed).copied().collect();
        let adopted = Adopted { old: &self.tree, new: &tree, touched, common };
        self.history.adopted(&mut self.builder, &adopted, log.after(common).cloned());
        // After the history, which deletes contents of what was left: they may have had the places of new ones.
        for entry in changed.iter().filter_map(|inode| tree.entry(*inode)) {
            self.builder.put_entry(entry, Touched::Content);
        }
        let kept = |record: &&Record| log.get(record.version()).is_some();
        let gone = self.log.after(0).filter(|record| !kept(record)).map(Record::version);
        gone.for_each(|version| self.builder.delete_record(version));
        let new = log.after(0).filter(|record| self.log.get(record.version()) != Some(record));
        new.for_each(|record| self.builder.put_record(record));
        self.builder.put_epochs(&history.epochs);
        self.builder.touch_meta();
        let (from, version) = (self.tree.version(), tree.version());
        self.tree = tree;
        self.uncertain.replaced(&self.tree, changed.iter().chain(&removed).copied());
        self.lock_ages.forget_all();
        self.hand_out_certain();
        self.log = log;
        self.epochs = history.epochs;
        self.epoch = history.epoch;
        if let Phase::Update(update) = &mut self.phase {
            update.done = true;
        }
        self.outputs.push_back(Output::Adopted { from, version, changed, removed });
    }
}

/// A log with more records, if they follow without a gap.
fn extended(mut log: Log, records: Vec<Record>) -> Result<Log, AdoptError> {
    for record in records {
        if record.version() != log.tip() + 1 {
            return Err(AdoptError::Incomplete);
        }
        log.push(record);
    }
    Ok(log)
}
