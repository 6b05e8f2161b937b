//! Named tasks under one roof: one that ends early ends the daemon.

use std::{any::Any, future::Future, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long tasks may take to finish once the daemon is to stop; what still runs then is dropped.
pub const GRACE: Duration = Duration::from_secs(10);

/// A boxed error of a task.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The tasks of a daemon.
///
/// A half-alive daemon is worse than a dead one: a task that ends before shutdown takes the others
/// down with it, in an orderly way, and [`Tasks::run`] says which one it was.
#[must_use = "the tasks are dropped with this; await `run`"]
pub struct Tasks {
    set: JoinSet<Ended>,
    shutdown: CancellationToken,
    grace: Duration,
}

struct Ended {
    name: &'static str,
    how: Result<(), BoxError>,
}

/// Why a daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task gave up.
    #[error("task '{task}' failed")]
    Failed {
        /// Its name.
        task: &'static str,
        /// What it said.
        source: BoxError,
    },
    /// A task ended although nobody asked it to.
    #[error("task '{task}' ended before the daemon was to stop")]
    EndedEarly {
        /// Its name.
        task: &'static str,
    },
    /// A task panicked: an invariant is broken.
    #[error("a task panicked: {message}")]
    Panicked {
        /// The message of the panic.
        message: String,
    },
}

/// What a task may return: nothing, or a result.
pub trait Outcome {
    /// As a result with a boxed error.
    ///
    /// # Errors
    /// The task's own error, boxed.
    fn into_result(self) -> Result<(), BoxError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

impl Tasks {
    /// No tasks yet; `shutdown` is cancelled when one of them ends, and ends them when it is cancelled.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { set: JoinSet::new(), shutdown, grace: GRACE }
    }

    /// Allows the tasks another time than [`GRACE`] to finish.
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts a task. It must end by itself soon after the token is cancelled.
    pub fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        self.set.spawn(async move { Ended { name, how: task.await.into_result() } });
    }

    /// Waits until the token is cancelled or a task ends, then until all have ended.
    ///
    /// # Errors
    /// The first [`TaskError`], if any.
    pub async fn run(mut self) -> Result<(), TaskError> {
        let mut first = None;
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {}
            Some(ended) = self.set.join_next() => {
                first = Some(error_of(ended, true));
                self.shutdown.cancel();
            }
        }
        let mut first = first.flatten();
        let deadline = tokio::time::Instant::now() + self.grace;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.set.join_next()).await {
            if let Some(err) = error_of(ended, false) {
                first.get_or_insert(err);
            }
        }
        if !self.set.is_empty() {
            tracing::warn!(tasks = self.set.len(), grace = ?self.grace, "tasks did not end in time and are dropped");
        }
        first.map_or(Ok(()), Err)
    }
}

fn error_of(ended: Result<Ended, tokio::task::JoinError>, early: bool) -> Option<TaskError> {
    let error = match ended {
        Ok(Ended { name, how: Ok(()) }) => early.then_some(TaskError::EndedEarly { task: name }),
        Ok(Ended { name, how: Err(source) }) => Some(TaskError::Failed { task: name, source }),
        Err(join) if join.is_panic() => {
            Some(TaskError::Panicked { message: panic_message(join.into_panic().as_ref()) })
        }
        Err(_) => None,
    };
    if let Some(error) = &error {
        tracing::error!(error = crate::telemetry::chain(error), "task ended");
    }
    error
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[tokio::test]
    async fn cancelling_the_token_ends_all_tasks_without_an_error() {
        let shutdown = CancellationToken::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("a", shutdown.clone().cancelled_owned());
        tasks.spawn("b", shutdown.clone().cancelled_owned());

        shutdown.cancel();

        assert!(tasks.run().await.is_ok());
    }

    #[tokio::test]
    async fn a_task_that_ends_early_ends_the_others_and_is_named() {
        let shutdown = CancellationToken::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("waits", shutdown.clone().cancelled_owned());
        tasks.spawn("ends", async {});

        let err = tasks.run().await.unwrap_err();

        assert!(matches!(err, TaskError::EndedEarly { task: "ends" }));
        assert!(shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn a_failed_task_keeps_its_error_as_the_cause() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("disk", async { Err::<(), _>(io::Error::other("full")) });

        let err = tasks.run().await.unwrap_err();

        assert_eq!(crate::telemetry::chain(&err), "task 'disk' failed: full");
    }

    #[tokio::test]
    async fn a_panic_ends_the_daemon() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("driver", async { std::iter::empty::<()>().next().expect("votes below zero") });

        let err = tasks.run().await.unwrap_err();

        assert_eq!(err.to_string(), "a task panicked: votes below zero");
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_dropped_after_the_grace_period() {
        let shutdown = CancellationToken::new();
        let mut tasks = Tasks::new(shutdown.clone()).with_grace(Duration::from_millis(20));
        tasks.spawn("stuck", std::future::pending::<()>());

        shutdown.cancel();

        assert!(tasks.run().await.is_ok());
    }
}
