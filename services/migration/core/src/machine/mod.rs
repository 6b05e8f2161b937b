//! The machine: inputs in, outputs out, one phase at a time.
//!
//! `forward.rs` leads to the moment at which the guest stops, `switching.rs` from there to the commit, `committed.rs` to
//! the end; `rollback.rs` undoes everything that came before a commit.

mod committed;
mod forward;
mod rollback;
mod switching;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use serde_json::Value;

use self::{committed::Committed, rollback::RollingBack, switching::Switching};
use crate::{
    plan::Plan,
    qmp::{Command, Event, Ram},
    record::State,
};

/// One of the two QEMUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The one that has the guest.
    Source,
    /// The one that waits for it.
    Target,
}

/// A connection between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// The guest's memory.
    Memory,
    /// The guest's disks.
    Disks,
}

/// Why a migration does not take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable name, in UPPER_SNAKE.
    pub reason: &'static str,
    /// In one sentence.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Who owns the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The source, and this migration may still be committed.
    Source,
    /// The source, and this migration is void.
    SourceVoid,
    /// The target.
    Target,
}

/// What became of the guest on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// It goes on.
    Done,
    /// Its process is dead: the guest is stopped there.
    Gone,
    /// Nobody knows yet.
    Failed(String),
}

/// Where the sockets are through which QEMU talks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sockets {
    /// Where the source's QEMU sends the memory.
    pub source_memory: String,
    /// Where the source's QEMU finds the target's disks.
    pub source_disks: String,
    /// Where the target's QEMU takes the memory.
    pub target_memory: String,
    /// Where the target's QEMU serves its disks.
    pub target_disks: String,
}

/// The target is ready.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ready {
    /// The sockets, at both ends of the tunnel.
    pub sockets: Sockets,
    /// Names of the disks in the target's block graph, by the configuration's key.
    pub nodes: BTreeMap<String, String>,
}

/// How a write to the tree ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It took place.
    Done,
    /// It cannot take place any more: the migration in the tree is not this one.
    Mismatch,
    /// It did not take place, or nobody knows.
    Failed(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Answer to [`Output::Prepare`].
    Prepared(Result<Ready, Failure>),
    /// Answer to [`Output::Copy`].
    Copied(Result<(), Failure>),
    /// Answer to [`Output::Write`].
    Wrote(State, Result<(), String>),
    /// Answer to [`Output::Qmp`]; the error is what QEMU said.
    Reply {
        /// Whose.
        side: Side,
        /// What it answers.
        command: Command,
        /// The answer.
        result: Result<Value, String>,
    },
    /// Something happened in a QEMU.
    Event {
        /// In which.
        side: Side,
        /// What.
        event: Event,
    },
    /// A QEMU is gone, or cannot be talked to any more.
    Lost {
        /// Which.
        side: Side,
        /// Why, and what it had to say.
        why: String,
    },
    /// A connection between the nodes broke.
    Broken(Channel, String),
    /// Answer to [`Output::Commit`].
    Commit(Written),
    /// Answer to [`Output::Void`].
    Void(Written),
    /// Answer to [`Output::AskOwner`].
    Owner(Result<Owner, String>),
    /// Answer to [`Output::StopTarget`].
    TargetStopped(Result<(), String>),
    /// Answer to [`Output::ResumeTarget`].
    Resumed(Resumed),
    /// Answer to [`Output::ReleaseSource`].
    Released(Result<(), String>),
    /// Somebody wants it to end.
    Cancel,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Have the target get ready: volumes, QEMU, tunnel.
    Prepare,
    /// Copy the disks' files to the target.
    Copy,
    /// Write the state into the tree; the step that it names waits for the answer.
    Write(State),
    /// Send a command to a QEMU.
    Qmp {
        /// To which.
        side: Side,
        /// What.
        command: Command,
    },
    /// Close all connections between the nodes.
    CloseTunnel,
    /// Make the target the owner.
    Commit,
    /// Make sure that the target never becomes the owner.
    Void,
    /// Ask the cluster who owns the guest.
    AskOwner,
    /// Have the target end its QEMU and delete what was copied; answered once it is dead.
    StopTarget,
    /// Have the target let the guest go on.
    ResumeTarget,
    /// End the source's QEMU and delete its copies of the disks.
    ReleaseSource,
    /// Remove the record from the tree.
    Forget,
    /// Tell who watches.
    Progress(Progress),
    /// It is over. The last output.
    Ended(Outcome),
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub state: State,
    /// The memory.
    pub ram: Ram,
    /// Bytes of disks that are copied.
    pub disk_done: u64,
    /// Bytes of disks in all.
    pub disk_total: u64,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The guest is on the target.
    Moved {
        /// How long it was stopped as the source's QEMU saw it, in milliseconds; 0 if it did not run.
        downtime_ms: u64,
        /// Bytes of memory that were sent.
        transferred: u64,
        /// What went wrong after the commit.
        problems: Vec<String>,
    },
    /// The guest is on the source, as it was before.
    Stayed(Failure),
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Between two looks at the progress.
    pub poll: Duration,
    /// Between two looks while the guest is stopped.
    pub poll_switching: Duration,
    /// Without any progress, before it is given up.
    pub stall: Duration,
    /// For the guest to be stopped, before it is given up.
    pub switching: Duration,
    /// For the commit to be accepted, before it is made void.
    pub commit: Duration,
    /// Between two attempts.
    pub retry: Duration,
    /// For the target to be confirmed dead, before the source goes on without that.
    pub grace: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(250),
            poll_switching: Duration::from_millis(10),
            stall: Duration::from_secs(30),
            switching: Duration::from_secs(10),
            commit: Duration::from_secs(10),
            retry: Duration::from_millis(300),
            grace: Duration::from_secs(5),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Look again.
    Poll,
    /// Nothing moves.
    Stall,
    /// The phase takes too long.
    Limit,
    /// Try again.
    Retry,
}

#[derive(Debug)]
enum Phase {
    Preparing,
    Copying,
    Mirroring {
        ready: usize,
    },
    Precopy {
        rounds: u32,
        downtime_ms: u64,
    },
    Switching(Switching),
    Committing {
        due: Instant,
    },
    Committed(Committed),
    /// After a restart: did the commit take place?
    Asking {
        state: State,
    },
    RollingBack(RollingBack),
    Ended,
}

/// One guest on its way.
#[derive(Debug)]
pub struct Migration {
    plan: Plan,
    timings: Timings,
    now: Instant,
    phase: Phase,
    timers: BTreeMap<Timer, Instant>,
    outputs: VecDeque<Output>,
    /// Commands that are sent one after the other, each when the one before has succeeded.
    script: VecDeque<(Side, Command)>,
    sockets: Sockets,
    /// A commit was asked for, by this machine or the one before it: it may have taken place.
    commit_sent: bool,
    /// Memory and jobs that the source's QEMU was asked to send.
    migrating: bool,
    ram: Ram,
    disk_done: u64,
    disk_total: u64,
    downtime_ms: u64,
    /// What was moved when the watchdog looked last.
    moved: u64,
    cancelled: bool,
}

impl Migration {
    /// Begins: the guest is locked and the record says `preparing`.
    #[must_use]
    pub fn new(now: Instant, plan: Plan, timings: Timings) -> Self {
        let mut machine = Self::at(now, plan, timings, Phase::Preparing);
        machine.output(Output::Prepare);
        machine
    }

    /// Takes up what a daemon left that was killed: finishes it if the target owns the guest, else undoes it.
    /// `state` is what the record says.
    #[must_use]
    pub fn recover(now: Instant, plan: Plan, timings: Timings, state: State) -> Self {
        let mut machine = Self::at(now, plan, timings, Phase::Asking { state });
        machine.migrating = true;
        machine.commit_sent = state >= State::Switching;
        if machine.commit_sent {
            machine.output(Output::AskOwner);
        } else {
            let why =
                format!("the migration daemon was restarted while the migration was {}", state.as_str());
            machine.fail(Failure::new("MIGRATION_INTERRUPTED", why));
        }
        machine
    }

    fn at(now: Instant, plan: Plan, timings: Timings, phase: Phase) -> Self {
        Self {
            plan,
            timings,
            now,
            phase,
            timers: BTreeMap::new(),
            outputs: VecDeque::new(),
            script: VecDeque::new(),
            sockets: Sockets::default(),
            commit_sent: false,
            migrating: false,
            ram: Ram::default(),
            disk_done: 0,
            disk_total: 0,
            downtime_ms: 0,
            moved: 0,
            cancelled: false,
        }
    }

    /// What is being done, as the record says or would say it.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Preparing | Phase::Copying => State::Preparing,
            Phase::Mirroring { .. } => State::Mirroring,
            Phase::Precopy { .. } => State::Precopy,
            Phase::Switching(_) | Phase::Committing { .. } => State::Switching,
            Phase::Committed(_) | Phase::Ended => State::Committed,
            Phase::Asking { state } => *state,
            Phase::RollingBack(_) => State::Aborting,
        }
    }

    /// The plan, with what became known since.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What must be done next; `None`: wait for an input or for [`Migration::poll_timeout`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Migration::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.values().min().copied()
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.now = now;
        if input == Input::Cancel && !self.cancelled {
            self.cancelled = true;
            self.cancel();
            return;
        }
        match &self.phase {
            Phase::Preparing | Phase::Copying | Phase::Mirroring { .. } | Phase::Precopy { .. } => {
                self.forward(input);
            }
            Phase::Switching(_) => self.switching(input),
            Phase::Committing { .. } => self.committing(input),
            Phase::Committed(_) => self.committed(input),
            Phase::Asking { .. } | Phase::RollingBack(_) => self.rolling_back(input),
            Phase::Ended => {}
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        let due: Vec<Timer> =
            self.timers.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| *timer).collect();
        for timer in due {
            // An earlier one may have ended the phase that this one belongs to.
            if self.timers.remove(&timer).is_some() {
                self.timeout(timer);
            }
        }
    }

    fn timeout(&mut self, timer: Timer) {
        match (&self.phase, timer) {
            (Phase::Mirroring { .. } | Phase::Precopy { .. }, Timer::Poll) => self.poll_forward(),
            (Phase::Mirroring { .. } | Phase::Precopy { .. } | Phase::Copying, Timer::Stall) => {
                self.look_for_stall()
            }
            (Phase::Switching(_), Timer::Poll) => self.poll_switching(),
            (Phase::Switching(_), Timer::Limit) => self.switching_takes_too_long(),
            (Phase::Committing { .. }, Timer::Retry) => self.commit_again(),
            (Phase::Committed(_), Timer::Retry) => self.finish_again(),
            (Phase::Asking { .. }, Timer::Retry) => self.output(Output::AskOwner),
            (Phase::RollingBack(_), Timer::Retry) => self.undo_again(),
            _ => {}
        }
    }

    /// Before the commit it is undone; afterwards there is no way back.
    fn cancel(&mut self) {
        match self.phase {
            Phase::Committed(_) | Phase::Ended | Phase::RollingBack(_) | Phase::Asking { .. } => {}
            _ => self.fail(Failure::new("MIGRATION_CANCELLED", "the migration was cancelled")),
        }
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn qmp(&mut self, side: Side, command: Command) {
        self.output(Output::Qmp { side, command });
    }

    fn set(&mut self, timer: Timer, after: Duration) {
        self.timers.insert(timer, self.now + after);
    }

    fn enter(&mut self, phase: Phase) {
        self.timers.clear();
        self.script.clear();
        let from = self.state();
        self.phase = phase;
        tracing::info!(vmid = self.plan.vmid, migration = %self.plan.id, from = from.as_str(), to = self.state().as_str(), "phase");
        self.tell();
    }

    fn tell(&mut self) {
        let progress = Progress {
            state: self.state(),
            ram: self.ram,
            disk_done: self.disk_done,
            disk_total: self.disk_total,
        };
        self.output(Output::Progress(progress));
    }

    /// Sends the first command of a script; [`Migration::script_reply`] sends the others.
    fn run(&mut self, script: impl IntoIterator<Item = (Side, Command)>) {
        self.script = script.into_iter().collect();
        if let Some((side, command)) = self.script.front().cloned() {
            self.qmp(side, command);
        }
    }

    /// An answer: `None` if it does not belong to the script, else whether the script is through.
    fn script_reply(
        &mut self,
        side: Side,
        command: &Command,
        result: &Result<Value, String>,
    ) -> Option<Result<bool, Failure>> {
        if self.script.front() != Some(&(side, command.clone())) {
            return None;
        }
        self.script.pop_front();
        if let Err(error) = result {
            let whose = if side == Side::Source { "source" } else { "target" };
            let message = format!("QEMU at the {whose} refuses {}: {error}", command.name());
            return Some(Err(Failure::new("QEMU_REFUSED", message)));
        }
        if let Some((side, command)) = self.script.front().cloned() {
            self.qmp(side, command);
            return Some(Ok(false));
        }
        Some(Ok(true))
    }

    /// What breaks any phase before the commit; `None` if the input is nothing of that kind.
    fn breakage(input: &Input) -> Option<Failure> {
        match input {
            Input::Lost { side: Side::Source, why } => {
                Some(Failure::new("SOURCE_LOST", format!("the guest's QEMU at the source is gone: {why}")))
            }
            Input::Lost { side: Side::Target, why } => {
                Some(Failure::new("TARGET_LOST", format!("the target or its QEMU is gone: {why}")))
            }
            Input::Broken(_, why) => {
                Some(Failure::new("TUNNEL_BROKEN", format!("the connection to the target broke: {why}")))
            }
            _ => None,
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.timers.clear();
        self.phase = Phase::Ended;
        self.output(Output::Forget);
        self.output(Output::Ended(outcome));
    }
}

/// Name of the job that copies the disk of this place in the plan.
fn job(index: usize) -> String {
    format!("mig{index}")
}

/// Name of the target's disk at the source.
fn remote(index: usize) -> String {
    format!("mig-remote{index}")
}
