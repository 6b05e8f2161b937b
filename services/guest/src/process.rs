//! A QEMU process that is no child of this one: found by its number, held by a pidfd.
//!
//! The number alone proves nothing, it may be another program's by now. The process is opened first and looked at then: what
//! was looked at cannot be replaced by another one any more.

use std::{fs, io, os::fd::OwnedFd, path::Path};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};

/// A process that ran when it was opened.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    descriptor: AsyncFd<OwnedFd>,
}

impl Process {
    /// The process that a file names, if it runs and its command line has the argument `mark`.
    pub(crate) fn of_file(path: &Path, mark: &str) -> Option<Self> {
        let pid = fs::read_to_string(path).ok()?.trim().parse().ok().filter(|pid: &i32| *pid > 0)?;
        let descriptor = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_it = command.split(|byte| *byte == 0).any(|word| word == mark.as_bytes());
        #[expect(
            deprecated,
            reason = "an OwnedFd keeps its descriptor valid; what replaces it needs unsafe code"
        )]
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE).ok()?;
        is_it.then(|| Self { pid: pid.unsigned_abs(), descriptor })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) {
        // A pidfd is readable from the end of the process on; an error means that it cannot be waited for.
        let _ = self.descriptor.readable().await;
    }

    /// Ends it at once; one that is gone needs nothing.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.descriptor.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn sleeper() -> std::process::Child {
        let mut command = std::process::Command::new("tail");
        command.args(["-f", "/dev/null"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("tail is everywhere")
    }

    #[tokio::test]
    async fn a_process_is_held_until_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut child = sleeper();
        fs::write(&path, format!("{}\n", child.id())).unwrap();
        // A child has its command line a moment after it was started.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let process = loop {
            match Process::of_file(&path, "/dev/null") {
                Some(process) => break process,
                None => assert!(std::time::Instant::now() < deadline, "it is found"),
            }
            tokio::task::yield_now().await;
        };
        process.kill().unwrap();
        process.ended().await;
        child.wait().unwrap();
        assert!(process.kill().is_ok(), "killing what is gone is no error");
        assert!(Process::of_file(&path, "/dev/null").is_none());
    }

    #[tokio::test]
    async fn a_number_that_another_program_has_is_not_taken_for_the_guests() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        fs::write(&path, std::process::id().to_string()).unwrap();
        assert!(Process::of_file(&path, "unix:/run/g/qmp.sock").is_none());
        fs::write(&path, "-1").unwrap();
        assert!(Process::of_file(&path, "x").is_none());
    }
}
