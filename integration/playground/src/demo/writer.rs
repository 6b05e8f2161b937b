//! Writes small files through one node and keeps the list of those that were acknowledged.

use std::time::{Duration, Instant};

use quorate_daemon::client::deadline;
use quorate_proto::config::v1::{GetRequest, PutRequest, config_service_client::ConfigServiceClient};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::Node;

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
    /// Longest time between two acknowledgements that follow each other.
    pub(super) longest_pause: Duration,
}

/// The writer, at work.
pub(super) struct Writer {
    stop: CancellationToken,
    task: JoinHandle<Record>,
}

impl Writer {
    /// Starts to write through a node.
    pub(super) fn start(node: &Node) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(write(node.clone(), stop.clone()));
        Self { stop, task }
    }

    /// Stops, and says what became of all writes.
    pub(super) async fn stop(self) -> Record {
        self.stop.cancel();
        self.task.await.unwrap_or_else(|broken| std::panic::resume_unwind(broken.into_panic()))
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

async fn write(node: Node, stop: CancellationToken) -> Record {
    let mut client = ConfigServiceClient::new(node.gateway());
    let mut record = Record::default();
    let mut last = Instant::now();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
        match client.put(deadline(request, PATIENCE)).await {
            Ok(_) => {
                record.acknowledged.push(number);
                record.longest_pause = record.longest_pause.max(last.elapsed());
                last = Instant::now();
            }
            Err(status) if status.code() == Code::FailedPrecondition => {
                record.refused += 1;
                // The pause of interest is the one that a quorate cluster makes.
                last = Instant::now();
            }
            Err(_) => record.unknown += 1,
        }
    }
    record
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
