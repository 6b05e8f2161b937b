//! The target owns the guest. There is no way back: every step is repeated until it has succeeded.

use super::{Input, Migration, Outcome, Output, Phase, Resumed, Timer};
use crate::record::State;

/// What is done already.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// The guest runs there, or never will.
    settled: bool,
    /// The source's process is gone.
    released: bool,
    problems: Vec<String>,
}

impl Migration {
    pub(super) fn begin_committed(&mut self) {
        self.enter(Phase::Committed(Committed::default()));
        // Nothing waits for the record: the owner of the configuration says it all.
        self.output(Output::ResumeTarget);
        self.output(Output::Write(State::Committed));
        self.output(Output::CloseTunnel);
    }

    pub(super) fn committed(&mut self, input: Input) {
        let Phase::Committed(committed) = &mut self.phase else { return };
        match input {
            Input::Resumed(Resumed::Done) => committed.settled = true,
            Input::Resumed(Resumed::Gone) => {
                committed.settled = true;
                committed
                    .problems
                    .push("the guest's process on the target died: it is stopped there".to_owned());
            }
            Input::Released(Ok(())) => committed.released = true,
            Input::Resumed(Resumed::Failed(why)) | Input::Released(Err(why)) => {
                tracing::warn!(vmid = self.plan.vmid, why, "not finished yet, will be tried again");
                return self.set(Timer::Retry, self.timings.retry);
            }
            _ => return,
        }
        match (committed.settled, committed.released) {
            // Only now: until the guest runs there, the source's disks are the only proven ones.
            (true, false) => self.output(Output::ReleaseSource),
            (true, true) => {
                let problems = std::mem::take(&mut committed.problems);
                let (downtime_ms, transferred) = (self.downtime_ms, self.ram.transferred);
                self.end(Outcome::Moved { downtime_ms, transferred, problems });
            }
            _ => {}
        }
    }

    pub(super) fn finish_again(&mut self) {
        let Phase::Committed(committed) = &self.phase else { return };
        let next = if committed.settled { Output::ReleaseSource } else { Output::ResumeTarget };
        self.output(next);
    }
}
