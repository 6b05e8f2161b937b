//! `/etc/pve`: the tree as a file system, through FUSE.
//!
//! Readers are answered from the [`View`](crate::view::View), that is from what can no longer be lost, and the kernel
//! keeps what it was told until something changes. Writers' requests become operations of the cluster. Without the right
//! to mount, configd goes on without, and says so once.
//!
//! | file | holds |
//! |---|---|
//! | `point.rs` | the directory that is mounted on |
//! | `filesystem.rs` | the requests of the kernel, and who answers them |
//! | `shared.rs` | what they share |
//! | `reading.rs` | those that are answered at once |
//! | `changes.rs`, `writing.rs`, `flush.rs` | those that change something |
//! | `notices.rs` | what the kernel is told of changes that it did not ask for |
//! | `inodes.rs`, `files.rs`, `pending.rs` | what the kernel knows, has open, and has written |
//! | `attributes.rs`, `fixed.rs`, `errno.rs` | modes, made-up entries, errors |
//!
//! Sources: pmxcfs specification, sections 2, 3, 5 and 6; Linux, Documentation/filesystems/fuse, and fs/fuse for which
//! lock is held when.

mod attributes;
mod changes;
mod errno;
mod files;
mod filesystem;
mod fixed;
mod flush;
mod inodes;
mod notices;
mod pending;
mod point;
mod reading;
mod shared;
mod writing;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use fuser::{Config, MountOption, Session, SessionACL};
use nix::unistd::{Group, geteuid};
use quorate_daemon::{Daemon, telemetry::chain};
use quorate_types::NodeName;
use tokio::{sync::oneshot, task::JoinError, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{commit::Committer, generated::Generated, view::View};
use filesystem::Pve;
use shared::Shared;

/// The group of all entries, and its number where there is none of that name. Source: Debian's base-passwd.
const GROUP: &str = "www-data";
const GROUP_DEFAULT: u32 = 33;
/// Threads that take requests: one may be busy with a large write.
const THREADS: usize = 2;
/// How long a session may take to end after it was unmounted.
const END: Duration = Duration::from_secs(1);

/// Where the tree is mounted, or why it is not; for whoever asks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mounted(Arc<Mutex<String>>);

impl Mounted {
    fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn off(&self, why: &str) {
        tracing::warn!(reason = why, "the tree is not mounted");
        self.set(format!("off, because {why}"));
    }
}

impl fmt::Display for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.write_str(if text.is_empty() { "off, because configd is just starting" } else { &text })
    }
}

/// What a mount needs.
pub(crate) struct Settings {
    at: PathBuf,
    wanted: bool,
    node: NodeName,
    mounted: Mounted,
    view: View,
    committer: Committer,
    generated: Arc<dyn Generated>,
}

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
enum MountError {
    #[error("node.toml says mount = false")]
    NotWanted,
    #[error("configd does not run as root")]
    NotRoot,
    #[error("there is no /dev/fuse; load the kernel's module fuse, then restart configd")]
    NoFuse,
    #[error(transparent)]
    Point(#[from] point::PointError),
    #[error("the kernel does not let configd mount")]
    Session(#[source] io::Error),
    #[error("the mount could not be made ready")]
    Panicked(#[from] JoinError),
}

/// A mount that is there.
struct Running {
    at: PathBuf,
    shared: Arc<Shared>,
    /// Comes when the session has ended.
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Settings {
    pub(crate) fn new(
        daemon: &Daemon,
        mounted: Mounted,
        view: View,
        committer: Committer,
        generated: Arc<dyn Generated>,
    ) -> Self {
        let (at, wanted, node) = (daemon.root.mount_point(), daemon.node.mount, daemon.node.name.clone());
        Self { at, wanted, node, mounted, view, committer, generated }
    }
}

/// Mounts the tree, and unmounts it at shutdown.
pub(crate) async fn keep_mounted(settings: Settings, shutdown: CancellationToken) {
    let mounted = settings.mounted.clone();
    let running = match mount(settings).await {
        Ok(running) => running,
        Err(error) => {
            mounted.off(&chain(&error));
            return shutdown.cancelled().await;
        }
    };
    mounted.set(running.at.display().to_string());
    tracing::info!(at = %running.at.display(), "the tree is mounted");
    let Running { at, shared, mut ended } = running;
    tokio::select! {
        ended = &mut ended => {
            shared.jobs.close();
            let why = match ended {
                Ok(Err(error)) => format!("its session failed: {error}"),
                Ok(Ok(())) | Err(_) => "it was unmounted by hand; restart configd to mount it".to_owned(),
            };
            mounted.off(&why);
            return shutdown.cancelled().await;
        }
        () = shutdown.cancelled() => {}
    }
    shared.jobs.close();
    if let Err(error) = point::detach(&at) {
        tracing::warn!(at = %at.display(), %error, "the tree cannot be unmounted");
    }
    // Programs that have files open keep the session until they close them, or this process ends.
    let _ = timeout(END, ended).await;
}

async fn mount(settings: Settings) -> Result<Running, MountError> {
    if !settings.wanted {
        return Err(MountError::NotWanted);
    }
    if !geteuid().is_root() {
        return Err(MountError::NotRoot);
    }
    if !std::path::Path::new("/dev/fuse").exists() {
        return Err(MountError::NoFuse);
    }
    let Settings { at, node, view, committer, generated, .. } = settings;
    let notices = view.subscribe();
    let shared = Shared::new(view, committer, generated, node, group());
    let own = Arc::clone(&shared);
    let started = tokio::task::spawn_blocking(move || start(at, own)).await;
    let (at, ended) = started??;
    tokio::spawn(notices::follow(Arc::clone(&shared), notices));
    Ok(Running { at, shared, ended })
}

/// The group's number.
fn group() -> u32 {
    match Group::from_name(GROUP) {
        Ok(Some(group)) => group.gid.as_raw(),
        _ => {
            tracing::info!(
                group = GROUP,
                gid = GROUP_DEFAULT,
                "there is no such group, its usual number is used"
            );
            GROUP_DEFAULT
        }
    }
}

/// Mounts, and starts the threads of the session and of its notices.
fn start(
    at: PathBuf,
    shared: Arc<Shared>,
) -> Result<(PathBuf, oneshot::Receiver<io::Result<()>>), MountError> {
    let at = point::prepare(&at)?;
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(point::SOURCE.to_owned()),
        MountOption::DefaultPermissions,
        MountOption::NoSuid,
        MountOption::NoDev,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    let session = Session::new(Pve(Arc::clone(&shared)), &at, &config).map_err(MountError::Session)?;
    let notifier = session.notifier();
    let (end, ended) = oneshot::channel();
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(MountError::Session)
    };
    spawn("mount-notices", Box::new(move || notices::run(&shared, &notifier)))?;
    spawn("mount-session", Box::new(move || drop(end.send(session.run()))))?;
    Ok((at, ended))
}
