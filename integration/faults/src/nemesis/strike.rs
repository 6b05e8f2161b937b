//! Doing faults, and undoing them.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use playground::{Error, Groups, Node};

use super::Fault;
use crate::lab::Lab;

/// The file that fills a disk.
const BALLAST: &str = "ballast";
/// A disk is filled in pieces, the last ones small.
const PIECES: [usize; 2] = [1 << 20, 1 << 12];

/// A fault that was done.
#[derive(Debug)]
pub struct Struck {
    fault: Fault,
    paused: Vec<i32>,
}

impl Fault {
    /// Does it.
    ///
    /// # Errors
    /// What stands in the way; a daemon that does not run cannot be killed, which is no error.
    pub async fn strike(self, lab: &Lab) -> anyhow::Result<Struck> {
        let mut paused = Vec::new();
        let node = |number: &usize| &lab.nodes()[*number];
        match &self {
            Self::KillDaemon(number, daemon) => match node(number).kill(Some(daemon)).await {
                Ok(()) | Err(Error::NotRunning { .. }) => {}
                Err(error) => return Err(error.into()),
            },
            Self::KillNodes(numbers) => {
                for number in numbers {
                    node(number).kill(None).await?;
                }
            }
            Self::Restart(number) => node(number).stop().await?,
            Self::PauseDaemon(number, daemon) => paused.extend(node(number).pid(daemon)),
            Self::PauseNode(number) => {
                let names = [quorate_node::NAME].into_iter().chain(quorate_node::DAEMONS);
                paused.extend(names.filter_map(|name| node(number).pid(name)));
            }
            Self::Partition(numbers) => lab.playground().partition(&groups(lab, numbers)?)?,
            Self::Loss(per_cent) => {
                let rule = format!("meta l4proto udp numgen random mod 100 < {per_cent} drop;");
                for node in lab.nodes() {
                    lab.filter(node, &rule, "").await?;
                }
            }
            Self::Mute(number) => lab.filter(node(number), "", "oifname \"eth0\" drop;").await?,
            Self::Deaf(number) => lab.filter(node(number), "iifname \"eth0\" drop;", "").await?,
            Self::DiskFull(number) => fill(&node(number).root().state_dir("configd"))?,
        }
        for process in &paused {
            signal(*process, Signal::SIGSTOP)?;
        }
        Ok(Struck { fault: self, paused })
    }
}

impl Struck {
    /// Undoes it.
    ///
    /// # Errors
    /// What stands in the way: a node that does not come up again is one.
    pub async fn mend(self, lab: &Lab) -> anyhow::Result<()> {
        let node = |number: &usize| &lab.nodes()[*number];
        for process in self.paused {
            signal(process, Signal::SIGCONT)?;
        }
        match &self.fault {
            Fault::KillDaemon(..) | Fault::PauseDaemon(..) | Fault::PauseNode(_) => {}
            Fault::KillNodes(numbers) => {
                for number in numbers {
                    start(node(number)).await?;
                }
            }
            Fault::Restart(number) => start(node(number)).await?,
            Fault::Partition(_) => lab.playground().heal()?,
            Fault::Loss(_) => {
                for node in lab.nodes() {
                    lab.filter(node, "", "").await?;
                }
            }
            Fault::Mute(number) | Fault::Deaf(number) => lab.filter(node(number), "", "").await?,
            Fault::DiskFull(number) => {
                let ballast = ballast(&node(number).root().state_dir("configd"));
                fs::remove_file(&ballast).with_context(|| format!("cannot remove {}", ballast.display()))?;
            }
        }
        Ok(())
    }
}

async fn start(node: &Node) -> anyhow::Result<()> {
    node.start().await.with_context(|| format!("{} does not come up", node.name()))
}

fn groups(lab: &Lab, numbers: &[usize]) -> anyhow::Result<Groups> {
    let is_cut_off = |number: &usize| numbers.contains(number);
    let (cut_off, others): (Vec<usize>, Vec<usize>) = (0..lab.nodes().len()).partition(is_cut_off);
    let names = |numbers: &[usize]| {
        numbers.iter().map(|number| lab.nodes()[*number].name()).collect::<Vec<_>>().join(",")
    };
    Ok(format!("{}/{}", names(&cut_off), names(&others)).parse()?)
}

/// A process that is gone by now needs no signal: a paused one was killed by its supervisor.
fn signal(process: i32, signal: Signal) -> anyhow::Result<()> {
    match kill(Pid::from_raw(process), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("cannot send {signal} to process {process}")),
    }
}

/// Beside the store, on the same disk.
fn ballast(disk: &Path) -> PathBuf {
    disk.join(BALLAST)
}

/// Writes until nothing fits any more.
fn fill(disk: &Path) -> anyhow::Result<()> {
    let path = ballast(disk);
    let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    for size in PIECES {
        let piece = vec![0; size];
        loop {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context("cannot fill a disk"),
            }
        }
    }
    Ok(())
}
