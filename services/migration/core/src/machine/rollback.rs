//! Everything back: the migration is made void, the target's copy ends, and the guest goes on at the source.
//!
//! It looks at what there is and does what is missing, again and again, so that it may begin anywhere: in the middle of
//! any phase, or after a restart that knows nothing but the record.

use serde_json::Value;

use super::{Failure, Input, Migration, Outcome, Output, Owner, Phase, Side, Timer, Written, remote};
use crate::{
    qmp::{self, Command},
    record::State,
};

/// What is undone already.
#[derive(Debug)]
pub(super) struct RollingBack {
    failure: Failure,
    since: std::time::Instant,
    /// The commit can never take place any more.
    voided: bool,
    /// The target's copy is confirmed dead.
    target_stopped: bool,
    /// An attempt to stop the target is under way.
    stopping: bool,
    /// The source's QEMU has nothing left of the migration, or is gone.
    clean: bool,
    /// The guest runs, or is stopped as it was before, or its process is gone.
    well: bool,
}

impl Migration {
    /// Gives up, before the commit.
    pub(super) fn fail(&mut self, failure: Failure) {
        tracing::warn!(vmid = self.plan.vmid, reason = failure.reason, message = failure.message, "gives up");
        let (online, since) = (self.plan.online, self.now);
        let state = RollingBack {
            failure,
            since,
            voided: false,
            target_stopped: false,
            stopping: false,
            // Offline nothing runs that could be disturbed.
            clean: !online,
            well: !online,
        };
        self.enter(Phase::RollingBack(state));
        self.output(Output::CloseTunnel);
        self.output(Output::Void);
        self.undo();
    }

    pub(super) fn rolling_back(&mut self, input: Input) {
        if let Phase::Asking { state } = self.phase {
            return self.asked(state, input);
        }
        let Phase::RollingBack(back) = &mut self.phase else { return };
        match input {
            Input::Void(Written::Done) | Input::Owner(Ok(Owner::SourceVoid)) => {
                back.voided = true;
                self.undo();
            }
            Input::Void(Written::Mismatch) => self.output(Output::AskOwner),
            // The commit was accepted, only its answer had been lost.
            Input::Owner(Ok(Owner::Target)) => self.begin_committed(),
            Input::Owner(Ok(Owner::Source)) => self.output(Output::Void),
            Input::TargetStopped(result) => {
                back.stopping = false;
                back.target_stopped |= result.is_ok();
                if result.is_ok() {
                    self.undo();
                }
            }
            Input::Lost { side: Side::Source, .. } => {
                (back.clean, back.well) = (true, true);
                self.undo();
            }
            Input::Reply { side: Side::Source, command, result } => self.seen_at_source(&command, &result),
            _ => {}
        }
        if matches!(self.phase, Phase::RollingBack(_)) {
            self.try_again_later();
        }
    }

    /// After a restart in the middle of the switch: who owns the guest?
    fn asked(&mut self, state: State, input: Input) {
        match input {
            Input::Owner(Ok(Owner::Target)) => self.begin_committed(),
            Input::Owner(Ok(_)) => {
                let why =
                    format!("the migration daemon was restarted while the migration was {}", state.as_str());
                self.fail(Failure::new("MIGRATION_INTERRUPTED", why));
            }
            Input::Owner(Err(_)) => self.set(Timer::Retry, self.timings.retry),
            _ => {}
        }
    }

    fn try_again_later(&mut self) {
        if !self.timers.contains_key(&Timer::Retry) {
            self.set(Timer::Retry, self.timings.retry);
        }
    }

    pub(super) fn undo_again(&mut self) {
        if let Phase::RollingBack(back) = &self.phase
            && !back.voided
        {
            self.output(Output::Void);
        }
        self.undo();
        if matches!(self.phase, Phase::RollingBack(_)) {
            self.try_again_later();
        }
    }

    /// Nobody can make the target the owner any more: nobody was asked to, or it is void.
    fn decided(&self) -> bool {
        matches!(&self.phase, Phase::RollingBack(back) if back.voided || !self.commit_sent)
    }

    /// Does what is missing.
    fn undo(&mut self) {
        let decided = self.decided();
        let Phase::RollingBack(back) = &mut self.phase else { return };
        let waited = self.now.saturating_duration_since(back.since) >= self.timings.grace;
        let (stop, look) = (decided && !back.target_stopped && !back.stopping, !back.clean || !back.well);
        back.stopping |= stop;
        if back.voided && back.clean && back.well && (back.target_stopped || waited) {
            let failure = back.failure.clone();
            return self.end(Outcome::Stayed(failure));
        }
        if stop {
            self.output(Output::StopTarget);
        }
        if look {
            self.qmp(Side::Source, Command::QueryMigrate);
        }
    }

    /// One look at the source's QEMU: its migration, then its jobs, then the guest.
    fn seen_at_source(&mut self, command: &Command, result: &Result<Value, String>) {
        let Ok(answer) = result else { return };
        match command {
            Command::QueryMigrate => {
                let status = qmp::migrate_info(answer).status;
                if matches!(status.as_str(), "setup" | "active" | "pre-switchover" | "device" | "wait-unplug")
                {
                    self.qmp(Side::Source, Command::Cancel);
                } else if status != "cancelling" {
                    self.qmp(Side::Source, Command::QueryJobs);
                }
            }
            Command::QueryJobs => self.end_jobs(answer),
            Command::QueryStatus => self.let_go_on(&qmp::status_of(answer)),
            Command::Cont => self.qmp(Side::Source, Command::QueryStatus),
            _ => {}
        }
    }

    fn end_jobs(&mut self, answer: &Value) {
        let jobs: Vec<_> = qmp::jobs(answer).into_iter().filter(|job| job.id.starts_with("mig")).collect();
        if jobs.is_empty() {
            // Refused where there is none: that is as good.
            for index in 0..self.plan.disks.len() {
                self.qmp(Side::Source, Command::BlockdevDel { name: remote(index) });
            }
            if let Phase::RollingBack(back) = &mut self.phase {
                back.clean = true;
            }
            return self.qmp(Side::Source, Command::QueryStatus);
        }
        for job in jobs {
            match job.status.as_str() {
                "concluded" => self.qmp(Side::Source, Command::JobDismiss { job: job.id }),
                "aborting" | "null" | "undefined" => {}
                _ => {
                    let nodes = (0..self.plan.disks.len()).map(remote).collect();
                    self.qmp(Side::Source, Command::Yank { nodes });
                    self.qmp(Side::Source, Command::JobCancel { job: job.id, force: true });
                }
            }
        }
    }

    /// The guest goes on only when nobody can let it go on elsewhere, and rather after the target's copy is dead.
    fn let_go_on(&mut self, status: &str) {
        let decided = self.decided();
        let stays_paused = self.plan.paused;
        let Phase::RollingBack(back) = &mut self.phase else { return };
        let waited = self.now.saturating_duration_since(back.since) >= self.timings.grace;
        match status {
            "running" => back.well = true,
            "paused" if stays_paused && decided => back.well = true,
            "paused" | "postmigrate" | "finish-migrate" if decided && (back.target_stopped || waited) => {
                self.qmp(Side::Source, Command::Cont);
            }
            "paused" | "postmigrate" | "finish-migrate" => {}
            // Switched off, or in a state that has nothing to do with the migration.
            _ => back.well = decided,
        }
        self.finish_if_undone();
    }

    fn finish_if_undone(&mut self) {
        let Phase::RollingBack(back) = &self.phase else { return };
        if back.clean && back.well && back.voided {
            self.undo();
        }
    }
}
