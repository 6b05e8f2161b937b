//! The thread that writes: batches go in, completions come out, in order.
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

/// The way to the thread. Dropping it ends the thread once it has written what it was given.
pub(crate) struct StoreThread {
    batches: mpsc::UnboundedSender<Batch>,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Starts a thread for an open store; completions go to `written`.
    pub(crate) fn start(store: Arc<Store>, written: mpsc::UnboundedSender<Written>) -> Result<Self, Error> {
        // Unbounded, but the replica has never more than one batch under way.
        let (batches, mut queue) = mpsc::unbounded_channel::<Batch>();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                while let Some(batch) = queue.blocking_recv() {
                    let result = store.write(&batch);
                    if written.send((batch.id, result)).is_err() {
                        return;
                    }
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self { batches, thread: Some(thread) })
    }

    /// Stands in while a store is closed: writes go nowhere.
    pub(crate) fn ended() -> Self {
        let (batches, _) = mpsc::unbounded_channel();
        Self { batches, thread: None }
    }

    pub(crate) fn write(&self, batch: Batch) {
        // The thread ends only with this handle.
        let _ = self.batches.send(batch);
    }

    /// Waits until everything is written and the store is closed.
    pub(crate) async fn close(mut self) {
        let thread = self.thread.take();
        drop(self);
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}
