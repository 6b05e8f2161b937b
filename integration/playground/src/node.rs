//! One node: start, stop, kill, run a command.

use std::{
    env,
    ffi::OsString,
    fs::{self, OpenOptions},
    future::ready,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::Signal,
};
use quorate_daemon::{
    Root,
    client::{DaemonChannel, daemon_channel},
};
use tokio::net::UnixStream;

use crate::{
    Error, network,
    plan::{NodePlan, Plan},
    process::{Process, wait_until},
};

/// How long a node may take until all of its daemons answer: generous, for a loaded machine.
const START: Duration = Duration::from_secs(60);
/// How many lines at the end of a log say why a daemon does not come up.
const TOLD: usize = 8;
/// How long it may take to stop: its supervisor gives each daemon 15 s.
const STOP: Duration = Duration::from_secs(75);
/// How long a killed process may take to be gone.
const KILLED: Duration = Duration::from_secs(10);

/// One node of a playground.
#[derive(Debug, Clone)]
pub struct Node {
    plan: Plan,
    own: NodePlan,
    root: Root,
    bin_dir: PathBuf,
}

impl Node {
    pub(crate) fn new(plan: &Plan, own: &NodePlan, dir: &Path, bin_dir: &Path) -> Self {
        let root = Root::new(dir.join(&own.name));
        Self { plan: plan.clone(), own: own.clone(), root, bin_dir: bin_dir.to_owned() }
    }

    /// Its name, such as `hp1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.own.name
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> std::net::IpAddr {
        self.own.address
    }

    /// The prefix of all of its paths.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// A channel to its gateway, through which all of its services are reached. Must be called inside a runtime.
    #[must_use]
    pub fn gateway(&self) -> DaemonChannel {
        daemon_channel(&self.root, "gatewayd")
    }

    /// A command that runs where the node is: in its network, with the playground's environment, with `QUORATE_ROOT`
    /// set to its root, and with the programs of Quorate in `PATH`.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = network::command(&self.plan, &self.own, program);
        command.envs(&self.plan.environment);
        command.env("QUORATE_ROOT", self.root.as_path()).env("PATH", self.path_variable());
        command
    }

    fn path_variable(&self) -> OsString {
        let before = env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(self.bin_dir.clone()).chain(env::split_paths(&before));
        env::join_paths(dirs).unwrap_or(before)
    }

    /// Starts all daemons, and waits until each accepts connections. A node that runs stays as it is.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Program`], [`Error::NoAnswer`].
    pub async fn start(&self) -> Result<(), Error> {
        self.write_settings()?;
        if self.process(quorate_node::NAME).is_none() {
            self.spawn()?;
        }
        for daemon in quorate_node::DAEMONS {
            let socket = self.root.socket(daemon);
            let answers = || async { UnixStream::connect(&socket).await.is_ok() };
            wait_until(daemon, START, answers).await.map_err(|_| self.no_answer(daemon))?;
        }
        Ok(())
    }

    /// Tells the end of the daemon's log; if it never came to write one, of its supervisor's.
    fn no_answer(&self, daemon: &'static str) -> Error {
        let end = |log: &Path| {
            let text = fs::read(log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(TOLD)..].join("\n")
        };
        let own = self.log(daemon);
        let log = if end(&own).is_empty() { self.log(quorate_node::NAME) } else { own };
        let node = self.name().to_owned();
        Error::NoAnswer { daemon, node, within: START, end: end(&log), log }
    }

    fn spawn(&self) -> Result<(), Error> {
        let log = self.log(quorate_node::NAME);
        let dir = log.parent().expect("a log lies in a directory");
        fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        let open = || OpenOptions::new().create(true).append(true).open(&log);
        let stdout = open().map_err(Error::file("open", &log))?;
        let stderr = open().map_err(Error::file("open", &log))?;
        let program = self.bin_dir.join(quorate_node::NAME).to_string_lossy().into_owned();
        let mut command = self.command(&program);
        command.arg("--root").arg(self.root.as_path()).arg("--bin-dir").arg(&self.bin_dir);
        // A process group of its own: Ctrl-C in the terminal is not meant for the node.
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
        let hint = "build all of it first, with: cargo build --workspace";
        command.spawn().map(drop).map_err(|source| Error::Program { program, hint, source })
    }

    fn write_settings(&self) -> Result<(), Error> {
        let dir = self.root.config_dir();
        fs::create_dir_all(&dir).map_err(Error::file("create", dir))?;
        let path = self.root.node_toml();
        fs::write(&path, self.own.node_toml()).map_err(Error::file("write", path))
    }

    /// Stops all daemons in order and waits for their end. A node that does not run stays as it is.
    ///
    /// # Errors
    /// [`Error::Signal`], [`Error::Timeout`].
    pub async fn stop(&self) -> Result<(), Error> {
        let Some(supervisor) = self.process(quorate_node::NAME) else { return Ok(()) };
        supervisor.signal(Signal::SIGTERM)?;
        supervisor.gone(STOP).await
    }

    /// Kills one daemon with SIGKILL, or the whole node: all daemons, guests and their supervisor at once, as a power failure
    /// would. Waits until they are gone.
    ///
    /// # Errors
    /// [`Error::NoSuchDaemon`], [`Error::NotRunning`], [`Error::File`], [`Error::Signal`], [`Error::Timeout`].
    pub async fn kill(&self, daemon: Option<&str>) -> Result<(), Error> {
        if let Some(daemon) = daemon {
            let victim = self.running(daemon)?;
            victim.signal(Signal::SIGKILL)?;
            return victim.gone(KILLED).await;
        }
        if let Some(supervisor) = self.process(quorate_node::NAME) {
            // Else it would start a daemon again, or a daemon would notice its end, before all are dead.
            supervisor.signal(Signal::SIGSTOP)?;
        }
        self.kill_all()?;
        // Again and again: one that was just being started may not have been seen.
        let what = format!("the end of all processes of {}", self.name());
        wait_until(&what, KILLED, || ready(self.kill_all().is_ok_and(|left| left == 0))).await?;
        self.unmount();
        // On a machine of its own it lies in memory. That guests start by themselves once in each boot is known by it.
        let _ = fs::remove_dir_all(self.root.run_dir().join("guests"));
        Ok(())
    }

    /// Takes away the mount of a configd that is dead, as a power failure would. It may have been none.
    fn unmount(&self) {
        let _ = umount2(&self.root.mount_point(), MntFlags::MNT_DETACH);
    }

    /// Kills what runs, and says how much that was.
    fn kill_all(&self) -> Result<usize, Error> {
        let processes = Process::all_of(self.root.as_path())?;
        // Daemons are younger than their supervisor: it is the last, as they would notice its end.
        processes.iter().rev().try_for_each(|process| process.signal(Signal::SIGKILL))?;
        Ok(processes.len())
    }

    fn running(&self, daemon: &str) -> Result<Process, Error> {
        let known: Vec<&str> = quorate_node::DAEMONS.into_iter().chain([quorate_node::NAME]).collect();
        if !known.contains(&daemon) {
            let known = known.into_iter().map(str::to_owned).collect();
            return Err(Error::NoSuchDaemon { name: daemon.to_owned(), known });
        }
        let node = self.own.name.clone();
        self.process(daemon).ok_or_else(|| Error::NotRunning { node, daemon: daemon.to_owned() })
    }

    /// The process id of a daemon, or of `quorate-node`; `None` if it does not run.
    #[must_use]
    pub fn pid(&self, daemon: &str) -> Option<i32> {
        self.process(daemon).map(Process::pid)
    }

    fn process(&self, name: &str) -> Option<Process> {
        Process::of(self.root.as_path(), &self.root.run_dir().join(format!("{name}.pid")))
    }

    /// The log of a daemon, or of `quorate-node`.
    #[must_use]
    pub fn log(&self, daemon: &str) -> PathBuf {
        self.root.as_path().join(format!("var/log/quorate/{daemon}.log"))
    }
}
