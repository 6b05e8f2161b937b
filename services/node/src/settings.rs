//! Flags.

use std::path::PathBuf;

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
}

impl Settings {
    /// The prefix of all paths.
    #[must_use]
    pub fn root(&self) -> Root {
        Root::new(&self.root)
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
