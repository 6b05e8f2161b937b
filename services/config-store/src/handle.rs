//! The way to the driver: a handle with async methods that hides the channel.

use std::time::Instant;

use bytes::Bytes;
use config_store_core::{
    Applied, ConfigPath, ConflictHeader, ConflictItem, FileVersion, KeptContent, Operation, RequestId,
    TraceContext,
};
use quorate_proto::config::v1::{Change, Conflict, Entry, GetStatusResponse};
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::Error,
    rocks::{Store, StoreError},
};

/// Calls that may wait for the driver: it answers within microseconds, so more means it is stuck.
pub(crate) const COMMANDS_MAX: usize = 1024;
/// Bursts of changes that may wait for a slow watcher.
pub(crate) const BURSTS_MAX: usize = 1024;

type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// A write as it comes from a caller.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) id: RequestId,
    pub(crate) operation: Operation,
    /// Who asks; empty if that is not known.
    pub(crate) caller: String,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) deadline: Instant,
}

/// What the driver is asked to do.
pub(crate) enum Command {
    Write {
        write: Write,
        answer: Answer<(Applied, Option<Entry>)>,
    },
    Transact {
        write: Write,
        answer: Answer<(Applied, Vec<Change>)>,
    },
    Barrier {
        deadline: Instant,
        answer: Answer<()>,
    },
    Watch {
        prefix: ConfigPath,
        after: Option<u64>,
        answer: Answer<Watch>,
    },
    Versions {
        path: ConfigPath,
        before: u64,
        limit: usize,
        answer: oneshot::Sender<Vec<FileVersion>>,
    },
    /// Something is read from the store, in its thread; whatever answers is inside.
    ReadStore {
        read: Box<dyn FnOnce(&Store) + Send>,
    },
    /// Entries of a conflict copy are gone.
    ConflictDropped {
        entries: u64,
    },
    Status {
        answer: oneshot::Sender<GetStatusResponse>,
    },
    Reload {
        discard_tree: bool,
        answer: Answer<String>,
    },
}

/// A burst of changes, and the version up to which everything has been told.
#[derive(Debug, Clone)]
pub(crate) struct Burst {
    pub(crate) changes: Vec<Change>,
    pub(crate) version: u64,
}

/// A watch: what it missed, then what comes.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Never empty: the last one has the version of the tree.
    pub(crate) backlog: Vec<Burst>,
    pub(crate) bursts: mpsc::Receiver<Result<Burst, Error>>,
}

/// The replica as the rest of the daemon sees it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReplicaHandle {
    pub(crate) commands: mpsc::Sender<Command>,
}

impl ReplicaHandle {
    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(make(answer)).await.map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)
    }

    pub(crate) async fn write(&self, write: Write) -> Result<(Applied, Option<Entry>), Error> {
        self.ask(|answer| Command::Write { write, answer }).await?
    }

    pub(crate) async fn transact(&self, write: Write) -> Result<(Applied, Vec<Change>), Error> {
        self.ask(|answer| Command::Transact { write, answer }).await?
    }

    /// After this, a read is no older than any write that was acknowledged before.
    pub(crate) async fn barrier(&self, deadline: Instant) -> Result<(), Error> {
        self.ask(|answer| Command::Barrier { deadline, answer }).await?
    }

    pub(crate) async fn watch(&self, prefix: ConfigPath, after: Option<u64>) -> Result<Watch, Error> {
        self.ask(|answer| Command::Watch { prefix, after, answer }).await?
    }

    /// Certain versions of a path below `before`, the newest first.
    pub(crate) async fn versions(
        &self,
        path: ConfigPath,
        before: u64,
        limit: usize,
    ) -> Result<Vec<FileVersion>, Error> {
        self.ask(|answer| Command::Versions { path, before, limit, answer }).await
    }

    async fn read_store<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let read = Box::new(move |store: &Store| drop(answer.send(read(store))));
        self.commands.send(Command::ReadStore { read }).await.map_err(|_| Error::Stopped)?;
        Ok(answered.await.map_err(|_| Error::Stopped)??)
    }

    /// A content of the history; `None` if it is not there any more.
    pub(crate) async fn kept_content(&self, inode: u64, kept: KeptContent) -> Result<Option<Bytes>, Error> {
        self.read_store(move |store| store.content(inode, kept)).await
    }

    pub(crate) async fn conflicts(&self) -> Result<Vec<Conflict>, Error> {
        let conflicts = self.read_store(Store::conflicts).await?;
        let conflict = |(header, entries, changes): (ConflictHeader, u64, u64)| Conflict {
            number: header.number,
            version: header.version,
            common_version: header.common,
            winner_version: header.winner_version,
            entries,
            changes,
        };
        Ok(conflicts.into_iter().map(conflict).collect())
    }

    /// Some items of a conflict copy from an index on; none at its end.
    pub(crate) async fn conflict_items(
        &self,
        number: u64,
        from: u32,
    ) -> Result<Vec<(u32, ConflictItem)>, Error> {
        self.read_store(move |store| store.conflict_items(number, from)).await
    }

    /// Removes a conflict copy; says how many entries it had.
    pub(crate) async fn drop_conflict(&self, number: u64) -> Result<u64, Error> {
        let dropped = self.read_store(move |store| store.drop_conflict(number)).await?;
        let entries = dropped.ok_or(Error::NoConflict { number })?;
        self.commands.send(Command::ConflictDropped { entries }).await.map_err(|_| Error::Stopped)?;
        Ok(entries)
    }

    pub(crate) async fn status(&self) -> Result<GetStatusResponse, Error> {
        self.ask(|answer| Command::Status { answer }).await
    }

    pub(crate) async fn reload(&self, discard_tree: bool) -> Result<String, Error> {
        self.ask(|answer| Command::Reload { discard_tree, answer }).await?
    }
}
