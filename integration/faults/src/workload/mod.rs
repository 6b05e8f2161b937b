//! What clients do all the time: write, read, watch and lock a few files, so that their calls interleave.

mod locker;
mod reader;
mod watcher;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use playground::Node;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, GrpcClient, MountClient},
    lab::Lab,
    linear::{Answer, Call},
    record::{Called, Event, Local, Recorder},
};

/// Where the files lie.
pub const DIRECTORY: &str = "faults";
/// How many files all writers share.
const FILES: usize = 5;
/// How many locks all lockers share.
const LOCKS: usize = 2;
/// Writers of each node.
const WRITERS: usize = 2;
/// Between two calls of a client, in milliseconds: less than a partition, more than a call.
const PAUSE_MS: std::ops::Range<u64> = 5..60;
/// After a call that failed, in milliseconds: the record would be full of refusals.
const BACKOFF_MS: std::ops::Range<u64> = 50..250;

/// The paths of all files, locks among them.
#[must_use]
pub fn paths() -> Vec<String> {
    let files = (0..FILES).map(|number| format!("{DIRECTORY}/f{number}"));
    files.chain((0..LOCKS).map(|number| format!("{DIRECTORY}/lock{number}"))).collect()
}

/// What a client needs to do its work.
pub(crate) struct Worker {
    name: String,
    client: Arc<dyn Client>,
    /// The node, to see which process answers.
    node: Node,
    recorder: Recorder,
    random: ChaCha8Rng,
    stop: CancellationToken,
}

impl Worker {
    /// Waits a little; false if the work is over.
    async fn rest(&mut self, range: std::ops::Range<u64>) -> bool {
        let pause = Duration::from_millis(self.random.random_range(range));
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    fn file(&mut self) -> String {
        format!("{DIRECTORY}/f{}", self.random.random_range(0..FILES))
    }

    fn record(&self, path: &str, invoked: u64, call: Call, answer: Answer, local: Option<Local>) {
        let (id, returned) = (self.recorder.number(), self.recorder.now());
        let (client, node) = (self.name.clone(), self.client.node().to_owned());
        let path = path.to_owned();
        let called = Called { id, client, node, path, invoked, returned, call, answer, local };
        self.recorder.record(&Event::Called(called));
    }

    /// A read; one that failed is not recorded.
    async fn get(&self, path: &str, fresh: bool) -> Answer {
        let fresh = fresh && self.client.reads_linearizable();
        let process = || self.node.pid("configd");
        let before = (!fresh).then(process).flatten();
        let invoked = self.recorder.now();
        let answer = self.client.get(path, fresh).await;
        let local = (!fresh).then(|| Local { process: before.filter(|before| process() == Some(*before)) });
        if answer != Answer::Unknown {
            self.record(path, invoked, Call::Get, answer, local);
        }
        answer
    }

    async fn write(&mut self, path: &str, call: Call) -> Answer {
        let request = self.random.random();
        let invoked = self.recorder.now();
        let answer = self.client.write(path, call, request).await;
        self.record(path, invoked, call, answer, None);
        answer
    }
}

/// Everything at work. Dropping it ends it.
pub struct Workload {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    watching: CancellationToken,
    watchers: JoinSet<()>,
    /// By node: up to which version its watcher was told.
    told: Vec<Arc<AtomicU64>>,
}

impl Workload {
    /// Starts all clients.
    ///
    /// # Errors
    /// If clients are to use the nodes' mounts and there are none.
    pub fn start(lab: &Lab, recorder: &Recorder, seed: u64, mounts: bool) -> std::io::Result<Self> {
        let (stop, watching) = (CancellationToken::new(), CancellationToken::new());
        let mut workload =
            Self { stop, tasks: JoinSet::new(), watching, watchers: JoinSet::new(), told: Vec::new() };
        let all: Vec<Arc<dyn Client>> = lab.nodes().iter().map(|node| grpc(node, 1)).collect();
        let mut number = 0;
        for node in lab.nodes() {
            let mut worker = |kind: &str, client: Arc<dyn Client>| {
                number += 1;
                Worker {
                    name: format!("{kind}-{number}"),
                    client,
                    node: node.clone(),
                    recorder: recorder.clone(),
                    random: ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(number)),
                    stop: workload.stop.clone(),
                }
            };
            for index in 0..WRITERS {
                let client =
                    if mounts && index == 0 { Arc::new(MountClient::new(node)?) } else { grpc(node, index) };
                workload.tasks.spawn(writer::work(worker("writer", client)));
            }
            let local: Arc<dyn Client> =
                if mounts { Arc::new(MountClient::new(node)?) } else { grpc(node, 0) };
            workload.tasks.spawn(reader::work(worker("reader", grpc(node, 0)), true));
            workload.tasks.spawn(reader::work(worker("local-reader", local), false));
            workload.tasks.spawn(locker::work(worker("locker", grpc(node, 0)), all.clone()));
            let told = Arc::new(AtomicU64::new(0));
            workload.told.push(told.clone());
            let (node, recorder) = (node.clone(), recorder.clone());
            workload.watchers.spawn(watcher::work(node, recorder, told, workload.watching.clone()));
        }
        Ok(workload)
    }

    /// Lets every client finish its call; watchers go on.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Waits until every watcher was told up to a version, as long as that may take, and ends them.
    pub async fn stop_watching(&mut self, version: u64, patience: Duration) {
        let told = || self.told.iter().all(|told| told.load(Ordering::Relaxed) >= version);
        let all_told = async {
            let mut every = tokio::time::interval(Duration::from_millis(50));
            while !told() {
                every.tick().await;
            }
        };
        // Whether they were is judged from the record.
        let _ = tokio::time::timeout(patience, all_told).await;
        self.watching.cancel();
        while self.watchers.join_next().await.is_some() {}
    }
}

/// Some clients ask configd itself, others through the gateway.
fn grpc(node: &Node, index: usize) -> Arc<dyn Client> {
    let daemon = if index.is_multiple_of(2) { "configd" } else { "gatewayd" };
    Arc::new(GrpcClient::new(node, daemon))
}
