//! Daemons live: they start and stop, sleep and wake, take inputs.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use quorate_types::NodeId;

use super::{BOOT_MAX, Cluster, Event, WAKE_LATENESS_MAX};
use crate::{
    checker::Violation,
    daemon::{Core, DaemonInput, DiskWrite, Effect, Link, Message},
    event::SimTime,
    fault::Daemon,
    mutation::Mutation,
    rng::MILLION,
};

impl Cluster {
    pub(super) fn boot(&mut self, node: NodeId) {
        for daemon in Daemon::ALL {
            if !self.process(node, daemon).is_running() {
                let at = self.now() + self.rng.span(Duration::ZERO, BOOT_MAX);
                self.queue.push(at, Event::Start { node, daemon });
            }
        }
    }

    pub(super) fn start(&mut self, node: NodeId, daemon: Daemon) {
        if self.process(node, daemon).is_running() {
            return;
        }
        let now = self.instant(node);
        let rng = self.rng.fork(u64::from(node.get()));
        let machine = self.machines.get_mut(&node).expect("only nodes of the setup are started");
        let started = machine.start(now, node, daemon, &self.setup, rng);
        let started = match started {
            Ok(event) => event,
            Err(what) => {
                let what = format!("{daemon:?} of node {node}: {what}");
                return self.report(Violation { checker: "progress", property: "a daemon starts", what });
            }
        };
        self.observe(node, started);
        self.run_effects(node, daemon);
        let process = self.process(node, daemon);
        let life = process.life();
        for link in Link::ALL {
            if link.client() == daemon {
                self.connect_later(node, link, life);
            }
        }
    }

    pub(super) fn crash(&mut self, node: NodeId) {
        for daemon in Daemon::ALL {
            self.stop(node, daemon);
        }
    }

    pub(super) fn leave(&mut self, node: NodeId) {
        self.input(node, Daemon::Membership, DaemonInput::Leave);
        self.crash(node);
    }

    pub(super) fn stop(&mut self, node: NodeId, daemon: Daemon) {
        if !self.process(node, daemon).is_running() {
            return;
        }
        for (link, connection) in self.connections.of(node, daemon) {
            let other = if link.client() == daemon { link.server() } else { link.client() };
            self.tell(node, other, connection, Message::Gone);
            self.connections.close(connection);
        }
        self.connections.client_died(node, daemon);
        let machine = self.machines.get_mut(&node).expect("only nodes of the setup are stopped");
        for event in machine.stop(daemon) {
            self.observe(node, event);
        }
    }

    pub(super) fn resume(&mut self, node: NodeId, daemon: Daemon) {
        if !self.process(node, daemon).is_paused() {
            return;
        }
        let held = self.process_mut(node, daemon).resume();
        // Which comes first when both are due is up to the driver's event loop.
        if self.rng.chance(MILLION / 2) {
            self.wake_now(node, daemon);
        }
        for input in held {
            match input {
                DaemonInput::Message(connection, message) => self.told(node, daemon, connection, message),
                input => self.input(node, daemon, input),
            }
        }
        self.wake_now(node, daemon);
    }

    pub(super) fn wake(&mut self, node: NodeId, daemon: Daemon, life: u32) {
        let now = self.now();
        let process = self.process_mut(node, daemon);
        if process.life() != life || !process.is_running() {
            return;
        }
        if process.wake_at == Some(now) {
            process.wake_at = None;
        }
        self.wake_now(node, daemon);
    }

    pub(super) fn wake_now(&mut self, node: NodeId, daemon: Daemon) {
        let now = self.instant(node);
        let process = self.process(node, daemon);
        let deadline = process.core().and_then(Core::next_deadline);
        if process.is_paused() || deadline.is_none() {
            return;
        }
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.input(node, daemon, DaemonInput::Timer);
        } else {
            self.schedule_wake(node, daemon);
        }
    }

    pub(super) fn schedule_wake(&mut self, node: NodeId, daemon: Daemon) {
        let process = self.process(node, daemon);
        let Some(deadline) = process.core().and_then(Core::next_deadline) else { return };
        let due = self.due(node, deadline);
        if process.wake_at.is_some_and(|at| at <= due + WAKE_LATENESS_MAX) {
            return;
        }
        let life = process.life();
        let at = due + self.rng.span(Duration::ZERO, WAKE_LATENESS_MAX);
        self.process_mut(node, daemon).wake_at = Some(at);
        self.queue.push(at, Event::Wake { node, daemon, life });
    }

    pub(super) fn disk_done(&mut self, node: NodeId, daemon: Daemon, life: u32) {
        let machine = self.machines.get_mut(&node).expect("only nodes of the setup have disks");
        if machine.process(daemon).life() != life || !machine.process(daemon).is_running() {
            return;
        }
        let Some(write) = machine.process_mut(daemon).disk.complete() else { return };
        let failed = std::mem::take(&mut machine.process_mut(daemon).write_fails);
        if failed && let DiskWrite::Store(batch, _) = write {
            return self.input(node, daemon, DaemonInput::StoreFailed(batch.id));
        }
        let skip = self.setup.mutation == Some(Mutation::SkipStore) && matches!(write, DiskWrite::Store(..));
        if !skip && let Some(event) = machine.apply(&write) {
            self.observe(node, event);
        }
        if !self.is_reported_early(&write) {
            self.input(node, daemon, DaemonInput::Stored(write));
        }
    }

    pub(super) fn is_reported_early(&self, write: &DiskWrite) -> bool {
        match write {
            DiskWrite::RingSeq(_) => self.setup.mutation == Some(Mutation::RingSeqBeforeDurable),
            DiskWrite::Store(..) => self.setup.mutation == Some(Mutation::StoreBeforeDurable),
            DiskWrite::Tracking(_) => false,
        }
    }

    pub(super) fn input(&mut self, node: NodeId, daemon: Daemon, input: DaemonInput) {
        let now = self.instant(node);
        let at = self.now();
        if let DaemonInput::Datagram(datagram) = &input {
            self.trace.note_quietly(at, &(node.get(), datagram.hash));
        }
        let process = self.process_mut(node, daemon);
        if process.is_paused() {
            return process.hold(input);
        }
        let Some(core) = process.core_mut() else { return };
        core.handle(now, input);
        self.run_effects(node, daemon);
    }

    pub(super) fn run_effects(&mut self, node: NodeId, daemon: Daemon) {
        let Some(core) = self.process_mut(node, daemon).core_mut() else { return };
        let effects: VecDeque<Effect> = core.effects();
        for effect in effects {
            self.carry_out(node, daemon, effect);
        }
        self.schedule_wake(node, daemon);
    }

    /// What the clock of a node shows now. It may run fast or slow, but never backwards.
    pub(super) fn instant(&self, node: NodeId) -> Instant {
        let now = self.queue.now();
        let ppm = self.setup.clock_ppm.get(&node).copied().unwrap_or(0);
        if ppm == 0 {
            return self.base + now;
        }
        let ahead = now * u32::try_from(ppm.unsigned_abs()).unwrap_or(0) / MILLION;
        self.base + if ppm < 0 { now - ahead } else { now + ahead }
    }

    /// When the clock of a node shows at least this; now if it does already.
    pub(super) fn due(&self, node: NodeId, deadline: Instant) -> SimTime {
        let now = self.queue.now();
        let left = deadline.saturating_duration_since(self.instant(node));
        let ppm = self.setup.clock_ppm.get(&node).copied().unwrap_or(0);
        if ppm >= 0 {
            return now + left;
        }
        // A slow clock needs longer for it; a fast one less, and then asks again.
        let slower = left * u32::try_from((-ppm).max(0)).unwrap_or(0) / (MILLION / 2);
        now + left + slower
    }
}
