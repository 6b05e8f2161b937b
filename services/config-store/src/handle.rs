//! The way to the driver: a handle with async methods that hides the channel.

use std::time::Instant;

use config_store_core::{Applied, ConfigPath, Operation, RequestId, TraceContext};
use quorate_proto::config::v1::{Change, Entry, GetStatusResponse};
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;

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
    pub(crate) trace: Option<TraceContext>,
    pub(crate) deadline: Instant,
}

/// What the driver is asked to do.
pub(crate) enum Command {
    Write { write: Write, answer: Answer<(Applied, Option<Entry>)> },
    Barrier { deadline: Instant, answer: Answer<()> },
    Watch { prefix: ConfigPath, after: Option<u64>, answer: Answer<Watch> },
    Status { answer: oneshot::Sender<GetStatusResponse> },
    Reload { discard_tree: bool, answer: Answer<String> },
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

    /// After this, a read is no older than any write that was acknowledged before.
    pub(crate) async fn barrier(&self, deadline: Instant) -> Result<(), Error> {
        self.ask(|answer| Command::Barrier { deadline, answer }).await?
    }

    pub(crate) async fn watch(&self, prefix: ConfigPath, after: Option<u64>) -> Result<Watch, Error> {
        self.ask(|answer| Command::Watch { prefix, after, answer }).await?
    }

    pub(crate) async fn status(&self) -> Result<GetStatusResponse, Error> {
        self.ask(|answer| Command::Status { answer }).await
    }

    pub(crate) async fn reload(&self, discard_tree: bool) -> Result<String, Error> {
        self.ask(|answer| Command::Reload { discard_tree, answer }).await?
    }
}
