//! What all requests share: the readers' tree, what the kernel knows, the open files, and the way to write.
//!
//! Two locks, always taken in this order and for moments only: the table's, then the tree's. Nothing that waits is done
//! under them, generated files are not made up under them, and whoever answers the kernel never waits for the thread
//! that sends notices to it (`notices.rs`).

use std::{
    ffi::OsStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use config_store_core::{Applied, ConfigPath, Operation, ROOT, RequestId, Tree};
use fuser::{Errno, FileType};
use quorate_types::NodeName;
use tokio::{runtime::Handle as Runtime, time::timeout_at};
use tracing::Span;

use super::{
    attributes::{Facts, is_private, permissions},
    errno::{self, Refused},
    files::{Files, Home},
    fixed::{self, Fixed},
    inodes::{Inodes, Key, ROOT_INO},
    notices::Jobs,
};
use crate::{
    commit::{Ask, Committer},
    generated::Generated,
    view::View,
};

/// How long the kernel may keep what it was told: it is told when something changes.
pub(super) const LONG: Duration = Duration::from_secs(3600);
/// How long a write waits until it is durable on a majority.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much longer the replica may take to say that it was not.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who changed something through the mount, for the history.
const CALLER: &str = "mount";
/// Refusals that are logged within [`WINDOW`].
const LOGGED_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// What the kernel knows and has open.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) inodes: Inodes,
    pub(super) files: Files,
}

/// A name in a directory that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: Key,
    pub(super) path: ConfigPath,
}

/// An entry for the kernel, and how long its attributes hold.
pub(super) type Told = (Facts, Duration);

/// What the requests share.
pub(super) struct Shared {
    pub(super) view: View,
    pub(super) committer: Committer,
    pub(super) generated: Arc<dyn Generated>,
    pub(super) node: NodeName,
    /// Group of all entries.
    pub(super) gid: u32,
    pub(super) runtime: Runtime,
    pub(super) jobs: Jobs,
    table: Mutex<Table>,
    logged: Mutex<(Option<Instant>, u32)>,
}

impl Shared {
    pub(super) fn new(
        view: View,
        committer: Committer,
        generated: Arc<dyn Generated>,
        node: NodeName,
        gid: u32,
    ) -> Arc<Self> {
        Arc::new(Self {
            view,
            committer,
            generated,
            node,
            gid,
            runtime: Runtime::current(),
            jobs: Jobs::default(),
            table: Mutex::default(),
            logged: Mutex::default(),
        })
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something may be written now.
    pub(super) fn must_be_writable(&self) -> Result<(), Refused> {
        if self.view.writable() { Ok(()) } else { Err(Refused::ReadOnly) }
    }

    /// Performs one operation; it is durable on a majority when this returns.
    pub(super) async fn commit(&self, operation: Operation) -> Result<Applied, Refused> {
        let deadline = Instant::now() + DEADLINE;
        let ask = Ask { id: RequestId(rand::random()), deadline, caller: CALLER };
        let committed = self.committer.commit(operation, ask);
        let answered = timeout_at((deadline + PATIENCE).into(), committed).await;
        let (applied, _) = answered.map_err(|_| Refused::NoAnswer)??;
        Ok(applied)
    }

    /// Tells the log of a refusal; not of all, if there are many.
    pub(super) fn refuse(&self, operation: &str, path: impl std::fmt::Display, refused: &Refused) -> Errno {
        let errno = refused.errno();
        if refused.is_ordinary() || matches!(refused, Refused::Earlier(_)) {
            tracing::debug!(operation, %path, errno = errno.code(), reason = refused.reason(), "refused");
        } else if self.may_log() {
            tracing::warn!(operation, %path, errno = errno.code(), reason = refused.reason(), "refused");
        }
        errno
    }

    fn may_log(&self) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = &mut *logged;
        if since.is_none_or(|since| since.elapsed() > WINDOW) {
            (*since, *count) = (Some(Instant::now()), 0);
        }
        *count += 1;
        if *count == LOGGED_MAX {
            tracing::warn!(window = ?WINDOW, "many refusals: the next ones are not logged for a while");
        }
        *count < LOGGED_MAX
    }

    /// The path of an entry, for people.
    pub(super) fn path_text(&self, ino: u64) -> String {
        if let Some(fixed) = Fixed::of(ino) {
            return fixed.name().to_owned();
        }
        let table = self.table();
        let tree = self.view.tree();
        let path = match table.files.get(ino) {
            Some(file) => path_of(&file.home, &tree),
            None => table.inodes.entry_of(ino).and_then(|inode| tree.path_of(inode)),
        };
        path.map_or_else(|| "a file that is gone".to_owned(), |path| path.to_string())
    }

    /// The path of a name in a directory, for people.
    pub(super) fn name_text(&self, parent: u64, name: &OsStr) -> String {
        let directory = if parent == ROOT_INO { String::new() } else { self.path_text(parent) + "/" };
        directory + &name.to_string_lossy()
    }

    /// What is known of an entry that is not in the tree.
    pub(super) fn fixed_facts(&self, ino: u64, fixed: Fixed) -> Facts {
        let (perm, size) = match fixed {
            Fixed::Link { .. } => {
                (permissions(FileType::Symlink, false, self.view.writable()), fixed.target(&self.node).len())
            }
            Fixed::Generated(file) => (fixed::permissions(file), self.generated.content(file).len()),
        };
        let mtime = if fixed.kind() == FileType::Symlink { 0 } else { now_seconds() };
        Facts { ino, kind: fixed.kind(), perm, size, mtime, linked: true }
    }

    /// What is known of an entry of the tree, or of a file that was made here.
    pub(super) fn facts(&self, table: &mut Table, tree: &Tree, ino: u64) -> Result<Told, Refused> {
        let writable = self.view.writable();
        if ino == ROOT_INO {
            let perm = permissions(FileType::Directory, false, true);
            let mtime = tree.root().mtime;
            let root = Facts { ino, kind: FileType::Directory, perm, size: 0, mtime, linked: true };
            return Ok((root, LONG));
        }
        if let Some(file) = table.files.get_mut(ino) {
            let linked = file.refresh(tree) || matches!(file.home, Home::Unsent { .. });
            let private = path_of(&file.home, tree).is_some_and(|path| is_private(&path));
            let (kind, mtime) = (FileType::RegularFile, file.pending.mtime.unwrap_or(file.mtime));
            let perm = permissions(kind, private, writable);
            let settled = linked && !file.is_dirty();
            let facts = Facts { ino, kind, perm, size: file.size(), mtime, linked };
            let version = file.version(tree).filter(|_| settled);
            table.inodes.told(ino, version.unwrap_or_default());
            return Ok((facts, if settled { LONG } else { Duration::ZERO }));
        }
        let inode = table.inodes.entry_of(ino).ok_or(Refused::Stale)?;
        let entry = tree.entry(inode).ok_or(Refused::Stale)?;
        let private = tree.path_of(inode).is_some_and(|path| is_private(&path));
        let kind = if entry.is_directory() { FileType::Directory } else { FileType::RegularFile };
        let perm = permissions(kind, private, writable);
        let (size, mtime) = (entry.content().len(), entry.head().mtime);
        table.inodes.told(ino, entry.head().version);
        Ok((Facts { ino, kind, perm, size, mtime, linked: true }, LONG))
    }
}

/// Where a file is now.
pub(super) fn path_of(home: &Home, tree: &Tree) -> Option<ConfigPath> {
    match home {
        Home::Tree(inode) => tree.path_of(*inode),
        Home::Unsent { at: (parent, name), .. } => tree.path_of(*parent)?.join(name).ok(),
        Home::Lost => None,
    }
}

impl Table {
    /// The inode of a directory of the tree.
    pub(super) fn directory(&self, tree: &Tree, ino: u64) -> Result<u64, Refused> {
        let inode = self.inodes.entry_of(ino).ok_or(Refused::NotADirectory)?;
        match tree.entry(inode) {
            _ if inode == ROOT => Ok(inode),
            None => Err(Refused::NotFound),
            Some(entry) if entry.is_directory() => Ok(inode),
            Some(_) => Err(Refused::NotADirectory),
        }
    }

    /// A name that is to be changed.
    pub(super) fn place(&self, tree: &Tree, parent: u64, name: &OsStr) -> Result<Place, Refused> {
        let name = errno::name(name)?;
        if parent == ROOT_INO && Fixed::named(name).is_some() {
            return Err(Refused::Fixed);
        }
        let directory = self.directory(tree, parent)?;
        let path = tree.path_of(directory).ok_or(Refused::NotFound)?.join(name)?;
        Ok(Place { key: (directory, Arc::from(name)), path })
    }

    /// The number of what has this name now.
    pub(super) fn truth(&self, tree: &Tree, key: &Key) -> Option<u64> {
        let in_tree = || tree.child(key.0, &key.1).map(|entry| self.inodes.of_entry(entry.inode()));
        self.files.unsent(key).or_else(in_tree)
    }

    /// A request that changed a name is done, and the kernel now believes that `believed` has it. Gives the name if that
    /// is not so: somebody else changed it meanwhile.
    pub(super) fn settle(&mut self, tree: &Tree, key: &Key, believed: Option<u64>) -> Option<Key> {
        self.inodes.leave(key);
        if let Some(ino) = believed {
            self.inodes.moved(ino, Some(key.clone()));
        }
        (self.truth(tree, key) != believed).then(|| key.clone())
    }
}

/// The span of a request that changes something; its context travels with the operation.
pub(super) fn span(operation: &str, path: impl std::fmt::Display) -> Span {
    tracing::info_span!("fuse", otel.name = format!("fuse.{operation}"), operation, %path)
}

/// Whole UTC seconds by this node's clock.
pub(super) fn now_seconds() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() as u32)
}
