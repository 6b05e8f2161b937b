//! Two nodes, their QEMUs and the cluster's tree in one struct with one clock: every fault can be put at every step.

#![allow(dead_code, reason = "each test uses a part of it")]

mod qemu;
mod tree;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use migration_core::{
    Disk, Failure, Input, Migration, Outcome, Output, Plan, Ready, Resumed, Side, State, Timings,
    qmp::{Command, Event},
};
pub(crate) use qemu::{Qemu, Run};
pub(crate) use tree::Tree;

/// What may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The source's migration daemon is killed and started again.
    SourceDaemon,
    /// The target's migration daemon is killed and started again.
    TargetDaemon,
    /// The source's QEMU is killed.
    SourceQemu,
    /// The target's QEMU is killed.
    TargetQemu,
    /// The source loses its power and comes back.
    SourceNode,
    /// The target loses its power and comes back.
    TargetNode,
    /// The nodes do not reach each other for a while; both reach the rest of the cluster.
    Network,
    /// The source is cut off from everybody for a while.
    SourceAlone,
    /// The target is cut off from everybody for a while.
    TargetAlone,
    /// Nobody has quorum for a while.
    Quorum,
    /// The operator cancels.
    Cancel,
}

pub(crate) const FAULTS: [Fault; 11] = [
    Fault::SourceDaemon,
    Fault::TargetDaemon,
    Fault::SourceQemu,
    Fault::TargetQemu,
    Fault::SourceNode,
    Fault::TargetNode,
    Fault::Network,
    Fault::SourceAlone,
    Fault::TargetAlone,
    Fault::Quorum,
    Fault::Cancel,
];

/// What is built wrong, to prove that the checks see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The target's QEMU runs as soon as it has everything: started without `-S`.
    TargetRunsByItself,
    /// The target's daemon lets the guest go on without asking who owns it.
    TargetDoesNotAsk,
    /// A commit is accepted although the migration was made void.
    VoidBindsNobody,
    /// The source's daemon is told that the migration is void before the cluster has agreed.
    VoidIsAssumed,
    /// The source believes a commit that was never accepted.
    CommitIsAssumed,
}

/// What is on its way.
#[derive(Debug, Clone)]
enum Pending {
    /// To the machine of this incarnation.
    Input(u32, Input),
    /// To the tree: with the incarnation that waits for the answer.
    Commit(u32),
    Void(u32),
    Owner(u32),
    /// The target's daemon looks around.
    TargetLooks,
    /// It is whole again.
    Heal(Fault),
}

/// How long a message takes.
const LATENCY: Duration = Duration::from_millis(1);
/// How long a change of the tree takes.
const AGREEMENT: Duration = Duration::from_millis(5);
/// How long a fault lasts: longer than every limit.
const LASTS: Duration = Duration::from_secs(60);
/// How long a daemon takes to come back.
const RESTART: Duration = Duration::from_millis(40);

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) machine: Option<Migration>,
    pub(crate) plan: Plan,
    incarnation: u32,
    pub(crate) tree: Tree,
    pub(crate) a: Option<Qemu>,
    pub(crate) b: Option<Qemu>,
    pub(crate) target_daemon: bool,
    pub(crate) net: bool,
    pub(crate) source_quorate: bool,
    pub(crate) target_quorate: bool,
    pending: BTreeMap<(Instant, u64), Pending>,
    count: u64,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) sent: Vec<Output>,
    /// Something happened that must never happen.
    pub(crate) violation: Option<String>,
    pub(crate) source_disks_deleted: bool,
    pub(crate) target_was_seen_running: bool,
    /// The guest's memory can be sent faster than it changes.
    pub(crate) converges: bool,
    /// A commit may stay under way for longer than a daemon takes to come back.
    pub(crate) slow_commit: bool,
}

pub(crate) fn plan(disks: usize, online: bool) -> Plan {
    let disk = |index: usize| Disk {
        key: format!("virtio{index}"),
        source_node: format!("drive-virtio{index}"),
        target_node: String::new(),
    };
    Plan {
        id: "m-1".parse().expect("a good name"),
        vmid: 100,
        source: "hp1".parse().expect("a good name"),
        target: "hp2".parse().expect("a good name"),
        online,
        paused: false,
        disks: (0..disks).map(disk).collect(),
        speed: None,
        downtime: Duration::from_millis(100),
        downtime_max: Duration::from_secs(1),
    }
}

impl World {
    pub(crate) fn new(plan: Plan, mutation: Option<Mutation>) -> Self {
        let now = Instant::now();
        let machine = Migration::new(now, plan.clone(), Timings::default());
        let mut world = Self {
            now,
            start: now,
            machine: Some(machine),
            incarnation: 0,
            tree: Tree::new(),
            a: plan.online.then(Qemu::running),
            b: None,
            target_daemon: true,
            net: true,
            source_quorate: true,
            target_quorate: true,
            pending: BTreeMap::new(),
            count: 0,
            outcome: None,
            mutation,
            sent: Vec::new(),
            violation: None,
            source_disks_deleted: false,
            target_was_seen_running: false,
            converges: true,
            slow_commit: false,
            plan,
        };
        world.later(Duration::from_secs(1), Pending::TargetLooks);
        world
    }

    fn later(&mut self, after: Duration, what: Pending) {
        self.count += 1;
        self.pending.insert((self.now + after, self.count), what);
    }

    pub(crate) fn tell(&mut self, input: Input) {
        self.later(LATENCY, Pending::Input(self.incarnation, input));
    }

    /// One thing happens; `false` when the time is over.
    pub(crate) fn step(&mut self, until: Instant) -> bool {
        self.drain();
        let timer = self.machine.as_ref().and_then(Migration::poll_timeout);
        let next = self.pending.keys().next().map(|(at, _)| *at);
        let at = [timer, next].into_iter().flatten().min();
        let Some(at) = at.filter(|at| *at <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(at);
        if next == Some(at) {
            let (_, what) = self.pending.pop_first().expect("it was looked at");
            self.happen(what);
        } else if let Some(machine) = &mut self.machine {
            machine.handle_timeout(self.now);
        }
        self.drain();
        self.check();
        true
    }

    fn happen(&mut self, what: Pending) {
        match what {
            Pending::Input(incarnation, input) => {
                if incarnation == self.incarnation
                    && let Some(machine) = &mut self.machine
                {
                    machine.handle_input(self.now, input);
                }
            }
            Pending::Commit(who) => self.apply_commit(who),
            Pending::Void(who) => self.apply_void(who),
            Pending::Owner(who) => self.answer_owner(who),
            Pending::TargetLooks => {
                self.target_looks();
                self.later(Duration::from_secs(1), Pending::TargetLooks);
            }
            Pending::Heal(fault) => self.heal(fault),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.as_mut().and_then(Migration::poll_output) {
            if !matches!(output, Output::Progress(_)) {
                self.sent.push(output.clone());
            }
            self.perform(output);
        }
    }

    fn target_reachable(&self) -> bool {
        self.net && self.target_daemon
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Prepare => self.prepare(),
            Output::Copy => self.tell(if self.target_reachable() {
                Input::Copied(Ok(()))
            } else {
                Input::Copied(Err(Failure::new("COPY_FAILED", "the target is away")))
            }),
            Output::Write(state) => self.write(state),
            Output::Qmp { side, command } => self.qmp(side, command),
            Output::CloseTunnel => self.close_tunnel(),
            Output::Commit => {
                let takes = if self.slow_commit { 3 * RESTART } else { AGREEMENT };
                self.later(takes, Pending::Commit(self.incarnation));
            }
            Output::Void => {
                if self.mutation == Some(Mutation::VoidIsAssumed) {
                    self.tell(Input::Void(migration_core::Written::Done));
                }
                self.later(AGREEMENT, Pending::Void(self.incarnation));
            }
            Output::AskOwner => self.later(AGREEMENT, Pending::Owner(self.incarnation)),
            Output::StopTarget => {
                let reached = self.target_reachable();
                if reached {
                    self.b = None;
                }
                self.tell(Input::TargetStopped(reached.then_some(()).ok_or_else(|| "away".to_owned())));
            }
            Output::ResumeTarget => self.resume_target(),
            Output::ReleaseSource => {
                if self.tree.owner != Side::Target && self.mutation != Some(Mutation::CommitIsAssumed) {
                    self.violation = Some("the source is released while it owns the guest".into());
                }
                self.a = None;
                self.source_disks_deleted = true;
                self.tell(Input::Released(Ok(())));
            }
            Output::Forget => self.tree.record = None,
            Output::Progress(_) => {}
            Output::Ended(outcome) => {
                self.outcome = Some(outcome);
                self.machine = None;
            }
        }
    }

    fn prepare(&mut self) {
        if !self.target_reachable() {
            return self.tell(Input::Prepared(Err(Failure::new("TARGET_UNREACHABLE", "the target is away"))));
        }
        self.b = self.plan.online.then(Qemu::incoming);
        let nodes = self.plan.disks.iter().map(|disk| (disk.key.clone(), disk.source_node.clone())).collect();
        self.tell(Input::Prepared(Ok(Ready { nodes, ..Ready::default() })));
    }

    fn resume_target(&mut self) {
        if !self.target_reachable() {
            return self.tell(Input::Resumed(Resumed::Failed("away".into())));
        }
        let result = self.target_resumes();
        self.tell(Input::Resumed(result));
    }

    /// The target's guest daemon: only with the cluster's word.
    fn target_resumes(&mut self) -> Resumed {
        let asks = self.mutation != Some(Mutation::TargetDoesNotAsk);
        if asks && (!self.target_quorate || self.tree.owner != Side::Target) {
            return Resumed::Failed("the cluster does not say so".into());
        }
        if !self.plan.online {
            self.tree.locked = false;
            return Resumed::Done;
        }
        match &mut self.b {
            None => {
                self.tree.locked = false;
                Resumed::Gone
            }
            Some(b) if b.completed || b.run == Run::Running => {
                b.run = Run::Running;
                self.target_was_seen_running = true;
                self.tree.locked = false;
                Resumed::Done
            }
            Some(_) => Resumed::Failed("it has not arrived".into()),
        }
    }

    /// The target's daemon finishes or ends what it holds, by the cluster's word alone.
    fn target_looks(&mut self) {
        if !self.target_daemon || !self.target_quorate || self.b.is_none() {
            return;
        }
        if self.tree.owner == Side::Target || self.mutation == Some(Mutation::TargetDoesNotAsk) {
            self.target_resumes();
        } else if !self.tree.locked {
            self.b = None;
        }
    }

    /// QEMU's connections are closed.
    fn close_tunnel(&mut self) {
        let Some(a) = &mut self.a else { return };
        if a.break_stream(self.net) {
            self.tell(Input::Event { side: Side::Source, event: Event::Migration("failed".into()) });
        }
    }

    fn qmp(&mut self, side: Side, command: Command) {
        if side == Side::Target && !self.target_reachable() {
            return self.tell(Input::Lost { side, why: "no connection".into() });
        }
        qemu::command(self, side, command);
    }

    pub(crate) fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::SourceDaemon => self.kill_source_daemon(RESTART),
            Fault::TargetDaemon => {
                self.target_daemon = false;
                self.tell(Input::Lost { side: Side::Target, why: "its daemon died".into() });
            }
            Fault::SourceQemu => self.kill_source_qemu(),
            Fault::TargetQemu => self.kill_target_qemu(),
            Fault::SourceNode => {
                self.a = None;
                self.kill_source_daemon(LASTS);
            }
            Fault::TargetNode => {
                self.kill_target_qemu();
                self.target_daemon = false;
            }
            Fault::Network => self.net = false,
            Fault::SourceAlone => (self.net, self.source_quorate) = (false, false),
            Fault::TargetAlone => (self.net, self.target_quorate) = (false, false),
            Fault::Quorum => (self.source_quorate, self.target_quorate) = (false, false),
            Fault::Cancel => self.tell(Input::Cancel),
        }
        self.later(LASTS, Pending::Heal(fault));
        self.check();
    }

    fn kill_source_daemon(&mut self, away: Duration) {
        self.machine = None;
        self.incarnation += 1;
        // The connections were the daemon's.
        self.close_tunnel();
        self.later(away, Pending::Heal(Fault::SourceDaemon));
    }

    fn kill_source_qemu(&mut self) {
        if self.a.take().is_some() {
            self.tell(Input::Lost { side: Side::Source, why: "killed".into() });
        }
    }

    fn kill_target_qemu(&mut self) {
        if self.b.take().is_some() {
            self.tell(Input::Lost { side: Side::Target, why: "killed".into() });
            self.close_tunnel();
        }
    }

    fn heal(&mut self, fault: Fault) {
        (self.net, self.source_quorate, self.target_quorate, self.target_daemon) = (true, true, true, true);
        // What was in the sockets when the network was cut arrives now.
        if self.a.as_ref().is_none_or(|a| a.everything_sent)
            && let Some(b) = &mut self.b
            && b.in_flight
        {
            b.in_flight = false;
            b.arrive(self.mutation == Some(Mutation::TargetRunsByItself));
        }
        if fault == Fault::SourceDaemon && self.machine.is_none() && self.outcome.is_none() {
            // The record is gone: the daemon before this one had finished.
            let Some(state) = self.tree.record else { return };
            let machine = Migration::recover(self.now, self.plan.clone(), Timings::default(), state);
            self.machine = Some(machine);
        }
    }

    /// What must hold at every moment.
    fn check(&mut self) {
        let a_runs = self.a.as_ref().is_some_and(|a| a.run == Run::Running);
        let b_runs = self.b.as_ref().is_some_and(|b| b.run == Run::Running);
        let violation = if a_runs && b_runs {
            "the guest runs twice"
        } else if b_runs && self.tree.owner == Side::Source {
            "the target runs a guest that is not its own"
        } else if a_runs && self.tree.owner == Side::Target {
            "the source runs a guest that is not its own any more"
        } else if b_runs && self.b.as_ref().is_some_and(|b| b.exported) {
            "the target runs while the source may write to its disk"
        } else {
            return;
        };
        self.violation.get_or_insert_with(|| violation.to_owned());
    }

    /// Everything as long as it takes.
    pub(crate) fn settle(&mut self) {
        let until = self.start + Duration::from_secs(600);
        while self.step(until) {}
    }

    /// What must hold when everything is whole again and nothing moves any more.
    pub(crate) fn check_end(&mut self, killed: Option<Fault>) {
        if self.violation.is_some() {
            return;
        }
        let a_dead = matches!(killed, Some(Fault::SourceQemu | Fault::SourceNode));
        let b_dead = matches!(killed, Some(Fault::TargetQemu | Fault::TargetNode));
        let runs = |qemu: &Option<Qemu>| qemu.as_ref().is_some_and(|qemu| qemu.run == Run::Running);
        let (a_runs, b_runs) = (runs(&self.a), runs(&self.b));
        let online = self.plan.online;
        let problem = match self.tree.owner {
            _ if self.machine.is_some() => Some("it does not come to an end".to_owned()),
            _ if self.tree.record.is_some() => Some("a record is left behind".to_owned()),
            _ if self.tree.locked => Some("the guest stays locked".to_owned()),
            Side::Source if online && !a_runs && !a_dead => {
                Some("the guest does not run at the source".to_owned())
            }
            Side::Source if self.b.is_some() => Some("the target's copy is left behind".to_owned()),
            Side::Source if self.source_disks_deleted => Some("the source's disks are deleted".to_owned()),
            Side::Target if online && !b_runs && !b_dead => {
                Some("the guest does not run on the target".to_owned())
            }
            Side::Target if self.a.is_some() => Some("the source's process is left behind".to_owned()),
            Side::Target if !self.tree.disks_complete => {
                Some("the owner changed before the disks were complete".to_owned())
            }
            _ => None,
        };
        self.violation = problem;
    }

    pub(crate) fn write(&mut self, state: State) {
        let written = self.source_quorate;
        if written {
            self.tree.record = Some(state);
        }
        let result = written.then_some(()).ok_or_else(|| "no quorum".to_owned());
        self.later(AGREEMENT, Pending::Input(self.incarnation, Input::Wrote(state, result)));
    }
}
