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

    /// All processes of a node that run: its supervisor, its daemons and its guests, also those that have not written their id
    /// down yet. The older ones first.
    pub(crate) fn all_of(root: &Path) -> Result<Vec<Self>, Error> {
        let entries = fs::read_dir("/proc").map_err(Error::file("list", "/proc"))?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_of_node = |pid: &i32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            is_of_node(&command, root)
        };
        let mut pids: Vec<i32> = pids.filter(is_of_node).collect();
        pids.sort_unstable();
        let processes = pids.into_iter().map(|pid| Self { pid });
        Ok(processes.filter(|process| process.is_running()).collect())
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

/// Whether this is the command line of a node's supervisor, of one of its daemons or of a guest.
fn is_of_node(command: &[u8], root: &Path) -> bool {
    let mut words = command.split(|byte| *byte == 0).peekable();
    let is_ip = words.peek().is_some_and(|word| *word == b"ip");
    // `ip netns exec NAMESPACE` stands before the program until ip has become it.
    let program = if is_ip { words.nth(4) } else { words.next() };
    let name = program.and_then(|program| program.rsplit(|byte| *byte == b'/').next());
    let is_ours = name.is_some_and(|name| {
        quorate_node::DAEMONS.into_iter().chain([quorate_node::NAME]).any(|own| own.as_bytes() == name)
    });
    let is_guest = name.is_some_and(|name| name.starts_with(b"qemu-system"));
    // A guest's control socket lies below the root.
    let socket = [b"unix:", root.as_os_str().as_encoded_bytes(), b"/run/"].concat();
    words.any(|word| {
        is_ours && word == root.as_os_str().as_encoded_bytes() || is_guest && word.starts_with(&socket)
    })
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

    #[test]
    fn a_nodes_processes_are_known_by_their_program_and_its_root() {
        let is_hp1 = |line: &str| is_of_node(line.replace(' ', "\0").as_bytes(), Path::new("/tmp/q/hp1"));
        assert!(is_hp1("/bin/quorate-node --root /tmp/q/hp1 --bin-dir /bin"));
        assert!(is_hp1("membershipd --root /tmp/q/hp1"));
        assert!(is_hp1("ip netns exec quorate-1-hp1 /bin/quorate-node --root /tmp/q/hp1"));
        assert!(is_hp1("qemu-system-x86_64 -qmp unix:/tmp/q/hp1/run/quorate/guests/100/qmp.sock,server=on"));
        assert!(!is_hp1(
            "qemu-system-x86_64 -qmp unix:/tmp/q/hp10/run/quorate/guests/100/qmp.sock,server=on"
        ));
        assert!(!is_hp1("membershipd --root /tmp/q/hp10"));
        assert!(!is_hp1("ls /bin/membershipd /tmp/q/hp1"));
        assert!(!is_hp1("ip netns exec quorate-1-hp1 pvecm --root /tmp/q/hp1"));
        assert!(!is_hp1(""));
    }

    #[tokio::test]
    async fn a_wait_ends_with_what_was_not_seen() {
        let error = wait_until("a miracle", Duration::from_millis(1), || ready(false)).await.unwrap_err();
        assert!(error.to_string().ends_with("waiting for a miracle"), "{error}");
    }
}
