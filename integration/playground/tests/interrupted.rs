//! A playground that is interrupted, or that cannot be set up, leaves nothing behind: no process and no file.
//!
//! The nodes are stand-ins: programs that run until they are killed. Their sockets are the test's.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt as _,
        net::UnixListener,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// How long anything may take: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Becomes a process that is called as the script was, with its arguments, and ends by a signal alone. The real one's
/// command line has the same form.
const STAND_IN: &str = "#!/bin/bash\nexec -a \"$0\" tail -f /dev/null -- \"$@\" 2>/dev/null\n";

/// A place for one test.
struct Place {
    dir: TempDir,
}

impl Place {
    /// One with stand-ins for these programs.
    fn with(programs: &[&str]) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(place.bin()).unwrap();
        for program in programs {
            let path = place.bin().join(program);
            fs::write(&path, STAND_IN).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir(place.tmp()).unwrap();
        place
    }

    fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    /// Where temporary directories are made.
    fn tmp(&self) -> PathBuf {
        self.dir.path().join("t")
    }

    /// Starts `playground`, in a process group of its own, as a shell does.
    fn playground(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_playground"));
        command.args(arguments).env("QUORATE_BIN_DIR", self.bin()).env("TMPDIR", self.tmp());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.spawn().unwrap()
    }

    /// Command lines of the programs of this place that run.
    fn running(&self) -> Vec<String> {
        let bin = self.bin().to_string_lossy().into_owned();
        let command = |pid: String| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok();
        let entries =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        entries.filter_map(command).filter(|command| command.starts_with(&bin)).collect()
    }

    /// Waits until the supervisors of three nodes run.
    fn wait_for_nodes(&self) {
        wait("three nodes", || {
            self.running().iter().filter(|line| line.contains("quorate-node")).count() == 3
        });
    }

    /// Answers in the daemons' stead, so that the nodes count as started.
    fn answer(&self, dir: &Path) -> Vec<UnixListener> {
        let nodes = ["hp1", "hp2", "hp3"].map(|node| dir.join(node).join("run/quorate"));
        let sockets = nodes.iter().flat_map(|run| {
            fs::create_dir_all(run).unwrap();
            quorate_node::DAEMONS.map(|daemon| run.join(format!("{daemon}.sock")))
        });
        sockets.map(|socket| UnixListener::bind(socket).unwrap()).collect()
    }

    /// The directory that the demo made.
    fn demo(&self) -> PathBuf {
        let mut entries = fs::read_dir(self.tmp()).unwrap();
        entries.next().expect("the demo has a directory").unwrap().path()
    }

    /// Nothing runs, and there are no temporary files.
    fn is_clean(&self) {
        assert_eq!(self.running(), [""; 0]);
        assert_eq!(fs::read_dir(self.tmp()).unwrap().count(), 0, "{}", self.tmp().display());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Only where a test failed is there anything to end.
        let bin = self.bin().to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let is_ours =
                fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(&bin));
            if let (true, Ok(pid)) = (is_ours, entry.file_name().to_string_lossy().parse()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Waits for its end; one that does not end fails the test.
fn end(mut child: Child) -> Output {
    let ended = |child: &mut Child| -> Option<ExitStatus> { child.try_wait().unwrap() };
    let deadline = Instant::now() + PATIENCE;
    while ended(&mut child).is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("playground did not end");
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    assert_eq!(output.status.signal(), None, "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn up_that_is_interrupted_half_way_leaves_nothing() {
    let place = Place::with(&["quorate-node"]);
    let dir = place.dir.path().join("new/lab");
    let up = place.playground(&["--dir", &dir.to_string_lossy(), "up"]);
    place.wait_for_nodes();

    send(&up, Signal::SIGINT);

    let output = end(up);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(said(&output).contains("SIGINT: nothing is left running"), "{output:?}");
    place.is_clean();
    assert!(!place.dir.path().join("new").exists());
}

#[test]
fn up_that_fails_leaves_what_was_there_before_and_nothing_else() {
    let place = Place::with(&[]);
    let dir = place.dir.path().join("lab");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("notes"), "mine").unwrap();

    let output = end(place.playground(&["--dir", &dir.to_string_lossy(), "up"]));

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("cargo build --workspace"), "{output:?}");
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["notes"]);
}

#[test]
fn up_does_not_start_on_the_data_of_nodes_that_it_does_not_know() {
    let place = Place::with(&["quorate-node"]);
    let dir = place.dir.path().join("lab");
    fs::create_dir_all(dir.join("hp2/var")).unwrap();

    let output = end(place.playground(&["--dir", &dir.to_string_lossy(), "up"]));

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("lab/hp2 is there, but"), "{output:?}");
    assert!(dir.join("hp2/var").exists(), "it is not ours to remove");
    place.is_clean();
}

#[test]
fn a_demo_that_is_ended_while_its_nodes_start_leaves_nothing() {
    let place = Place::with(&["quorate-node"]);
    let demo = place.playground(&["demo"]);
    place.wait_for_nodes();

    send(&demo, Signal::SIGTERM);

    let output = end(demo);
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    place.is_clean();
}

#[test]
fn a_demo_that_is_interrupted_in_a_step_leaves_nothing() {
    let place = Place::with(&["quorate-node", "pvecm"]);
    let demo = place.playground(&["demo", "--keep"]);
    place.wait_for_nodes();
    let _sockets = place.answer(&place.demo());
    wait("pvecm", || place.running().iter().any(|line| line.contains("pvecm")));

    send(&demo, Signal::SIGINT);

    let output = end(demo);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    wait("the end of pvecm", || place.running().is_empty());
    place.is_clean();
}

#[test]
fn a_demo_that_nobody_reads_any_more_leaves_nothing() {
    let place = Place::with(&["quorate-node", "pvecm"]);
    let mut demo = place.playground(&["demo"]);
    place.wait_for_nodes();
    // As `playground demo | head -1` does.
    drop(demo.stdout.take());
    let _sockets = place.answer(&place.demo());

    let output = end(demo);

    assert!(!output.status.success(), "{output:?}");
    place.is_clean();
}
