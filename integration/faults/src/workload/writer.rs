//! A writer: puts, replacements of a version, creations and deletions.

use std::collections::HashMap;

use rand::Rng as _;

use super::{BACKOFF_MS, PAUSE_MS, Worker};
use crate::linear::{Answer, Call, Expect};

/// Works until it is told to stop.
pub(super) async fn work(mut worker: Worker) {
    // The versions that this writer knows for certain.
    let mut known: HashMap<String, u64> = HashMap::new();
    let mut pause = PAUSE_MS;
    while worker.rest(pause.clone()).await {
        let path = worker.file();
        let value = worker.recorder.number();
        let versions = worker.client.reads_linearizable();
        let call = match worker.random.random_range(0..10) {
            0..=3 => Call::Put { expect: Expect::Any, value },
            4..=6 if versions => {
                let Some(version) = version_of(&worker, &mut known, &path).await else { continue };
                Call::Put { expect: Expect::Version(version), value }
            }
            7 if versions => {
                let Some(version) = version_of(&worker, &mut known, &path).await else { continue };
                Call::Delete { expect: Expect::Version(version) }
            }
            8 => Call::Delete { expect: Expect::Any },
            _ => Call::Put { expect: Expect::Absent, value },
        };
        let answer = worker.write(&path, call).await;
        known.remove(&path);
        if let (Call::Put { .. }, Answer::Done { version: Some(version) }) = (call, answer) {
            known.insert(path, version);
        }
        let failed = matches!(answer, Answer::Refused | Answer::Unknown);
        pause = if failed { BACKOFF_MS } else { PAUSE_MS };
    }
}

/// The version of the last write, which may be somebody else's by now; or a fresh one.
async fn version_of(worker: &Worker, known: &mut HashMap<String, u64>, path: &str) -> Option<u64> {
    if let Some(version) = known.get(path) {
        return Some(*version);
    }
    match worker.get(path, true).await {
        Answer::Found { version, .. } => version,
        _ => None,
    }
}
