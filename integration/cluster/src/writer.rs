//! A stream of `pvecm cfg put` through one node, and what became of each write.

use std::{collections::BTreeSet, time::Instant};

use playground::{Node, shell::Said};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{PATIENCE, cli};

/// What `pvecm` says when it is sure that a write did not happen and will not happen.
const NOT_WRITTEN: [&str; 2] = ["nothing was changed", "nothing was written"];

/// What became of all writes of a stream.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Files of which `pvecm` said that they are written.
    pub acknowledged: Vec<String>,
    /// Files of which it said that nothing was written: no quorum, for one.
    pub refused: Vec<String>,
    /// Every other failure: the file may be there or not.
    pub unknown: Vec<(String, String)>,
}

/// A writer at work: one file after the other, each with its own path as content.
pub struct Writer {
    stop: CancellationToken,
    record: watch::Receiver<Record>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Starts to write through a node, below a directory of this name.
    #[must_use]
    pub fn start(node: &Node, directory: &str) -> Self {
        let stop = CancellationToken::new();
        let (publish, record) = watch::channel(Record::default());
        let task = tokio::spawn(write(node.clone(), directory.to_owned(), stop.clone(), publish));
        Self { stop, record, task }
    }

    /// Waits until so many more files are acknowledged than now.
    pub async fn progress(&mut self, files: usize) {
        let wanted = self.record.borrow().acknowledged.len() + files;
        let started = Instant::now();
        let seen = self.record.wait_for(|record| record.acknowledged.len() >= wanted);
        let is_seen = tokio::time::timeout(PATIENCE, seen).await.is_ok_and(|seen| seen.is_ok());
        let record = self.record.borrow();
        assert!(
            is_seen,
            "gave up after {:?} waiting for {wanted} acknowledged files; last seen: {} acknowledged, {} refused, last failure {:?}",
            started.elapsed(),
            record.acknowledged.len(),
            record.refused.len(),
            record.unknown.last()
        );
    }

    /// Stops after the write that is under way, and says what became of all.
    pub async fn stop(self) -> Record {
        self.stop.cancel();
        self.task.await.expect("the writer does not panic");
        self.record.borrow().clone()
    }
}

async fn write(node: Node, directory: String, stop: CancellationToken, publish: watch::Sender<Record>) {
    let mut number = 0;
    while !stop.is_cancelled() {
        number += 1;
        let path = format!("{directory}/{number}");
        let Said { err, code, .. } = cli::pipe(&node, &path, &["cfg", "put", "-p", &path]).await;
        publish.send_modify(|record| match code {
            Some(0) => record.acknowledged.push(path),
            _ if NOT_WRITTEN.iter().any(|told| err.contains(told)) => record.refused.push(path),
            _ => record.unknown.push((path, err)),
        });
    }
}

/// The paths of all entries of a node's tree.
pub async fn paths(node: &Node) -> BTreeSet<String> {
    let listing = cli::done(node, &["cfg", "ls", "--recursive", "-o", "json"]).await;
    let entries: serde_json::Value = serde_json::from_str(&listing).expect("pvecm prints JSON");
    let entries = entries.as_array().expect("a list of entries").iter();
    entries.map(|entry| entry["path"].as_str().expect("an entry has a path").to_owned()).collect()
}

/// Checks a record against what a node has: all that was acknowledged, nothing that was refused.
pub async fn check(node: &Node, record: &Record) {
    let name = node.name();
    let there = paths(node).await;
    let lost: Vec<_> = record.acknowledged.iter().filter(|path| !there.contains(path.as_str())).collect();
    assert!(lost.is_empty(), "{name} lost acknowledged writes: {lost:?}; it has {}", there.len());
    let ghosts: Vec<_> = record.refused.iter().filter(|path| there.contains(path.as_str())).collect();
    assert!(ghosts.is_empty(), "{name} has writes that were refused: {ghosts:?}");
    for path in record.acknowledged.iter().rev().take(3) {
        assert_eq!(cli::done(node, &["cfg", "get", path]).await, *path, "content on {name}");
    }
}
