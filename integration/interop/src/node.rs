//! One node of a ring, of either kind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use quorate_daemon::{
    Root,
    client::{DaemonChannel, daemon_channel},
};
use quorate_proto::quorum::v1::{
    GetStatusRequest, SetExpectedRequest, quorum_service_client::QuorumServiceClient,
};
use tokio::net::UnixStream;

use crate::{
    GroupMember, PATIENCE, Votes,
    namespace::{Family, LINKS, Namespace, address},
    process::Process,
    requirements, until,
};

/// How long a daemon may take to stop.
const STOP: Duration = Duration::from_secs(20);
/// How long a status may take.
const STATUS: Duration = Duration::from_secs(2);
/// The key of the ring, where packets are protected.
const KEY: [u8; 256] = [0x5a; 256];
/// Daemons of a Quorate node, in the order in which they start.
const DAEMONS: [&str; 2] = ["membershipd", "quorumd"];

/// Whose programs a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// membershipd and quorumd.
    Quorate,
    /// corosync.
    Corosync,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    id: u32,
    kind: Kind,
    // Before the namespace: processes end first.
    processes: BTreeMap<&'static str, Process>,
    directory: PathBuf,
    root: Root,
    namespace: Namespace,
}

impl Node {
    pub(crate) fn new(
        id: u32,
        kind: Kind,
        namespace: Namespace,
        directory: &Path,
        conf: &str,
    ) -> anyhow::Result<Self> {
        let root = Root::new(directory.join("root"));
        let node =
            Self { id, kind, processes: BTreeMap::new(), directory: directory.to_owned(), root, namespace };
        node.write_conf(conf)?;
        let (root, namespace) = (&node.root, &node.namespace);
        let key = match kind {
            Kind::Quorate => root.authkey(),
            Kind::Corosync => namespace.corosync_file("/etc/corosync/authkey"),
        };
        fs::write(key, KEY)?;
        fs::create_dir_all(root.config_dir())?;
        let settings = format!("name = \"node{id}\"\naddress = \"{}\"\n", address(Family::V4, 0, id));
        fs::write(root.node_toml(), settings)?;
        Ok(node)
    }

    /// Puts another corosync.conf in the place of its own; its programs are not told.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_conf(&self, text: &str) -> anyhow::Result<()> {
        let path = match self.kind {
            Kind::Quorate => self.root.corosync_conf(),
            Kind::Corosync => self.namespace.corosync_file("/etc/corosync/corosync.conf"),
        };
        fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
        Ok(fs::write(path, text)?)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whose programs it runs.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where a program of it writes to.
    #[must_use]
    pub fn log(&self, program: &str) -> PathBuf {
        self.directory.join(format!("{program}.log"))
    }

    /// A channel to a daemon of a Quorate node.
    #[must_use]
    pub fn channel(&self, daemon: &str) -> DaemonChannel {
        daemon_channel(&self.root, daemon)
    }

    /// A command that runs where the node is.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        self.namespace.command(program)
    }

    /// The client of libcpg, where the node is; see `cpg/cpg-client.c` for its arguments.
    ///
    /// # Errors
    /// It cannot be compiled.
    pub fn cpg_client(&self) -> anyhow::Result<Command> {
        Ok(self.command(requirements::cpg_client()?))
    }

    /// Runs a program of corosync where the node is, to its end.
    ///
    /// # Errors
    /// It cannot be run. What it says about a corosync that does not answer is an output like any other.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(program).args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }

    /// Runs `pvecm` on a Quorate node, to its end; its gatewayd must run.
    ///
    /// # Errors
    /// It cannot be run, or fails.
    pub fn pvecm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command(requirements::daemon("pvecm")?);
        let output = command.env("QUORATE_ROOT", self.root.as_path()).args(arguments).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pvecm {arguments:?}: {error}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts all of it.
    ///
    /// # Errors
    /// A daemon that cannot be run or does not answer.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        match self.kind {
            Kind::Corosync => {
                let mut command = self.command("corosync");
                command.arg("-f");
                self.processes.insert("corosync", Process::start(command, &self.log("corosync"))?);
            }
            Kind::Quorate => {
                for daemon in DAEMONS {
                    self.start_daemon(daemon).await?;
                }
            }
        }
        Ok(())
    }

    /// Starts one daemon of a Quorate node and waits until it answers.
    ///
    /// # Errors
    /// It cannot be run or does not answer.
    pub async fn start_daemon(&mut self, daemon: &'static str) -> anyhow::Result<()> {
        let mut command = self.command(requirements::daemon(daemon)?);
        command.arg("--root").arg(self.root.as_path());
        let process = Process::start(command, &self.log(daemon))?;
        self.processes.insert(daemon, process);
        let socket = self.root.socket(daemon);
        let what = format!("{daemon} of node {} answers; see {}", self.id, self.log(daemon).display());
        until(&what, PATIENCE, || async {
            UnixStream::connect(&socket).await.map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    /// Kills one daemon at once.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_daemon(&mut self, daemon: &str) -> anyhow::Result<()> {
        self.processes.remove(daemon).with_context(|| format!("{daemon} does not run"))?.kill()
    }

    /// Asks all daemons to end, in order, and waits until they have.
    ///
    /// # Errors
    /// One does not end in time.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for daemon in ["gatewayd", "configd", "quorumd", "membershipd", "corosync"] {
            if let Some(process) = self.processes.remove(daemon) {
                process.stop(STOP).await?;
            }
        }
        Ok(())
    }

    /// Kills all of it at once, as a power failure would.
    ///
    /// # Errors
    /// A process cannot be signalled.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        std::mem::take(&mut self.processes).into_values().try_for_each(Process::kill)
    }

    /// Stops the scheduling of all of its processes.
    ///
    /// # Errors
    /// A process cannot be signalled.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Ends [`Node::pause`].
    ///
    /// # Errors
    /// A process cannot be signalled.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.processes.values().try_for_each(|process| process.signal(signal))
    }

    /// Names of the programs that have ended although nobody asked them to.
    pub(crate) fn ended(&mut self) -> Vec<&'static str> {
        let ended = |(name, process): (&&'static str, &mut Process)| (!process.is_running()).then_some(*name);
        self.processes.iter_mut().filter_map(ended).collect()
    }

    /// The votes as it counts them.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn votes(&self) -> anyhow::Result<Votes> {
        match self.kind {
            Kind::Corosync => Votes::parse(&self.run("corosync-quorumtool", &["-s"])?),
            Kind::Quorate => {
                let mut client = QuorumServiceClient::new(self.channel("quorumd"));
                let call = client.get_status(GetStatusRequest {});
                let answer = tokio::time::timeout(STATUS, call).await.context("quorumd is silent")??;
                let status = answer.into_inner().status.context("an answer without a status")?;
                ensure!(status.ring_present, "quorumd has no ring: {}", status.reason);
                Ok(Votes::of(&status))
            }
        }
    }

    /// Overrides the expected votes of the cluster.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn set_expected(&self, expected_votes: u32) -> anyhow::Result<()> {
        match self.kind {
            Kind::Corosync => {
                let said = self.run("corosync-quorumtool", &["-e", &expected_votes.to_string()])?;
                ensure!(!said.to_lowercase().contains("unable"), "corosync-quorumtool -e: {said}");
            }
            Kind::Quorate => {
                let mut client = QuorumServiceClient::new(self.channel("quorumd"));
                client.set_expected(SetExpectedRequest { expected_votes, lifetime: None }).await?;
            }
        }
        Ok(())
    }

    /// Joins a process group.
    ///
    /// # Errors
    /// It is not joined in time.
    pub async fn join_group(&self, group: &str) -> anyhow::Result<GroupMember> {
        GroupMember::join(self, group).await
    }

    /// Sets all network interfaces up or down.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn set_links(&self, up: bool) -> anyhow::Result<()> {
        (0..LINKS).try_for_each(|link| self.set_link(link, up))
    }

    /// Sets the network interface of one link up or down.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn set_link(&self, link: u32, up: bool) -> anyhow::Result<()> {
        self.namespace.set_link(link, up)
    }

    pub(crate) fn lose(&self, percent: u32) -> anyhow::Result<()> {
        self.namespace.lose(percent)
    }

    /// What its programs wrote last.
    pub(crate) fn last_words(&self) -> String {
        let programs: &[&str] = match self.kind {
            Kind::Quorate => &DAEMONS,
            Kind::Corosync => &["corosync"],
        };
        let mut text = String::new();
        for program in programs {
            let log = fs::read_to_string(self.log(program)).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(25)..];
            text += &format!("--- node {}: {program}\n{}\n", self.id, last.join("\n"));
        }
        text
    }
}
