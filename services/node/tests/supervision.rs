//! A supervisor with scripts in place of the daemons: what is started again, what is stopped, and in which order.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// A daemon that stops at SIGTERM or at the end of its standard input, and writes down when it does.
const DAEMON: &str = "#!/bin/sh
name=$(basename \"$0\")
trap 'echo $name >> \"$2/stopped\"; exit 0' TERM
echo $name >> \"$2/started\"
exec 3<&0
cat <&3 > /dev/null &
wait $!
echo \"$name alone\" >> \"$2/stopped\"
";

/// Longest wait for anything in these tests.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    dir: tempfile::TempDir,
    supervisor: Child,
}

impl Node {
    fn start() -> Self {
        Self::start_with(DAEMON, "0")
    }

    fn start_with(script: &str, probe_every: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in quorate_node::DAEMONS {
            write_script(&dir.path().join(name), script);
        }
        let supervisor = supervisor(dir.path()).args(["--probe-every", probe_every]).spawn().unwrap();
        Self { dir, supervisor }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn pid(&self, name: &str) -> Option<Pid> {
        let text = fs::read_to_string(self.path(&format!("run/quorate/{name}.pid"))).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    fn signal_supervisor(&self, signal: Signal) {
        let pid = self.supervisor.id().unwrap();
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// Waits until so many lines are in a file.
    async fn wait_for_lines(&self, name: &str, count: usize) -> Vec<String> {
        wait_for(&format!("{count} lines in {name}"), || Some(self.lines(name)).filter(|l| l.len() >= count))
            .await
    }
}

fn supervisor(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-node"));
    command.arg("--root").arg(root).arg("--bin-dir").arg(root);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut every = tokio::time::interval(Duration::from_millis(10));
    let found = async {
        loop {
            every.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("gave up waiting for {what}"))
}

#[tokio::test]
async fn sigterm_stops_the_daemons_in_the_order_opposite_to_their_start() {
    let mut node = Node::start();
    node.wait_for_lines("started", 6).await;

    node.signal_supervisor(Signal::SIGTERM);
    let status = node.supervisor.wait().await.unwrap();

    assert!(status.success());
    assert_eq!(
        node.lines("stopped"),
        ["gatewayd", "migrationd", "guestd", "configd", "quorumd", "membershipd"]
    );
    assert_eq!(node.pid("quorumd"), None);
    assert_eq!(node.pid("quorate-node"), None);
}

#[tokio::test]
async fn a_killed_daemon_is_started_again_and_the_others_go_on() {
    let node = Node::start();
    node.wait_for_lines("started", 6).await;
    let ring = node.pid("membershipd");
    let killed = wait_for("the process id of quorumd", || node.pid("quorumd")).await;

    kill(killed, Signal::SIGKILL).unwrap();

    let started = node.wait_for_lines("started", 7).await;
    assert_eq!(started[6], "quorumd");
    wait_for("a new process id", || node.pid("quorumd").filter(|pid| *pid != killed)).await;
    assert_eq!(node.pid("membershipd"), ring);
}

/// What a daemon is made of and nothing more, in a process of its own: this program, as [`serving`] runs it.
#[tokio::test]
#[ignore = "a daemon for another test"]
async fn serves_health_until_it_is_killed() {
    let (root, name) = (std::env::var("TEST_ROOT").unwrap(), std::env::var("TEST_DAEMON").unwrap());
    let node = quorate_daemon::NodeConfig::named("hp1".parse().unwrap());
    let daemon = quorate_daemon::Daemon::new(name.leak(), quorate_daemon::Root::new(root), node);
    quorate_daemon::shutdown::cancel_without_supervisor(daemon.shutdown.clone()).unwrap();
    let server = quorate_daemon::Server::new(&daemon).bind(&daemon.socket()).unwrap();
    let (metrics, answered) = (daemon.metrics.clone(), daemon.root.as_path().join("answered"));
    tokio::spawn(async move {
        wait_for("a question", || metrics.encode().contains("grpc.health.v1.Health/Check").then_some(()))
            .await;
        let mut file = fs::OpenOptions::new().create(true).append(true).open(answered).unwrap();
        std::io::Write::write_all(&mut file, format!("{}\n", daemon.name).as_bytes()).unwrap();
    });
    server.serve(daemon.shutdown.clone()).await.unwrap();
}

/// A daemon that answers.
fn serving() -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "#!/bin/sh\nexport TEST_DAEMON=$(basename \"$0\") TEST_ROOT=\"$2\"\necho $TEST_DAEMON >> \"$2/started\"\n\
         exec {} --ignored --exact serves_health_until_it_is_killed\n",
        program.display()
    )
}

#[tokio::test]
async fn a_daemon_that_hangs_is_killed_and_started_again_and_one_that_answers_is_not() {
    let node = Node::start_with(&serving(), "1");
    node.wait_for_lines("answered", 6).await;
    let hanging = wait_for("the process id of quorumd", || node.pid("quorumd")).await;
    let other = wait_for("the process id of configd", || node.pid("configd")).await;

    kill(hanging, Signal::SIGSTOP).unwrap();

    let started = node.wait_for_lines("started", 7).await;
    assert_eq!(started[6], "quorumd");
    wait_for("a new process id", || node.pid("quorumd").filter(|pid| *pid != hanging)).await;
    assert_eq!(node.pid("configd"), Some(other));
}

#[tokio::test]
async fn daemons_end_when_their_supervisor_is_killed() {
    let node = Node::start();
    node.wait_for_lines("started", 6).await;

    node.signal_supervisor(Signal::SIGKILL);

    let mut stopped = node.wait_for_lines("stopped", 6).await;
    stopped.sort();
    assert_eq!(
        stopped,
        [
            "configd alone",
            "gatewayd alone",
            "guestd alone",
            "membershipd alone",
            "migrationd alone",
            "quorumd alone"
        ]
    );
}

#[tokio::test]
async fn a_second_supervisor_of_the_same_root_is_refused() {
    let node = Node::start();
    wait_for("the first supervisor", || node.pid("quorate-node")).await;

    let second = supervisor(node.dir.path()).output().await.unwrap();

    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another quorate-node is running here"));
}

#[tokio::test]
async fn what_a_daemon_says_is_in_its_log() {
    let dir = tempfile::tempdir().unwrap();
    for name in quorate_node::DAEMONS {
        write_script(&dir.path().join(name), "#!/bin/sh\necho no such cluster >&2\nexit 64\n");
    }
    let _supervisor = supervisor(dir.path()).spawn().unwrap();
    let log = dir.path().join("var/log/quorate/configd.log");
    let said =
        wait_for("the log of configd", || fs::read_to_string(&log).ok().filter(|text| !text.is_empty()))
            .await;
    assert_eq!(said, "no such cluster\n");
}
