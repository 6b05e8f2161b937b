//! A reader: of the cluster's newest, or of what its node has.

use super::{BACKOFF_MS, PAUSE_MS, Worker};
use crate::linear::Answer;

/// Reads until it is told to stop.
pub(super) async fn work(mut worker: Worker, fresh: bool) {
    let mut pause = PAUSE_MS;
    while worker.rest(pause.clone()).await {
        let path = worker.file();
        let answer = worker.get(&path, fresh).await;
        pause = if answer == Answer::Unknown { BACKOFF_MS } else { PAUSE_MS };
    }
}
