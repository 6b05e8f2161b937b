//! Flags.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use quorate_daemon::Root;

use crate::Error;

/// Runs all daemons of one node, and starts again what ends.
///
/// Logs go to var/log/quorate/DAEMON.log below the root, process ids to run/quorate/DAEMON.pid. SIGTERM stops the
/// node, SIGHUP makes the daemons read corosync.conf again.
#[derive(Debug, Clone, Parser)]
#[command(name = "quorate-node", version)]
pub struct Settings {
    /// Prefix of all paths of this node
    #[arg(long, env = "QUORATE_ROOT", default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Where the daemons' programs lie [default: next to this one]
    #[arg(long, env = "QUORATE_BIN_DIR", value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Let the daemons log to standard error instead of files
    #[arg(long)]
    pub foreground_logs: bool,
    /// Seconds between two questions for a sign of life of each daemon, and for an answer; one that has answered before
    /// and misses three in a row is killed and started again; 0: nobody is asked
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    pub probe_every: u32,
}

impl Settings {
    /// The prefix of all paths.
    #[must_use]
    pub fn root(&self) -> Root {
        Root::new(&self.root)
    }

    /// Time between two questions for a sign of life, if there are any.
    pub(crate) fn probe_every(&self) -> Option<Duration> {
        (self.probe_every > 0).then(|| Duration::from_secs(self.probe_every.into()))
    }

    /// Where the daemons' programs lie.
    pub(crate) fn bin_dir(&self) -> Result<PathBuf, Error> {
        if let Some(dir) = &self.bin_dir {
            return Ok(dir.clone());
        }
        let own = std::env::current_exe().map_err(Error::FindDaemons)?;
        Ok(own.parent().expect("a program lies in a directory").to_owned())
    }
}
