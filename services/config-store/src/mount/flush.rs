//! Sending what waits: one file at a time, each in the order in which it was written.
//!
//! Usually it is one operation. Where it must be more than one, it is one all the same as long as nobody else changed
//! the file: the whole content, on condition that its version is still the one it was written on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use config_store_core::{Applied, ConfigPath, Expect, Operation, OperationError, Tree};
use fuser::Errno;
use tracing::Instrument as _;

use super::{
    errno::Refused,
    files::{File, Handle, Home},
    inodes::Key,
    notices::Job,
    pending::Pending,
    shared::{Shared, Table, path_of, span},
};
use crate::{conf_guard::COROSYNC_CONF, error::Error};

/// How long what was written may wait while the file stays open.
const HOLD: Duration = Duration::from_secs(1);

/// What is sent of one file.
#[derive(Debug)]
struct Batch {
    path: ConfigPath,
    pending: Pending,
    content: Bytes,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A file that is not in the tree yet.
    New { at: Key, emptied: bool },
    /// A file of the tree with the version that it has.
    Old { version: u64 },
}

impl Shared {
    /// Sends what waits of a file when some time has passed, unless it was sent by then.
    pub(super) fn arm(self: &Arc<Self>, ino: u64, file: &mut File) {
        if std::mem::replace(&mut file.timer, true) {
            return;
        }
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(HOLD).await;
            if let Some(file) = shared.table().files.get_mut(ino) {
                file.timer = false;
            }
            shared.flush(ino).await;
        });
    }

    /// Sends all that waits of a file. What comes of it, its handles are told: see [`Self::outcome`].
    pub(super) async fn flush(self: &Arc<Self>, ino: u64) {
        let Some(turn) = self.table().files.get(ino).map(|file| Arc::clone(&file.turn)) else { return };
        let _turn = turn.lock().await;
        let batch = {
            let mut table = self.table();
            let tree = self.view.tree();
            take(&mut table, &tree, ino)
        };
        match batch {
            Ok(None) => {}
            Ok(Some(batch)) => {
                let span = span("write", &batch.path);
                let sent = self.send(&batch).instrument(span).await;
                self.sent(ino, &batch, sent);
            }
            Err(refused) => {
                let errno = self.refuse("write", self.path_text(ino), &refused);
                fail(&mut self.table(), ino, errno);
            }
        }
        self.table().files.tidy(ino);
    }

    /// Whether what was written through a handle has become part of the tree.
    pub(super) fn outcome(&self, handle: u64) -> Result<(), Refused> {
        match self.table().files.failure(handle) {
            Some(errno) => Err(Refused::Earlier(errno)),
            None => Ok(()),
        }
    }

    /// The file of a handle that may write, if something of it waits or failed.
    pub(super) fn unsettled(&self, handle: u64) -> Option<u64> {
        let table = self.table();
        let Some(Handle::File { ino, writes: true, told }) = table.files.handle(handle) else { return None };
        let file = table.files.get(*ino)?;
        (file.is_dirty() || file.failures > *told).then_some(*ino)
    }

    async fn send(&self, batch: &Batch) -> Result<Option<u64>, Refused> {
        let applied = match &batch.kind {
            Kind::New { emptied, .. } => Some(self.send_new(batch, *emptied).await?),
            Kind::Old { version } => self.send_old(batch, *version).await?,
        };
        if let Some(mtime) = batch.pending.mtime {
            self.commit(Operation::SetMtime { path: batch.path.clone(), mtime }).await?;
        }
        Ok(applied.map(|applied| applied.inode))
    }

    async fn send_new(&self, batch: &Batch, emptied: bool) -> Result<Applied, Refused> {
        match self.commit(batch.put(Expect::Absent)).await {
            // Another node was faster: as if it had been there when it was opened.
            Err(Refused::Write(Error::Entry(OperationError::AlreadyExists { .. }))) if emptied => {
                self.commit(batch.put(Expect::Any)).await
            }
            Err(Refused::Write(Error::Entry(OperationError::AlreadyExists { path }))) => {
                let size = self.view.tree().get(&path).map_or(0, |entry| entry.content().len());
                let mut pending = batch.pending.clone();
                pending.rebase(size);
                let exists = || Refused::Write(Error::Entry(OperationError::AlreadyExists { path }));
                self.send_pieces(&batch.path, &pending).await?.ok_or_else(exists)
            }
            committed => committed,
        }
    }

    async fn send_old(&self, batch: &Batch, version: u64) -> Result<Option<Applied>, Refused> {
        // What may become the cluster's corosync.conf is judged as a whole.
        if batch.path.as_str() == COROSYNC_CONF {
            return self.commit(batch.put(Expect::Any)).await.map(Some);
        }
        if batch.pending.pieces().len() > 1 {
            match self.commit(batch.put(Expect::Version(version))).await {
                Err(Refused::Write(Error::Entry(OperationError::Changed { .. }))) => {}
                committed => return committed.map(Some),
            }
        }
        self.send_pieces(&batch.path, &batch.pending).await
    }

    async fn send_pieces(&self, path: &ConfigPath, pending: &Pending) -> Result<Option<Applied>, Refused> {
        let mut last = None;
        for piece in pending.pieces() {
            let operation = Operation::Write {
                path: path.clone(),
                offset: u32::try_from(piece.offset).map_err(|_| Refused::TooLarge)?,
                truncate: piece.truncate,
                content: piece.content,
            };
            last = Some(self.commit(operation).await?);
        }
        Ok(last)
    }

    /// Books what became of it.
    fn sent(&self, ino: u64, batch: &Batch, sent: Result<Option<u64>, Refused>) {
        let mut jobs = Vec::new();
        let failed = sent.as_ref().err().map(|refused| self.refuse("write", &batch.path, refused));
        {
            let mut table = self.table();
            let tree = self.view.tree();
            if let Some(file) = table.files.get_mut(ino) {
                file.in_flight = None;
            }
            match (&batch.kind, sent) {
                (Kind::New { at, .. }, Ok(Some(inode))) => {
                    table.inodes.entered(ino, inode);
                    table.files.entered(ino, inode);
                    jobs.extend(table.settle(&tree, at, Some(ino)).map(Job::Entry));
                }
                (Kind::New { at, .. }, _) => {
                    table.files.lose(ino, false);
                    jobs.extend(table.settle(&tree, at, Some(ino)).map(Job::Entry));
                }
                (Kind::Old { .. }, _) => {}
            }
            if let Some(file) = table.files.get_mut(ino) {
                file.refresh(&tree);
            }
            if let Some(errno) = failed {
                fail(&mut table, ino, errno);
                // Whoever read what is not to be may have it in the kernel's pages.
                jobs.push(Job::Data(ino));
            }
        }
        self.jobs.push(jobs);
    }
}

impl Batch {
    fn put(&self, expect: Expect) -> Operation {
        Operation::Put { path: self.path.clone(), expect, content: self.content.clone() }
    }
}

fn fail(table: &mut Table, ino: u64, errno: Errno) {
    if let Some(file) = table.files.get_mut(ino) {
        file.failures += 1;
        file.failure = errno;
    }
}

/// Takes what waits of a file; it is under way from now on.
fn take(table: &mut Table, tree: &Tree, ino: u64) -> Result<Option<Batch>, Refused> {
    let Some(file) = table.files.get_mut(ino).filter(|file| file.is_dirty()) else { return Ok(None) };
    file.refresh(tree);
    let kind = match &file.home {
        Home::Unsent { at, emptied } => Some(Kind::New { at: at.clone(), emptied: *emptied }),
        Home::Tree(inode) => tree.entry(*inode).map(|entry| Kind::Old { version: entry.head().version }),
        Home::Lost => None,
    };
    let (Some(kind), Some(path)) = (kind, path_of(&file.home, tree)) else {
        let is_nobodys = file.removed_here;
        table.files.lose(ino, is_nobodys);
        return if is_nobodys { Ok(None) } else { Err(Refused::Gone) };
    };
    let content = file.content();
    let pending = std::mem::take(&mut file.pending);
    file.in_flight = Some(pending.clone());
    if let Kind::New { at, .. } = &kind {
        table.inodes.enter(at);
    }
    Ok(Some(Batch { path, pending, content, kind }))
}
