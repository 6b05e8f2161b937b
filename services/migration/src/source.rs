//! The migrations of which this node is the source: each has a driver that owns its machine.

mod links;
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use migration_core::{
    Input, Migration, Outcome, Output, Record, Side, State, Timings,
    qmp::{self, Command},
};
use quorate_proto::migration::v1::{self as proto, MigrateResponse, migrate_response::Event};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::steps::Steps;
use crate::{
    Node,
    begin::{self, Begun},
    records,
};

/// What is told may wait for so long before who does not listen misses it.
const TOLD_MAX: usize = 256;
/// Answers that may wait for the driver: QEMU's events come in bursts of a few.
const INPUTS_MAX: usize = 256;
/// How often this node looks for migrations that a daemon before this one left.
const TAKE_UP_EVERY: Duration = Duration::from_secs(3);

/// One that is under way.
#[derive(Clone)]
struct Handle {
    id: String,
    inputs: mpsc::Sender<Input>,
}

/// Those that are under way, by guest.
#[derive(Default)]
pub(crate) struct Running {
    handles: Mutex<BTreeMap<u32, Handle>>,
    /// Guests whose migration is being checked: there is a record already, and no driver yet.
    beginning: Mutex<BTreeSet<u32>>,
}

/// A guest whose migration is being checked, until this is dropped.
pub(crate) struct Beginning<'a>(&'a Running, u32);

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        self.0.beginning.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Running {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a guest for a migration that begins; `None` if it has one.
    pub(crate) fn begin(&self, vmid: u32) -> Option<Beginning<'_>> {
        let mut beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        let free = !self.lock().contains_key(&vmid) && beginning.insert(vmid);
        free.then_some(Beginning(self, vmid))
    }

    /// Asks one to end; gives its id.
    pub(crate) async fn cancel(&self, vmid: u32) -> Option<String> {
        let handle = self.lock().get(&vmid).cloned()?;
        let _ = handle.inputs.send(Input::Cancel).await;
        Some(handle.id)
    }

    /// Whether this daemon has one under way for the guest.
    pub(crate) fn has(&self, vmid: u32) -> bool {
        let beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        beginning.contains(&vmid) || self.lock().contains_key(&vmid)
    }
}

/// What the driver owns.
struct Driver {
    node: Arc<Node>,
    machine: Migration,
    steps: Steps,
    inputs: mpsc::Receiver<Input>,
    told: broadcast::Sender<MigrateResponse>,
    started: Instant,
    /// The state that was told last.
    state: Option<State>,
}

/// Starts a driver. What happens is told to whoever holds the receiver.
pub(crate) fn start(node: Arc<Node>, begun: Begun) -> broadcast::Receiver<MigrateResponse> {
    let machine = Migration::new(Instant::now(), begun.plan.clone(), Timings::default());
    let record = begun.record.clone();
    spawn(node, machine, record, Some(begun))
}

fn spawn(
    node: Arc<Node>,
    machine: Migration,
    record: Record,
    begun: Option<Begun>,
) -> broadcast::Receiver<MigrateResponse> {
    let (sender, inputs) = mpsc::channel(INPUTS_MAX);
    let (told, receiver) = broadcast::channel(TOLD_MAX);
    let (vmid, id) = (record.vmid, record.id.clone());
    let span = tracing::info_span!("migration", vmid, id, source = record.source, target = record.target);
    node.running.lock().insert(vmid, Handle { id, inputs: sender.clone() });
    let steps = Steps::new(node.clone(), sender, record, begun);
    let driver = Driver { node, machine, steps, inputs, told, started: Instant::now(), state: None };
    tokio::spawn(driver.run().instrument(span));
    receiver
}

impl Driver {
    async fn run(mut self) {
        let vmid = self.machine.plan().vmid;
        loop {
            while let Some(output) = self.machine.poll_output() {
                if let Output::Ended(outcome) = output {
                    self.steps.forget().await;
                    self.node.running.lock().remove(&vmid);
                    self.tell_end(outcome);
                    return;
                }
                self.perform(output);
            }
            let due =
                self.machine.poll_timeout().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                input = self.inputs.recv() => {
                    let Some(input) = input else { return };
                    self.note(&input);
                    self.machine.handle_input(Instant::now(), input);
                }
                () = tokio::time::sleep_until(due.into()) => self.machine.handle_timeout(Instant::now()),
            }
        }
    }

    fn note(&self, input: &Input) {
        if !matches!(input, Input::Reply { command: Command::QueryMigrate | Command::QueryJobs, .. }) {
            tracing::debug!(?input, "input");
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Prepare => self.steps.prepare(),
            Output::Copy => self.steps.copy(),
            Output::Write(state) => self.steps.write(state),
            Output::Qmp { side: Side::Source, command } => {
                let undoing = self.machine.state() == State::Aborting;
                self.steps.to_source(command, undoing);
            }
            Output::Qmp { side: Side::Target, command } => self.steps.to_target(command),
            Output::CloseTunnel => self.steps.close_tunnel(),
            Output::Commit => self.steps.commit(),
            Output::Void => self.steps.void(),
            Output::AskOwner => self.steps.ask_owner(),
            Output::StopTarget => self.steps.stop_target(),
            Output::ResumeTarget => self.steps.resume_target(),
            Output::ReleaseSource => self.steps.release_source(),
            // With the end, which follows.
            Output::Forget | Output::Ended(_) => {}
            Output::Progress(progress) => self.tell_progress(&progress),
        }
    }

    fn tell(&self, event: Event) {
        let migration_id = self.machine.plan().id.to_string();
        // Nobody listens: it goes on all the same.
        let _ = self.told.send(MigrateResponse { migration_id, event: Some(event) });
    }

    fn tell_progress(&mut self, progress: &migration_core::Progress) {
        if self.state != Some(progress.state) {
            self.state = Some(progress.state);
            let elapsed = self.started.elapsed().as_millis();
            self.tell(Event::Message(format!("{} (after {elapsed} ms)", progress.state.as_str())));
        }
        self.tell(Event::Progress(proto::Progress {
            state: progress.state.as_str().to_owned(),
            memory_transferred: progress.ram.transferred,
            memory_remaining: progress.ram.remaining,
            memory_total: progress.ram.total,
            disk_done: progress.disk_done,
            disk_total: progress.disk_total,
        }));
    }

    fn tell_end(&self, outcome: Outcome) {
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ended = match outcome {
            Outcome::Moved { downtime_ms, transferred, problems } => {
                tracing::info!(downtime_ms, duration_ms, transferred, ?problems, "moved");
                proto::Ended {
                    moved: true,
                    downtime_ms,
                    duration_ms,
                    memory_transferred: transferred,
                    problems,
                    ..proto::Ended::default()
                }
            }
            Outcome::Stayed(failure) => {
                tracing::warn!(reason = failure.reason, message = failure.message, duration_ms, "not moved");
                let (reason, message) = (failure.reason.to_owned(), failure.message);
                proto::Ended { moved: false, reason, message, duration_ms, ..proto::Ended::default() }
            }
        };
        self.tell(Event::Ended(ended));
    }
}

/// Takes up what a daemon before this one left, again and again until shutdown.
pub(crate) async fn take_up(node: Arc<Node>, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(TAKE_UP_EVERY)).await.is_some() {
        let Ok(records) = records::all(&node.local).await else { continue };
        let own = records.into_iter().filter(|record| record.source == node.name);
        for record in own.filter(|record| !node.running.has(record.vmid)) {
            let Some(plan) = begin::plan_of(&record) else {
                tracing::warn!(
                    vmid = record.vmid,
                    "the record of a migration makes no sense and is left alone"
                );
                continue;
            };
            tracing::warn!(
                vmid = record.vmid,
                state = record.state.as_str(),
                "takes up what was left behind"
            );
            let machine = Migration::recover(Instant::now(), plan, Timings::default(), record.state);
            drop(spawn(node.clone(), machine, record, None));
        }
    }
}

/// Reads an event of QEMU.
fn event(name: &str, data: &str) -> Option<qmp::Event> {
    qmp::Event::read(name, &serde_json::from_str(data).unwrap_or_default())
}
