//! From the beginning to the moment at which the guest stops: it runs at the source, and nothing is decided.

use super::{
    Failure, Input, Migration, Output, Phase, Ready, Side, Timer, job, remote, switching::Switching,
};
use crate::{
    qmp::{self, Command, Event, MigrateInfo},
    record::State,
};

/// Polls with the same or more left to send, before the guest may be stopped for longer.
const ROUNDS_WITHOUT_GAIN: u32 = 8;

impl Migration {
    pub(super) fn forward(&mut self, input: Input) {
        // Out of step with QEMU: as long as nothing was sent, its end is the end.
        if let Some(failure) = Self::breakage(&input) {
            // Before the disks are through the connection for them is all there is; QEMU says more of its own.
            return self.fail(failure);
        }
        match input {
            Input::Prepared(Ok(ready)) => self.prepared(ready),
            Input::Prepared(Err(failure)) | Input::Copied(Err(failure)) => self.fail(failure),
            Input::Copied(Ok(())) => self.output(Output::Write(State::Switching)),
            Input::Wrote(state, Ok(())) => self.step(state),
            Input::Wrote(_, Err(why)) => {
                let message = format!("the state of the migration cannot be written to the cluster: {why}");
                self.fail(Failure::new("RECORD_NOT_WRITTEN", message));
            }
            Input::Reply { side, command, result } => {
                match self.script_reply(side, &command, &result) {
                    Some(Err(failure)) => self.fail(failure),
                    Some(Ok(_)) => {}
                    None => self.seen(side, &command, &result.unwrap_or_default()),
                };
            }
            Input::Event { side: Side::Source, event } => self.event_forward(event),
            _ => {}
        }
    }

    fn prepared(&mut self, ready: Ready) {
        self.sockets = ready.sockets;
        for disk in &mut self.plan.disks {
            if let Some(node) = ready.nodes.get(&disk.key) {
                disk.target_node.clone_from(node);
            }
        }
        let moves_disks = !self.plan.disks.is_empty();
        if !self.plan.online && moves_disks {
            self.enter(Phase::Copying);
            self.set(Timer::Stall, self.timings.stall);
            return self.output(Output::Copy);
        }
        let next = match (self.plan.online, moves_disks) {
            (false, _) => State::Switching,
            (true, true) => State::Mirroring,
            (true, false) => State::Precopy,
        };
        self.output(Output::Write(next));
    }

    /// The tree says so: the step may be taken.
    fn step(&mut self, state: State) {
        match state {
            State::Mirroring => self.begin_mirroring(),
            State::Precopy => self.begin_precopy(),
            State::Switching if self.plan.online => self.begin_switching(),
            // Nothing runs: the disks are there, only the owner is to change.
            State::Switching => self.begin_commit(),
            _ => {}
        }
    }

    fn begin_mirroring(&mut self) {
        self.enter(Phase::Mirroring { ready: 0 });
        self.migrating = true;
        let mut script =
            vec![(Side::Target, Command::NbdStart { socket: self.sockets.target_disks.clone() })];
        for disk in &self.plan.disks {
            script.push((Side::Target, Command::ExportAdd { node: disk.target_node.clone() }));
        }
        for (index, disk) in self.plan.disks.iter().enumerate() {
            let (name, socket) = (remote(index), self.sockets.source_disks.clone());
            script.push((
                Side::Source,
                Command::BlockdevAdd { name, socket, export: disk.target_node.clone() },
            ));
            let (device, target) = (disk.source_node.clone(), remote(index));
            let mirror = Command::Mirror { job: job(index), device, target, speed: self.plan.speed };
            script.push((Side::Source, mirror));
        }
        self.run(script);
        self.watch();
    }

    fn begin_precopy(&mut self) {
        let downtime_ms = u64::try_from(self.plan.downtime.as_millis()).unwrap_or(u64::MAX);
        self.enter(Phase::Precopy { rounds: 0, downtime_ms });
        self.migrating = true;
        let incoming = Command::Incoming { socket: self.sockets.target_memory.clone() };
        let migrate = Command::Migrate { socket: self.sockets.source_memory.clone() };
        self.run([
            (Side::Target, Command::SetCapabilities),
            (Side::Source, Command::SetCapabilities),
            (Side::Target, incoming),
            (Side::Source, Command::SetParameters { speed: self.plan.speed, downtime_ms }),
            (Side::Source, migrate),
        ]);
        self.watch();
    }

    fn begin_switching(&mut self) {
        self.enter(Phase::Switching(Switching::default()));
        self.start_switching();
    }

    fn watch(&mut self) {
        self.moved = 0;
        self.set(Timer::Poll, self.timings.poll);
        self.set(Timer::Stall, self.timings.stall);
    }

    pub(super) fn poll_forward(&mut self) {
        self.set(Timer::Poll, self.timings.poll);
        let query = match self.phase {
            Phase::Mirroring { .. } => Command::QueryJobs,
            _ => Command::QueryMigrate,
        };
        self.qmp(Side::Source, query);
    }

    /// Nothing was moved since the last look: the network is cut, or the other end hangs.
    pub(super) fn look_for_stall(&mut self) {
        let moved = self.ram.transferred + self.disk_done;
        if moved == self.moved && !matches!(self.phase, Phase::Copying) {
            let message = format!(
                "nothing was transferred for {} s; is the migration network cut?",
                self.timings.stall.as_secs()
            );
            return self.fail(Failure::new("MIGRATION_STALLED", message));
        }
        self.moved = moved;
        self.set(Timer::Stall, self.timings.stall);
    }

    fn event_forward(&mut self, event: Event) {
        match (&mut self.phase, event) {
            (Phase::Mirroring { ready }, Event::JobReady(name)) if name.starts_with("mig") => {
                *ready += 1;
                if *ready == self.plan.disks.len() {
                    self.output(Output::Write(State::Precopy));
                }
            }
            // It should go on until it is told to end: it failed, and query-jobs says why.
            (_, Event::JobConcluded(_)) => self.qmp(Side::Source, Command::QueryJobs),
            (Phase::Precopy { .. }, Event::Migration(status)) => match status.as_str() {
                "pre-switchover" => self.output(Output::Write(State::Switching)),
                "failed" | "cancelled" => self.qmp(Side::Source, Command::QueryMigrate),
                _ => {}
            },
            _ => {}
        }
    }

    fn seen(&mut self, side: Side, command: &Command, answer: &serde_json::Value) {
        match (side, command) {
            (Side::Source, Command::QueryJobs) => self.seen_jobs(answer),
            (Side::Source, Command::QueryMigrate) => self.seen_migration(&qmp::migrate_info(answer)),
            _ => {}
        }
    }

    fn seen_jobs(&mut self, answer: &serde_json::Value) {
        let jobs: Vec<_> = qmp::jobs(answer).into_iter().filter(|job| job.id.starts_with("mig")).collect();
        self.disk_done = jobs.iter().map(|job| job.current_progress).sum();
        self.disk_total = jobs.iter().map(|job| job.total_progress).sum();
        if let Some(failed) = jobs.iter().find(|job| job.status == "concluded") {
            let index: usize = failed.id.trim_start_matches("mig").parse().unwrap_or(0);
            let disk = self.plan.disks.get(index).map_or("", |disk| disk.key.as_str());
            let why = failed.error.clone().unwrap_or_else(|| "it ended early".to_owned());
            return self.fail(Failure::new("MIRROR_FAILED", format!("disk {disk} cannot be copied: {why}")));
        }
        self.tell();
    }

    fn seen_migration(&mut self, info: &MigrateInfo) {
        match info.status.as_str() {
            "failed" | "cancelled" => {
                let why = info.error_desc.clone().unwrap_or_else(|| info.status.clone());
                self.fail(Failure::new("MIGRATION_FAILED", format!("QEMU cannot send the memory: {why}")));
            }
            "active" => {
                let grew = info.ram.remaining >= self.ram.remaining && self.ram.total > 0;
                self.ram = info.ram;
                self.tell();
                self.judge_convergence(grew, info);
            }
            _ => {}
        }
    }

    /// The guest changes its memory faster than it can be sent: let it be stopped for longer, up to what is accepted.
    fn judge_convergence(&mut self, grew: bool, info: &MigrateInfo) {
        let Phase::Precopy { rounds, downtime_ms } = &mut self.phase else { return };
        // The first pass sends everything once; nothing can be said of it.
        if info.ram.dirty_sync_count < 2 || !grew {
            return;
        }
        *rounds += 1;
        if *rounds < ROUNDS_WITHOUT_GAIN {
            return;
        }
        *rounds = 0;
        let most = u64::try_from(self.plan.downtime_max.as_millis()).unwrap_or(u64::MAX);
        if *downtime_ms >= most {
            let rate = info.ram.dirty_pages_rate * info.ram.page_size.max(1) / (1 << 20);
            let message = format!(
                "the guest changes {rate} MiB/s of its memory, faster than it can be sent; it would have to be stopped for \
                 {} ms, {most} ms are accepted; give it more bandwidth, or a longer migrate_downtime",
                info.expected_downtime
            );
            return self.fail(Failure::new("NOT_CONVERGING", message));
        }
        *downtime_ms = (*downtime_ms * 2).min(most);
        let (speed, downtime_ms) = (self.plan.speed, *downtime_ms);
        self.qmp(Side::Source, Command::SetParameters { speed, downtime_ms });
    }
}
