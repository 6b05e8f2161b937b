//! The thread that uses the disk: batches go in, completions come out, in order; now and then something is read.
//!
//! A synced write takes as long as the disk takes; meanwhile the replica goes on taking messages, and
//! everything that arrives in that time forms the next batch.

use std::{sync::Arc, thread::JoinHandle};

use config_store_core::{Batch, BatchId};
use tokio::sync::mpsc;

use crate::{
    error::Error,
    rocks::{Store, StoreError},
};

/// A batch that was written, or not.
pub(crate) type Written = (BatchId, Result<(), StoreError>);

/// What the thread is asked to do.
enum Job {
    Write(Batch),
    Read(Box<dyn FnOnce(&Store) + Send>),
}

/// The way to the thread. Dropping it waits until the thread has written what it was given and has closed the store:
/// a process that ends with an open store may be aborted by the store's own background threads.
pub(crate) struct StoreThread {
    jobs: mpsc::UnboundedSender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Starts a thread for an open store; completions go to `written`.
    pub(crate) fn start(store: Arc<Store>, written: mpsc::UnboundedSender<Written>) -> Result<Self, Error> {
        // Unbounded, but the replica has never more than one batch under way, and whoever reads waits for the answer.
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    match job {
                        Job::Read(read) => read(&store),
                        Job::Write(batch) => {
                            let result = store.write(&batch);
                            if written.send((batch.id, result)).is_err() {
                                return;
                            }
                        }
                    }
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self { jobs, thread: Some(thread) })
    }

    /// Stands in while a store is closed: writes go nowhere.
    pub(crate) fn ended() -> Self {
        let (jobs, _) = mpsc::unbounded_channel();
        Self { jobs, thread: None }
    }

    pub(crate) fn write(&self, batch: Batch) {
        // The thread ends only with this handle.
        let _ = self.jobs.send(Job::Write(batch));
    }

    /// Does something with the store, between two batches. While the store is closed nothing is done, and whatever
    /// `read` would have answered on is dropped.
    pub(crate) fn read(&self, read: impl FnOnce(&Store) + Send + 'static) {
        let _ = self.jobs.send(Job::Read(Box::new(read)));
    }

    /// Waits until everything is written and the store is closed, without blocking the caller's thread.
    pub(crate) async fn close(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        // Closes the queue, which is what the thread ends on.
        self.jobs = mpsc::unbounded_channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
