//! Process ids, signals, waiting for an end.

use std::{
    fs,
    future::ready,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::Error;

/// How often something is looked at for which the operating system has no event.
const EVERY: Duration = Duration::from_millis(10);

/// A process of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
}

impl Process {
    /// The process that a process id file of the node names, if it runs: a file may be older than the last kill, and
    /// its number another program's by now, so the command line must name the node's root.
    pub(crate) fn of(root: &Path, pid_file: &Path) -> Option<Self> {
        let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let names_root =
            command.split(|byte| *byte == 0).any(|word| word == root.as_os_str().as_encoded_bytes());
        let process = Self { pid };
        (names_root && process.is_running()).then_some(process)
    }

    /// Its id.
    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    /// Sends a signal; a process that is gone needs none.
    pub(crate) fn signal(self, signal: Signal) -> Result<(), Error> {
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(Error::Signal { pid: self.pid, source: errno.into() }),
        }
    }

    /// Whether it runs; one that has ended and was not waited for does not.
    pub(crate) fn is_running(self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        // The state follows the command's name, which is in brackets and may itself hold brackets.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    }

    /// Waits for its end.
    pub(crate) async fn gone(self, within: Duration) -> Result<(), Error> {
        let what = format!("the end of process {}", self.pid);
        wait_until(&what, within, || ready(!self.is_running())).await
    }
}

/// Waits until a condition holds for which the operating system has no event.
pub(crate) async fn wait_until<F: Future<Output = bool>>(
    what: &str,
    within: Duration,
    condition: impl Fn() -> F,
) -> Result<(), Error> {
    let deadline = Instant::now() + within;
    let mut every = tokio::time::interval(EVERY);
    loop {
        every.tick().await;
        if condition().await {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Timeout { what: what.to_owned(), within });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_process_is_found_by_its_file_and_gone_when_it_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = tokio::process::Command::new("tail");
        command.args(["-f", "/dev/null"]).arg(dir.path()).kill_on_drop(true);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let file = dir.path().join("x.pid");
        fs::write(&file, format!("{}\n", child.id().unwrap())).unwrap();
        let found = || Process::of(dir.path(), &file);
        // A new process has its command line a moment after it was started.
        wait_until("the process", PATIENCE, || ready(found().is_some())).await.unwrap();
        let process = found().unwrap();

        process.signal(Signal::SIGKILL).unwrap();

        process.gone(PATIENCE).await.unwrap();
        assert_eq!(found(), None);
    }

    #[test]
    fn a_number_that_is_another_programs_by_now_is_not_taken_for_the_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pid");
        fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(Process::of(dir.path(), &file), None);
    }

    #[tokio::test]
    async fn a_wait_ends_with_what_was_not_seen() {
        let error = wait_until("a miracle", Duration::from_millis(1), || ready(false)).await.unwrap_err();
        assert!(error.to_string().ends_with("waiting for a miracle"), "{error}");
    }
}
