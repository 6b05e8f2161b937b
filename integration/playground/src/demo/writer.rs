//! Writes small files through one node and keeps the list of those that were acknowledged.

use std::time::{Duration, Instant};

use quorate_daemon::client::deadline;
use quorate_proto::config::v1::{GetRequest, PutRequest, config_service_client::ConfigServiceClient};
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;

use crate::{Error, Node};

/// One file in so much time.
const PACE: Duration = Duration::from_millis(50);
/// How long a write may take until its outcome counts as unknown.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of all writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    /// Numbers of the files that are on the disks of a majority.
    pub(super) acknowledged: Vec<u64>,
    /// How many were refused: nothing was written.
    pub(super) refused: usize,
    /// How many ended without an answer: they may be there or not.
    pub(super) unknown: usize,
    /// Longest time that an acknowledged write took, with the pause before it.
    pub(super) longest_pause: Duration,
}

impl Record {
    /// How many files were acknowledged, and how many writes were refused.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.acknowledged.len(), self.refused)
    }
}

/// The writer, at work.
pub(super) struct Writer {
    /// Stops it, also when the demo ends early.
    stop: DropGuard,
    record: watch::Receiver<Record>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Starts to write through a node.
    pub(super) fn start(node: &Node) -> Self {
        let stop = CancellationToken::new();
        let (publish, record) = watch::channel(Record::default());
        let task = tokio::spawn(write(node.clone(), stop.clone(), publish));
        Self { stop: stop.drop_guard(), record, task }
    }

    /// Waits until the record is as wanted.
    ///
    /// # Errors
    /// [`Error::Timeout`] with what was wanted.
    pub(super) async fn until(
        &mut self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<(), Error> {
        let seen = tokio::time::timeout(within, self.record.wait_for(|record| wanted(record))).await;
        let is_seen = seen.is_ok_and(|seen| seen.is_ok());
        if is_seen { Ok(()) } else { Err(Error::Timeout { what: what.to_owned(), within }) }
    }

    /// What became of the writes so far.
    pub(super) fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// Stops, and says what became of all writes.
    pub(super) async fn stop(self) -> Record {
        drop(self.stop);
        self.task.await.unwrap_or_else(|broken| std::panic::resume_unwind(broken.into_panic()));
        self.record.borrow().clone()
    }
}

/// Where the file of this number lies.
fn path(number: u64) -> String {
    format!("demo/{number}")
}

/// What it holds.
fn content(number: u64) -> String {
    format!("file {number}\n")
}

async fn write(node: Node, stop: CancellationToken, publish: watch::Sender<Record>) {
    let mut client = ConfigServiceClient::new(node.gateway());
    let mut last = Instant::now();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1.. {
        if stop.run_until_cancelled(pace.tick()).await.is_none() {
            break;
        }
        let request = PutRequest {
            path: path(number),
            content: content(number).into(),
            make_parents: true,
            ..PutRequest::default()
        };
        let outcome = client.put(deadline(request, PATIENCE)).await;
        let pause = std::mem::replace(&mut last, Instant::now()).elapsed();
        publish.send_modify(|record| match outcome {
            Ok(_) => {
                record.acknowledged.push(number);
                record.longest_pause = record.longest_pause.max(pause);
            }
            Err(status) if status.code() == Code::FailedPrecondition => record.refused += 1,
            Err(_) => record.unknown += 1,
        });
    }
}

/// The acknowledged files that a node does not have, or has with another content.
pub(super) async fn missing(node: &Node, acknowledged: &[u64]) -> Vec<u64> {
    let mut client = ConfigServiceClient::new(node.gateway());
    let mut missing = Vec::new();
    for &number in acknowledged {
        let request = GetRequest { path: path(number), linearizable: false };
        let file = client.get(deadline(request, PATIENCE)).await;
        if !file.is_ok_and(|file| file.get_ref().content == content(number)) {
            missing.push(number);
        }
    }
    missing
}
