//! A whole cluster: nodes, their daemons, the network between them, one queue, one clock.
//!
//! A step takes the next event from the queue, hands it to a daemon (`cluster/daemons.rs`), carries out
//! what the daemon wants done (`cluster/effects.rs`) and feeds what can be observed to the checkers.
//! Nothing else changes anything, so a run is determined by its [`Setup`].

mod callers;
mod connections;
mod daemons;
mod effects;
mod ipc;
mod machine;
mod wraps;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use callers::Callers;
use connections::Connections;
use machine::Machine;
use membership_core::{
    srp::{Params, StateName},
    stack::StackStatus,
};
use quorate_types::NodeId;
use quorum_core::QuorumConfig;
use wraps::Wraps;

use crate::{
    checker::{Checkers, NodeState, Violation},
    daemon::{ConnectionId, Core, DaemonInput, Link, Message, position},
    event::{Queue, SimTime},
    fault::{Daemon, Fault},
    history::{Change, Event as Observed, Observation, Outcome},
    network::{Datagram, Network, NetworkStats},
    process::Process,
    rng::Rng,
    setup::Setup,
    trace::{Lines, Trace},
    workload::Action,
};

/// Events at one moment of virtual time before it counts as a livelock.
const EVENTS_PER_MOMENT_MAX: u32 = 100_000;
/// Datagrams per virtual second and node before it counts as a storm.
const DATAGRAMS_PER_SECOND_MAX: u64 = 200_000;
/// A wake-up comes up to so much late, as real timers do.
const WAKE_LATENESS_MAX: Duration = Duration::from_micros(100);
/// A fault in response to a critical state comes within this time.
const AMBUSH_DELAY_MAX: Duration = Duration::from_millis(10);
/// Longest time from boot to the start of a daemon.
const BOOT_MAX: Duration = Duration::from_secs(1);

/// Something that will happen.
#[derive(Debug)]
enum Event {
    Datagram { to: NodeId, datagram: Datagram },
    Wake { node: NodeId, daemon: Daemon, life: u32 },
    DiskDone { node: NodeId, daemon: Daemon, life: u32 },
    Told { to: (NodeId, Daemon), life: u32, connection: ConnectionId, message: Message },
    Connect { node: NodeId, link: Link, life: u32 },
    Start { node: NodeId, daemon: Daemon },
    Fault(Fault),
    Act { node: NodeId, action: Action },
}

/// How much was observed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rings installed, one per node.
    pub rings: u64,
    /// Messages that probes delivered.
    pub delivered: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes that were refused.
    pub refused: u64,
    /// Writes whose outcome is unknown.
    pub unknown: u64,
    /// Linearizable reads that were answered.
    pub reads: u64,
    /// Starts of daemons.
    pub starts: u64,
    /// Rings in which the numbers of messages went past their end.
    pub message_wraps: u64,
    /// Rings in which the numbers of tokens did.
    pub token_wraps: u64,
    /// Rings whose sequence needs more than 32 bits where the one before did not.
    pub ring_wraps: u64,
}

impl Tally {
    fn count(&mut self, event: &Observed) {
        match event {
            Observed::Ring(Change::Regular { .. }) => self.rings += 1,
            Observed::Delivered { .. } => self.delivered += 1,
            Observed::Replied { outcome: Outcome::Acknowledged { .. }, .. } => self.acknowledged += 1,
            Observed::Replied { outcome: Outcome::Refused, .. } => self.refused += 1,
            Observed::Replied { outcome: Outcome::Unknown, .. } => self.unknown += 1,
            Observed::ReadReplied { version: Some(_), .. } => self.reads += 1,
            Observed::MembershipStarted { .. } | Observed::QuorumStarted | Observed::StoreStarted(_) => {
                self.starts += 1;
            }
            _ => {}
        }
    }
}

/// The cluster of a [`Setup`], as it runs.
pub struct Cluster {
    setup: Setup,
    base: Instant,
    rng: Rng,
    queue: Queue<Event>,
    network: Network,
    machines: BTreeMap<NodeId, Machine>,
    connections: Connections,
    callers: Callers,
    checkers: Checkers,
    trace: Trace,
    healed: bool,
    /// Everything observed, if it is kept.
    history: Option<Vec<Observation>>,
    /// Every token, commit token and join, if it is kept.
    wire: Vec<Observation>,
    nodes: Vec<NodeId>,
    wraps: Wraps,
    tally: Tally,
    violation: Option<(SimTime, Violation)>,
    moment: (SimTime, u32),
    second: (u64, u64),
}

impl Cluster {
    /// Builds the cluster and lets its nodes boot.
    #[must_use]
    pub fn new(setup: Setup, lines: Lines) -> Self {
        let mut rng = Rng::new(setup.seed);
        let network = Network::new(rng.fork(1), setup.quality);
        let machines = setup.nodes().into_iter().map(|node| {
            let disks = rng.fork(u64::from(node.get()) << 8);
            (node, Machine::new(disks, &setup))
        });
        let machines = machines.collect();
        let mut cluster = Self {
            checkers: Checkers::new(&setup.votes, setup.quorum.rule(), setup.store_rule()),
            connections: Connections::new(rng.fork(2), setup.ipc_delay_max),
            callers: Callers::new(rng.fork(3), &setup.workload),
            base: Instant::now(),
            queue: Queue::default(),
            trace: Trace::new(lines),
            healed: false,
            history: None,
            wire: Vec::new(),
            nodes: setup.nodes(),
            wraps: Wraps::new(&setup),
            tally: Tally::default(),
            violation: None,
            moment: (SimTime::ZERO, 0),
            second: (0, 0),
            network,
            machines,
            rng,
            setup,
        };
        cluster.plan();
        cluster
    }

    fn plan(&mut self) {
        for (at, fault) in self.setup.plan.faults.clone() {
            self.queue.push(at, Event::Fault(fault));
        }
        for (at, node, action) in self.setup.workload.actions.clone() {
            self.queue.push(at, Event::Act { node, action });
        }
        for node in self.setup.nodes() {
            self.boot(node);
        }
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.queue.now()
    }

    /// What the cluster was built from.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The record of the run.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Counters of the network.
    #[must_use]
    pub fn network_stats(&self) -> NetworkStats {
        self.network.stats()
    }

    /// The first violation, with its time.
    #[must_use]
    pub fn violation(&self) -> Option<&(SimTime, Violation)> {
        self.violation.as_ref()
    }

    /// How much was observed.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally;
        self.wraps.add_to(&mut tally);
        tally
    }

    /// Keeps every observation from now on.
    pub fn keep_history(&mut self) {
        self.history.get_or_insert_default();
    }

    /// Everything observed since [`Cluster::keep_history`].
    #[must_use]
    pub fn history(&self) -> &[Observation] {
        self.history.as_deref().unwrap_or_default()
    }

    /// Every token, commit token and join that was sent since [`Cluster::keep_history`].
    #[must_use]
    pub fn wire(&self) -> &[Observation] {
        &self.wire
    }

    /// The state of the ring at a node; `None` while membershipd is down.
    #[must_use]
    pub fn ring_state(&self, node: NodeId) -> Option<StateName> {
        self.membership_status(node).map(|status| status.ring.state)
    }

    /// The feature level of a node's membershipd from its next start on; `None`: it takes no part, as corosync.
    pub fn replace_program(&mut self, node: NodeId, level: Option<u32>) {
        self.setup.levels.insert(node, level);
    }

    /// membershipd of a node reads another `quorate_fast_detection`.
    pub fn set_fast_detection(&mut self, node: NodeId, on: bool) {
        let params = Box::new(Params { fast_detection: on, ..self.setup.params.clone() });
        self.input(node, Daemon::Membership, DaemonInput::Reconfigure(params));
    }

    /// What membershipd of a node says of itself; `None` while it is down.
    #[must_use]
    pub fn membership_status(&self, node: NodeId) -> Option<StackStatus> {
        match self.process(node, Daemon::Membership).core() {
            Some(Core::Membership(daemon)) => Some(daemon.status()),
            _ => None,
        }
    }

    /// quorumd of a node reads another configuration.
    pub fn configure_quorum(&mut self, node: NodeId, config: QuorumConfig) {
        self.input(node, Daemon::Quorum, DaemonInput::Configure(Box::new(config)));
    }

    /// An operator overrides the expected votes at a node.
    pub fn set_expected(&mut self, node: NodeId, votes: u32) {
        self.input(node, Daemon::Quorum, DaemonInput::SetExpected(votes));
    }

    /// Notes a violation that was found outside, unless there was one before.
    pub fn report(&mut self, violation: Violation) {
        let at = self.now();
        self.violation.get_or_insert((at, violation));
    }

    /// Asks the checkers for what only a complete history shows. The cluster must have been quiet.
    pub fn finish(&mut self) {
        if let Err(violation) = self.checkers.finish() {
            self.report(violation);
        }
    }

    /// Lets virtual time pass; stops early at the first violation.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now() + span;
        while self.violation.is_none() && self.queue.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        if self.violation.is_none() {
            self.queue.advance_to(end);
        }
    }

    /// Lets time pass until a node's ring is in this state, at most for `span`; stops right after the event
    /// that brought it there. Says whether it did.
    pub fn run_until_state(&mut self, span: Duration, node: NodeId, state: StateName) -> bool {
        let end = self.now() + span;
        while self.violation.is_none() && self.ring_state(node) != Some(state) {
            match self.queue.next_at() {
                Some(at) if at <= end => self.step(),
                _ => return false,
            }
        }
        self.violation.is_none()
    }

    /// Lets time pass until the condition holds, at most for `span`; says whether it holds. Looks every ten
    /// milliseconds.
    pub fn run_until(&mut self, span: Duration, mut condition: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now() + span;
        let mut next_look = self.now();
        while self.violation.is_none() {
            if self.now() >= next_look {
                if condition(self) {
                    return true;
                }
                next_look = self.now() + Duration::from_millis(10);
            }
            match self.queue.next_at() {
                Some(at) if at <= end => self.step(),
                _ => break,
            }
        }
        condition(self)
    }

    /// Something goes wrong, or right again, now.
    pub fn fault(&mut self, fault: Fault) {
        let now = self.now();
        self.trace.note(now, None, &fault);
        match fault {
            Fault::Crash(node) => self.crash(node),
            Fault::Boot(node) => self.boot(node),
            Fault::Kill(node, daemon) => self.stop(node, daemon),
            Fault::Start(node, daemon) => self.start(node, daemon),
            Fault::Leave(node) => self.leave(node),
            Fault::Pause(node, daemon) => self.process_mut(node, daemon).pause(),
            Fault::Resume(node, daemon) => self.resume(node, daemon),
            Fault::Block(from, to) => self.each_pair(&from, &to, Network::block),
            Fault::Unblock(from, to) => self.each_pair(&from, &to, Network::unblock),
            Fault::Links(quality) => self.network.set_quality(quality),
            Fault::Link(from, to, quality) => self.network.set_link_quality(from, to, quality),
            Fault::Disk(node, speed) => {
                for daemon in Daemon::ALL {
                    self.process_mut(node, daemon).disk.set_speed(speed);
                }
            }
            Fault::Receiver(node, limit) => self.network.limit_receiver(node, limit),
            Fault::Timers(node, per_cent) => {
                let params = Box::new(scaled(&self.setup.params, per_cent));
                self.input(node, Daemon::Membership, DaemonInput::Reconfigure(params));
            }
            Fault::LoseRingSeq(node) => {
                self.machines.get_mut(&node).expect("faults name nodes of the setup").lose_ring_seq();
            }
            Fault::WipeStore(node) => {
                self.stop(node, Daemon::Config);
                self.machines.get_mut(&node).expect("faults name nodes of the setup").wipe_store();
            }
            Fault::WriteError(node) => self.process_mut(node, Daemon::Config).write_fails = true,
        }
    }

    /// Repairs everything for good: perfect links, fast disks, all daemons running and awake; what
    /// was still planned to go wrong does not.
    pub fn heal(&mut self) {
        self.healed = true;
        self.network.heal();
        let speed = self.setup.disk;
        for node in self.setup.nodes() {
            for daemon in Daemon::ALL {
                let process = self.process_mut(node, daemon);
                process.disk.set_speed(speed);
                process.write_fails = false;
                self.resume(node, daemon);
            }
            self.boot(node);
            let params = Box::new(self.setup.params.clone());
            self.input(node, Daemon::Membership, DaemonInput::Reconfigure(params));
        }
    }

    /// A user does something at a node, now. Without effect while the daemon is down.
    pub fn act(&mut self, node: NodeId, action: Action) {
        let daemon = match action {
            Action::Multicast { .. } => Daemon::Membership,
            Action::Write { .. } | Action::Read { .. } => Daemon::Config,
        };
        self.input(node, daemon, DaemonInput::Act(action));
    }

    /// What each membershipd says of itself, for the reader of a failure.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (node, machine) in &self.machines {
            if let Some(Core::Membership(daemon)) = machine.process(Daemon::Membership).core() {
                lines.push(format!("membershipd of {node}: {:?}", daemon.status()));
            }
            if let Some(Core::Config(daemon)) = machine.process(Daemon::Config).core() {
                let replica = daemon.replica();
                let (state, members) = (replica.state(), replica.members());
                lines.push(format!("configd of {node}: {state:?} {members:?} {:?}", replica.stats()));
            }
        }
        lines
    }

    /// What each node looks like from outside.
    pub fn states(&self) -> impl Iterator<Item = NodeState> {
        self.machines.iter().map(|(node, machine)| machine.state(*node))
    }

    /// Lets every replica show its tree, at the end of a run.
    pub fn show_trees(&mut self) {
        for node in self.setup.nodes() {
            let core = self.process(node, Daemon::Config).core();
            if let Some(Core::Config(daemon)) = core {
                let position = position(daemon.replica());
                let (torn, writes) = (daemon.torn_writes(), daemon.own_writes());
                self.observe(node, Observed::Tree { position, writes, last: true });
                if !torn.is_empty() {
                    self.observe(node, Observed::Torn(torn));
                }
            }
        }
    }

    /// The nodes whose membershipd runs.
    #[must_use]
    pub fn live(&self) -> BTreeSet<NodeId> {
        self.nodes
            .iter()
            .copied()
            .filter(|node| self.process(*node, Daemon::Membership).is_running())
            .collect()
    }

    fn each_pair(
        &mut self,
        from: &[NodeId],
        to: &[NodeId],
        mut act: impl FnMut(&mut Network, NodeId, NodeId),
    ) {
        for one in from {
            for other in to {
                act(&mut self.network, *one, *other);
            }
        }
    }

    fn process(&self, node: NodeId, daemon: Daemon) -> &Process {
        self.machines.get(&node).expect("faults and actions name nodes of the setup").process(daemon)
    }

    fn process_mut(&mut self, node: NodeId, daemon: Daemon) -> &mut Process {
        self.machines.get_mut(&node).expect("faults and actions name nodes of the setup").process_mut(daemon)
    }

    fn step(&mut self) {
        let Some(event) = self.queue.pop() else { return };
        self.check_progress(&event);
        match event {
            Event::Datagram { to, datagram } => {
                self.input(to, Daemon::Membership, DaemonInput::Datagram(datagram));
            }
            Event::Wake { node, daemon, life } => self.wake(node, daemon, life),
            Event::DiskDone { node, daemon, life } => self.disk_done(node, daemon, life),
            Event::Told { to: (node, daemon), life, connection, message } => {
                if self.process(node, daemon).life() == life {
                    self.told(node, daemon, connection, message);
                }
            }
            Event::Connect { node, link, life } => self.connect(node, link, life),
            Event::Start { node, daemon } => self.start(node, daemon),
            // What was planned ends with the healing: a late fault would begin the first phase again.
            Event::Fault(_) if self.healed => {}
            Event::Fault(fault) => self.fault(fault),
            Event::Act { node, action } => self.act(node, action),
        }
    }

    /// A core that spins at one moment, or floods the network, is broken whatever else holds.
    fn check_progress(&mut self, event: &Event) {
        let now = self.now();
        self.moment = if self.moment.0 == now { (now, self.moment.1 + 1) } else { (now, 0) };
        if self.moment.1 > EVENTS_PER_MOMENT_MAX {
            let what = format!("{EVENTS_PER_MOMENT_MAX} events at {now:?}, now {event:?}");
            self.report(Violation { checker: "progress", property: "time passes", what });
        }
        if let Event::Datagram { .. } = event {
            let second = now.as_secs();
            self.second = if self.second.0 == second { (second, self.second.1 + 1) } else { (second, 0) };
            let most = DATAGRAMS_PER_SECOND_MAX * self.machines.len() as u64;
            if self.second.1 > most {
                let what = format!("{most} datagrams in second {second}");
                self.report(Violation { checker: "progress", property: "no storm", what });
            }
        }
    }
}

/// The timers at so many per cent, but never below what corosync takes.
fn scaled(params: &Params, per_cent: u32) -> Params {
    let scale = |timer: Duration| (timer * per_cent / 100).max(Duration::from_millis(30));
    Params {
        token: scale(params.token),
        token_retransmit: scale(params.token_retransmit),
        hold: scale(params.hold),
        consensus: scale(params.consensus).max(params.join),
        ..params.clone()
    }
}

/// Whether a state of the ring means that its configuration is installed.
pub(crate) fn is_installed(state: StateName) -> bool {
    state == StateName::Operational
}
