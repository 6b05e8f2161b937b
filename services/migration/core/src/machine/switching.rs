//! The guest is stopped: from `pre-switchover` to the commit. Everything here has a short limit.

use serde_json::Value;

use super::{Failure, Input, Migration, Output, Phase, Side, Timer, Written, job, remote};
use crate::qmp::{self, Command, Event};

/// What is known while the guest is stopped.
#[derive(Debug, Default)]
pub(super) struct Switching {
    /// The disks' copies are complete and let go of.
    disks_done: bool,
    /// Commands are under way.
    scripted: bool,
    /// The source's QEMU has sent everything, and been acknowledged.
    source_completed: bool,
    /// The target's QEMU has everything.
    target_completed: bool,
}

impl Migration {
    pub(super) fn start_switching(&mut self) {
        self.set(Timer::Limit, self.timings.switching);
        self.set(Timer::Poll, self.timings.poll_switching);
        let disks = self.plan.disks.len();
        if disks == 0 {
            return self.continue_memory();
        }
        // Of a job that is ready this is the end, not a failure: the copy is complete.
        self.set_scripted(true);
        self.run(
            (0..disks).map(|index| (Side::Source, Command::JobCancel { job: job(index), force: false })),
        );
    }

    /// The disks are complete: nobody writes to them through the network any more, then the rest of the memory goes.
    fn continue_memory(&mut self) {
        if let Phase::Switching(switching) = &mut self.phase {
            switching.disks_done = true;
        }
        let disks = self.plan.disks.len();
        let mut script = Vec::new();
        for index in 0..disks {
            script.push((Side::Source, Command::JobDismiss { job: job(index) }));
            script.push((Side::Source, Command::BlockdevDel { name: remote(index) }));
        }
        if disks > 0 {
            // QEMU would let the guest run with the export still there.
            script.push((Side::Target, Command::NbdStop));
        }
        script.push((Side::Source, Command::Continue));
        self.set_scripted(true);
        self.run(script);
    }

    fn set_scripted(&mut self, scripted: bool) {
        if let Phase::Switching(switching) = &mut self.phase {
            switching.scripted = scripted;
        }
    }

    pub(super) fn switching(&mut self, input: Input) {
        let disks_done = matches!(&self.phase, Phase::Switching(switching) if switching.disks_done);
        // The connections for the disks are to close now.
        let expected = disks_done && matches!(input, Input::Broken(super::Channel::Disks, _));
        // The memory's connection ends when everything was sent: QEMU's words count.
        let ending = matches!(input, Input::Broken(super::Channel::Memory, _));
        if expected || ending {
            return;
        }
        if let Some(failure) = Self::breakage(&input) {
            return self.fail(failure);
        }
        match input {
            Input::Reply { side, command, result } => self.reply_switching(side, &command, result),
            Input::Event { side, event } => self.event_switching(side, &event),
            _ => {}
        }
    }

    fn reply_switching(&mut self, side: Side, command: &Command, result: Result<Value, String>) {
        match self.script_reply(side, command, &result) {
            Some(Err(failure)) => return self.fail(failure),
            Some(Ok(through)) => {
                if through {
                    self.set_scripted(false);
                    self.poll_switching();
                }
                return;
            }
            None => {}
        }
        let Ok(answer) = result else { return };
        match (side, command) {
            (Side::Source, Command::QueryJobs) => self.look_at_jobs(&answer),
            (_, Command::QueryMigrate) => self.look_at_migration(side, &answer),
            (Side::Target, Command::QueryStatus) => self.look_at_target(&qmp::status_of(&answer)),
            _ => {}
        }
    }

    fn event_switching(&mut self, side: Side, event: &Event) {
        match event {
            Event::JobConcluded(_) => self.qmp(Side::Source, Command::QueryJobs),
            Event::Migration(status) if matches!(status.as_str(), "completed" | "failed" | "cancelled") => {
                self.qmp(side, Command::QueryMigrate);
            }
            _ => {}
        }
    }

    pub(super) fn poll_switching(&mut self) {
        let Phase::Switching(switching) = &self.phase else { return };
        let (scripted, disks_done) = (switching.scripted, switching.disks_done);
        self.set(Timer::Poll, self.timings.poll_switching);
        if scripted {
            return;
        }
        if disks_done {
            self.qmp(Side::Source, Command::QueryMigrate);
            self.qmp(Side::Target, Command::QueryMigrate);
        } else {
            self.qmp(Side::Source, Command::QueryJobs);
        }
    }

    fn look_at_jobs(&mut self, answer: &Value) {
        let Phase::Switching(switching) = &self.phase else { return };
        if switching.disks_done || switching.scripted {
            return;
        }
        let jobs: Vec<_> = qmp::jobs(answer).into_iter().filter(|job| job.id.starts_with("mig")).collect();
        if let Some(error) = jobs.iter().find_map(|job| job.error.as_ref()) {
            let message = format!("the copy of a disk was not completed: {error}");
            return self.fail(Failure::new("MIRROR_FAILED", message));
        }
        let concluded = jobs.iter().filter(|job| job.status == "concluded").count();
        if concluded == self.plan.disks.len() {
            self.continue_memory();
        }
    }

    fn look_at_migration(&mut self, side: Side, answer: &Value) {
        let info = qmp::migrate_info(answer);
        let Phase::Switching(switching) = &mut self.phase else { return };
        match info.status.as_str() {
            "completed" if side == Side::Source => {
                switching.source_completed = true;
                self.ram = info.ram;
                self.downtime_ms = self.downtime_ms.max(info.downtime);
            }
            "completed" => switching.target_completed = true,
            "failed" | "cancelled" => {
                let why = info.error_desc.unwrap_or(info.status);
                let message = format!("QEMU cannot hand over the guest: {why}");
                return self.fail(Failure::new("MIGRATION_FAILED", message));
            }
            _ => return,
        }
        // Only both together: the source alone may have sent into the void.
        if switching.source_completed && switching.target_completed {
            self.qmp(Side::Target, Command::QueryStatus);
        }
    }

    fn look_at_target(&mut self, status: &str) {
        let Phase::Switching(switching) = &self.phase else { return };
        if !(switching.source_completed && switching.target_completed) {
            return;
        }
        match status {
            "paused" | "prelaunch" => self.begin_commit(),
            "running" => {
                let message = "the target's QEMU runs the guest though it was told not to";
                self.fail(Failure::new("TARGET_RUNS", message));
            }
            // Not settled yet: the next look will tell.
            _ => {}
        }
    }

    pub(super) fn switching_takes_too_long(&mut self) {
        // QEMU may hang in a send and answer nothing but this.
        let nodes = (0..self.plan.disks.len()).map(remote).collect();
        self.output(Output::CloseTunnel);
        self.qmp(Side::Source, Command::Yank { nodes });
        let message = format!(
            "the guest was stopped for {} s and not everything had arrived; is the migration network cut?",
            self.timings.switching.as_secs()
        );
        self.fail(Failure::new("SWITCHOVER_TIMEOUT", message));
    }

    pub(super) fn begin_commit(&mut self) {
        self.enter(Phase::Committing { due: self.now + self.timings.commit });
        self.commit_sent = true;
        self.output(Output::Commit);
    }

    pub(super) fn committing(&mut self, input: Input) {
        match input {
            Input::Commit(Written::Done) | Input::Owner(Ok(super::Owner::Target)) => self.begin_committed(),
            // Committed by an attempt whose answer was lost, or made void by somebody: ask.
            Input::Commit(Written::Mismatch) => self.output(Output::AskOwner),
            Input::Commit(Written::Failed(why)) => self.commit_failed(&why),
            Input::Owner(Ok(super::Owner::SourceVoid)) => {
                let message = "the guest was unlocked or changed by somebody else meanwhile";
                self.fail(Failure::new("MIGRATION_VOID", message));
            }
            Input::Owner(Ok(super::Owner::Source)) => self.output(Output::Commit),
            Input::Owner(Err(why)) => self.commit_failed(&why),
            // The guest's memory is complete on the target, which is all that a commit needs of the two.
            _ => {}
        }
    }

    fn commit_failed(&mut self, why: &str) {
        let Phase::Committing { due } = self.phase else { return };
        if self.now < due {
            return self.set(Timer::Retry, self.timings.retry);
        }
        let message = format!(
            "the cluster did not accept the new owner within {} s: {why}",
            self.timings.commit.as_secs()
        );
        self.fail(Failure::new("COMMIT_FAILED", message));
    }

    pub(super) fn commit_again(&mut self) {
        self.output(Output::Commit);
    }
}
