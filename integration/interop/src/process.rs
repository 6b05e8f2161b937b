//! Processes that end with their owner.

use std::{
    fs::OpenOptions,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::until;

/// A running program. It is killed when this is dropped; and, as it is started by setpriv, when the tests are killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command whose output goes to the end of a log.
    pub(crate) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let stdout = open().with_context(|| format!("cannot open {}", log.display()))?;
        let stderr = open().with_context(|| format!("cannot open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        Ok(Self { child })
    }

    /// Sends a signal. The process is known to be there until it is waited for.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal process {pid}"))
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it at once.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(mut self, within: Duration) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let what = format!("the end of process {}", self.child.id());
        until(&what, within, || {
            let ended = if self.is_running() { Err("it runs".to_owned()) } else { Ok(()) };
            async { ended }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
