//! All daemons of one node under one supervisor.
//!
//! It starts `membershipd`, `quorumd`, `configd`, `guestd`, `migrationd` and `gatewayd`, starts again what ends, and
//! stops them in the opposite order. It makes no decision of the cluster and keeps no state but process ids; a service
//! manager that runs the six daemons one by one does as well.
//!
//! - A daemon that ends is started again after a pause: see `restart.rs`. The others go on.
//! - A daemon that does not answer any more, though it runs, is killed and started again: see `probe.rs`.
//! - SIGTERM or SIGINT stops the node in order: see [`run`]. SIGHUP asks the daemons to read corosync.conf again.
//! - If the supervisor itself is killed, the daemons notice at once: each holds the end of a pipe as its standard
//!   input, and stops when the other end is gone (`quorate_daemon::shutdown`).
//! - One supervisor per root: a lock on `run/quorate/quorate-node.lock`.
//!
//! | file | holds |
//! |---|---|
//! | `settings.rs` | flags |
//! | `daemon.rs` | one daemon: start, wait, start again, stop |
//! | `probe.rs` | whether a daemon still gives signs of life |
//! | `restart.rs` | how long to wait before a daemon is started again |
//! | `files.rs` | process id files, the lock, the logs |
//! | `reload.rs` | what SIGHUP does |

mod daemon;
mod files;
mod probe;
mod reload;
mod restart;
mod settings;

use std::{io, path::PathBuf};

pub use settings::Settings;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// The name of this program, in logs and file names.
pub const NAME: &str = "quorate-node";

/// The daemons in the order in which they are started: each knows only those before it.
pub const DAEMONS: [&str; 6] = ["membershipd", "quorumd", "configd", "guestd", "migrationd", "gatewayd"];

/// Why a node cannot be supervised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory of the node cannot be made.
    #[error("cannot create the directory {}", path.display())]
    CreateDirectory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another supervisor has this root.
    #[error("another quorate-node is running here: {} is locked", path.display())]
    Running {
        /// The lock.
        path: PathBuf,
    },
    /// The lock cannot be taken for another reason.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A process id cannot be written down.
    #[error("cannot write {}", path.display())]
    WritePid {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// This program does not know where it lies, and was not told where the daemons are.
    #[error("cannot find the directory of the daemons; use --bin-dir")]
    FindDaemons(#[source] io::Error),
    /// Signals cannot be received.
    #[error("cannot receive SIGHUP")]
    Signal(#[source] io::Error),
}

/// A daemon's task, and what stops it.
struct Running {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Runs all daemons of the node until `shutdown`, then stops them one after the other: first the door, last the
/// ring, so that each can finish with those that it depends on.
///
/// # Errors
/// [`Error`] if the node cannot be supervised; a daemon that fails is no error but is started again.
pub async fn run(settings: &Settings, shutdown: CancellationToken) -> Result<(), Error> {
    let root = settings.root();
    let bin_dir = settings.bin_dir()?;
    files::create_dir(&root.run_dir())?;
    let lock = files::Lock::take(&root)?;
    let pid_file = files::PidFile::write(&root, NAME, std::process::id())?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signal)?;
    let running: Vec<Running> = DAEMONS
        .iter()
        .map(|name| {
            let daemon = daemon::Daemon::new(name, &bin_dir, &root, settings);
            let stop = CancellationToken::new();
            Running { name, stop: stop.clone(), task: tokio::spawn(daemon.supervise(stop)) }
        })
        .collect();
    reload_until(&mut hangup, &root, &shutdown).await;
    for Running { name, stop, task } in running.into_iter().rev() {
        stop.cancel();
        if let Err(error) = task.await {
            tracing::error!(daemon = name, %error, "its supervision broke");
        }
    }
    drop((pid_file, lock));
    Ok(())
}

/// Reloads at each SIGHUP, until `shutdown`.
async fn reload_until(hangup: &mut Signal, root: &quorate_daemon::Root, shutdown: &CancellationToken) {
    while shutdown.run_until_cancelled(hangup.recv()).await.is_some() {
        tracing::info!("SIGHUP: the daemons read corosync.conf again");
        reload::reload(root).await;
    }
}
