//! Where nodes live: a network, mount and host name namespace each, and a switch in one more.
//!
//! A node has two network interfaces, one for each link. The switch has two bridges for each, so that a partition cuts
//! everything between two sets of nodes and no node notices that its cables were moved. A namespace is gone with the process that holds it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};

/// Links between two nodes.
pub(crate) const LINKS: u32 = 2;
/// Halves of the switch.
const HALVES: usize = 2;
/// Where corosync keeps its files: a node has its own.
const OWN: [&str; 4] = ["/etc/corosync", "/var/lib/corosync", "/var/log/corosync", "/run"];

/// The process that keeps a namespace; it ends when its standard input does, so at the latest with the tests.
#[derive(Debug)]
struct Holder(Child);

impl Holder {
    fn start(script: &str) -> anyhow::Result<Self> {
        let mut child = Command::new("unshare")
            .args(["-n", "-m", "-u", "--propagation", "private", "sh", "-ec"])
            .arg(format!("{script}\necho up; exec cat"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "up\n", "a namespace could not be set up with: {script}");
        Ok(Self(child))
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n", "-m", "-u", "setpriv", "--pdeathsig", "KILL"]);
        command.arg(program.as_ref());
        command
    }

    fn run(&self, program: &str, arguments: &str) -> anyhow::Result<()> {
        let output = self.command(program).args(arguments.split(' ')).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {arguments}: {error}");
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What all nodes are plugged into.
#[derive(Debug)]
pub(crate) struct Switch(Holder);

impl Switch {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let bridges = (0..LINKS).flat_map(|link| (0..HALVES).map(move |half| bridge(link, half)));
        let script = bridges.map(|bridge| {
            format!("ip link add {bridge} type bridge stp_state 0 mcast_snooping 0; ip link set {bridge} up")
        });
        Holder::start(&script.collect::<Vec<_>>().join("; ")).map(Self)
    }

    /// Puts the cables of a node into one half of the switch.
    pub(crate) fn plug(&self, node: u32, half: usize) -> anyhow::Result<()> {
        (0..LINKS).try_for_each(|link| {
            self.0.run("ip", &format!("link set node{node}-{link} master {} up", bridge(link, half)))
        })
    }
}

fn bridge(link: u32, half: usize) -> String {
    format!("br{link}-{half}")
}

/// Where one node lives.
#[derive(Debug)]
pub(crate) struct Namespace {
    holder: Holder,
    directory: PathBuf,
}

impl Namespace {
    /// A namespace with addresses of its own, plugged into the switch. Its files lie in `directory`.
    pub(crate) fn new(switch: &Switch, node: u32, directory: &Path, hosts: &Path) -> anyhow::Result<Self> {
        let mut script =
            format!("hostname node{node}; ip link set lo up; mount --bind {} /etc/hosts", hosts.display());
        for path in OWN {
            let own = directory.join("own").join(&path[1..]);
            fs::create_dir_all(&own)?;
            script += &format!("; mkdir -p {path}; mount --bind {} {path}", own.display());
        }
        script += "; mount -t tmpfs tmpfs /dev/shm";
        let holder = Holder::start(&script)?;
        let id = holder.0.id();
        for link in 0..LINKS {
            switch
                .0
                .run("ip", &format!("link add node{node}-{link} type veth peer name eth{link} netns {id}"))?;
            for (family, options) in [(Family::V4, "/24"), (Family::V6, "/64 nodad")] {
                let address = address(family, link, node);
                holder.run("ip", &format!("addr add {address}{options} dev eth{link}"))?;
            }
            // Otherwise the IPv6 address is gone with the first "down".
            holder.run("sysctl", &format!("-qw net.ipv6.conf.eth{link}.keep_addr_on_down=1"))?;
            holder.run("ip", &format!("link set eth{link} up"))?;
        }
        switch.plug(node, 0)?;
        Ok(Self { holder, directory: directory.to_owned() })
    }

    /// A file of corosync's, as seen from outside.
    pub(crate) fn corosync_file(&self, path: &str) -> PathBuf {
        self.directory.join("own").join(path.trim_start_matches('/'))
    }

    /// A command that runs here and is killed with its parent.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        self.holder.command(program)
    }

    /// Sets the interface of a link up or down; it keeps its address.
    pub(crate) fn set_link(&self, link: u32, up: bool) -> anyhow::Result<()> {
        self.holder.run("ip", &format!("link set eth{link} {}", if up { "up" } else { "down" }))
    }

    /// Loses this many percent of all UDP packets that arrive from others.
    pub(crate) fn lose(&self, percent: u32) -> anyhow::Result<()> {
        self.holder.run("nft", "add table ip interop")?;
        self.holder.run("nft", "add chain ip interop input { type filter hook input priority 0 ; }")?;
        self.holder.run("nft", "flush chain ip interop input")?;
        let rule = "add rule ip interop input iifname eth* meta l4proto udp numgen random mod 100";
        self.holder.run("nft", &format!("{rule} < {percent} drop"))
    }
}

/// Which of its addresses a node uses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The address of a node on a link.
pub(crate) fn address(family: Family, link: u32, node: u32) -> String {
    match family {
        Family::V4 => format!("10.77.{link}.{node}"),
        Family::V6 => format!("fd77:{link}::{node:x}"),
    }
}
