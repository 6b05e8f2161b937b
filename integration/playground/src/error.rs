//! Why a playground cannot do what was asked.

use std::{io, path::PathBuf, time::Duration};

use quorate_daemon::telemetry::chain;

use crate::{interrupt::Interrupt, plan::GroupsError};

/// Why a playground cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is one already.
    #[error("{} is a playground already; end it with: playground --dir {} down", dir.display(), dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// A node that no playground knows of.
    #[error("{} is there, but {} is no playground; remove it, or choose another directory with --dir", root.display(), dir.display())]
    Leftover {
        /// The node's root.
        root: PathBuf,
        /// The directory.
        dir: PathBuf,
    },
    /// There is none.
    #[error("{} is no playground; start one with: playground --dir {} up", dir.display(), dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The plan cannot be read.
    #[error("{} is damaged", path.display())]
    ReadPlan {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// More or fewer nodes than are possible.
    #[error("a playground has 1 to {max} nodes, not {nodes}")]
    NodeCount {
        /// What was asked for.
        nodes: u8,
        /// The most that are possible.
        max: u8,
    },
    /// A file or directory cannot be used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Unix sockets have short names.
    #[error("{} is too long a path: the socket {} would have {length} bytes, at most {max} are possible", dir.display(), socket.display())]
    PathTooLong {
        /// The directory that was asked for.
        dir: PathBuf,
        /// The longest socket in it.
        socket: PathBuf,
        /// Its length.
        length: usize,
        /// The most that is possible.
        max: usize,
    },
    /// No range of loopback addresses is free.
    #[error("no free addresses: {0} is in use, and so are the others that were tried; see --subnet")]
    AddressesInUse(std::net::IpAddr),
    /// A subnet that is none.
    #[error("'{0}' is no loopback subnet: three numbers, the first 127, such as 127.0.0")]
    Subnet(String),
    /// No node has this name.
    #[error("there is no node '{name}'; there are {}", known.join(", "))]
    NoSuchNode {
        /// What was asked for.
        name: String,
        /// The nodes.
        known: Vec<String>,
    },
    /// No daemon has this name.
    #[error("there is no daemon '{name}'; there are {}", known.join(", "))]
    NoSuchDaemon {
        /// What was asked for.
        name: String,
        /// The daemons.
        known: Vec<String>,
    },
    /// A daemon that should be killed does not run.
    #[error("{daemon} of {node} does not run")]
    NotRunning {
        /// The node.
        node: String,
        /// The daemon.
        daemon: String,
    },
    /// A program that is needed is not there.
    #[error("cannot run '{program}': {hint}")]
    Program {
        /// The program.
        program: String,
        /// Where it comes from.
        hint: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("'{command}' failed: {output}")]
    Command {
        /// The command line.
        command: String,
        /// What it said.
        output: String,
    },
    /// Only root may do this.
    #[error("{0} needs root")]
    NeedsRoot(&'static str),
    /// There is this in loopback mode only.
    #[error("{0} is possible in loopback mode only")]
    LoopbackOnly(&'static str),
    /// The groups of a partition are not what they should be.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// A process cannot be signalled.
    #[error("cannot signal process {pid}")]
    Signal {
        /// Which.
        pid: i32,
        /// What the operating system said.
        source: io::Error,
    },
    /// A daemon did not come up.
    #[error("{daemon} of {node} did not answer within {} s; the end of {}:\n{end}", within.as_secs(), log.display())]
    NoAnswer {
        /// The daemon.
        daemon: &'static str,
        /// Its node.
        node: String,
        /// How long it was waited for.
        within: Duration,
        /// A log that tells more.
        log: PathBuf,
        /// Its last lines: it may be gone by the time when this is read.
        end: String,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Receive(#[source] io::Error),
    /// A signal came before all was done; what had been done is undone.
    #[error("{0}: nothing is left running")]
    Interrupted(Interrupt),
    /// What had been done before an error could not be undone.
    #[error("{}; and {} cannot be taken down, try: playground --dir {} down", chain(&**error), dir.display(), dir.display())]
    Left {
        /// What went wrong first.
        error: Box<Error>,
        /// What is left.
        dir: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// What was waited for did not happen.
    #[error("gave up after {} s waiting for {what}", within.as_secs())]
    Timeout {
        /// What.
        what: String,
        /// How long.
        within: Duration,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
