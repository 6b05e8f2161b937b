//! A locker: a lock is a file that only one can create. Its name for the cluster is its value, so that a locker that
//! never heard an answer can see later whether it holds the lock.
//!
//! A call without an answer is repeated with the same request id, at another node each time: it must happen once.

use std::{collections::BTreeSet, sync::Arc};

use rand::{Rng as _, seq::IndexedRandom as _};

use super::{BACKOFF_MS, DIRECTORY, LOCKS, PAUSE_MS, Worker};
use crate::{
    client::Client,
    linear::{Answer, Call, Expect, Value},
    record::{Event, Held},
};

/// How often a call is repeated.
const ATTEMPTS: usize = 4;

/// Locks and unlocks until it is told to stop.
pub(super) async fn work(mut worker: Worker, nodes: Vec<Arc<dyn Client>>) {
    let mut own: BTreeSet<Value> = BTreeSet::new();
    let mut pause = PAUSE_MS;
    while worker.rest(pause.clone()).await {
        pause = PAUSE_MS;
        let lock = format!("{DIRECTORY}/lock{}", worker.random.random_range(0..LOCKS));
        let value = worker.recorder.number();
        own.insert(value);
        let call = Call::Put { expect: Expect::Absent, value };
        let version = match repeat(&mut worker, &nodes, &lock, call).await {
            Answer::Done { version: Some(version) } => version,
            answer => {
                // Perhaps it is this locker's own, from a call that was never answered.
                let Answer::Found { value, version: Some(version) } = worker.get(&lock, true).await else {
                    if answer != Answer::Unexpected {
                        pause = BACKOFF_MS;
                    }
                    continue;
                };
                if !own.contains(&value) {
                    pause = BACKOFF_MS;
                    continue;
                }
                version
            }
        };
        hold(&mut worker, &nodes, &lock, version).await;
    }
}

/// Holds the lock for a moment and gives it back.
async fn hold(worker: &mut Worker, nodes: &[Arc<dyn Client>], lock: &str, version: u64) {
    let from = worker.recorder.now();
    worker.rest(PAUSE_MS).await;
    let until = worker.recorder.now();
    let held = Held { client: worker.name.clone(), lock: lock.to_owned(), from, until };
    worker.recorder.record(&Event::Held(held));
    repeat(worker, nodes, lock, Call::Delete { expect: Expect::Version(version) }).await;
}

/// Makes a call until it is answered; it is recorded as one.
async fn repeat(worker: &mut Worker, nodes: &[Arc<dyn Client>], path: &str, call: Call) -> Answer {
    let request = worker.random.random();
    let invoked = worker.recorder.now();
    let mut client = worker.client.clone();
    let mut open = false;
    let mut answer = Answer::Unknown;
    for _ in 0..ATTEMPTS {
        answer = client.write(path, call, request).await;
        open |= answer == Answer::Unknown;
        let settled = matches!(answer, Answer::Done { .. }) || !open;
        if settled || !worker.rest(BACKOFF_MS).await {
            break;
        }
        if let Some(other) = nodes.choose(&mut worker.random) {
            client = other.clone();
        }
    }
    // An attempt without an answer may take effect after one that was refused.
    if open && !matches!(answer, Answer::Done { .. }) {
        answer = Answer::Unknown;
    }
    worker.record(path, invoked, call, answer, None);
    answer
}
