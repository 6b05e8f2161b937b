//! The rules: whether an operation may happen, and what exactly it would change.
//!
//! Source: pmxcfs specification, sections 3 (operations and errors), 5 (lock directories) and 6 (VMIDs).
//! Differs: sizes and counts are enforced, not only reported; writing to a directory is `EISDIR`; a
//! rename checks everything before it removes anything.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{ENTRIES_MAX, FILE_MAX, LOCK_DIRECTORY, OperationError, TREE_BYTES_MAX, Tree};
use crate::{
    entry::{Entry, Kind, ROOT},
    guest::GuestConfig,
    operation::{Expect, Operation},
    path::ConfigPath,
};

/// What an allowed operation changes.
#[derive(Debug)]
pub(super) enum Plan {
    Nothing,
    Insert { parent: u64, name: Arc<str>, kind: Kind, content: Bytes },
    Replace { inode: u64, content: Bytes },
    Move { inode: u64, parent: u64, name: Arc<str>, over: Option<u64> },
    Remove { inode: u64 },
    Touch { inode: u64, mtime: u32 },
}

/// Where a path points: its directory, its name, and what is there now.
struct Slot {
    parent: u64,
    name: Arc<str>,
    inode: Option<u64>,
}

type Checked<T = Plan> = Result<T, OperationError>;

impl Tree {
    pub(super) fn check(&self, origin: u32, operation: &Operation) -> Checked {
        match operation {
            Operation::Create { path } => self.check_new(path, Kind::File),
            Operation::Mkdir { path } => self.check_new(path, Kind::Directory),
            Operation::Put { path, expect, content } => self.check_put(path, *expect, content),
            Operation::Write { path, offset, truncate, content } => {
                self.check_write(path, *offset as usize, *truncate, content)
            }
            Operation::Rename { from, to, expect, no_replace } => {
                self.check_rename(from, to, *expect, *no_replace)
            }
            Operation::Delete { path, expect } => self.check_delete(path, *expect),
            Operation::SetMtime { path, mtime } => self.check_mtime(origin, path, *mtime),
            Operation::Check { path, expect } => self.check_only(path, *expect),
            Operation::Transaction(_) => unreachable!("its operations are checked one by one"),
        }
    }

    /// What is not there is as absent below a missing directory as in one that exists.
    fn check_only(&self, path: &ConfigPath, expect: Expect) -> Checked {
        match (self.get(path), expect) {
            (Some(entry), _) => check_expect(path, entry, expect)?,
            (None, Expect::Any | Expect::Absent) => {}
            (None, _) => return Err(OperationError::NotFound { path: path.clone() }),
        }
        Ok(Plan::Nothing)
    }

    fn slot(&self, path: &ConfigPath) -> Checked<Slot> {
        let (Some(directory), Some(name)) = (path.parent(), path.name()) else {
            return Err(OperationError::IsRoot);
        };
        let parent = self.resolve(&directory)?;
        let Some(children) = self.children.get(&parent) else {
            return Err(OperationError::NotADirectory { path: directory });
        };
        Ok(Slot { parent, name: Arc::from(name), inode: children.get(name).copied() })
    }

    fn existing(&self, path: &ConfigPath) -> Checked<&Entry> {
        let slot = self.slot(path)?;
        let entry = slot.inode.and_then(|inode| self.entry(inode));
        entry.ok_or_else(|| OperationError::NotFound { path: path.clone() })
    }

    fn check_new(&self, path: &ConfigPath, kind: Kind) -> Checked {
        let slot = self.slot(path)?;
        if slot.inode.is_some() {
            return Err(OperationError::AlreadyExists { path: path.clone() });
        }
        if kind == Kind::File {
            self.check_guest(path, None)?;
        }
        self.insert(slot, kind, Bytes::new())
    }

    fn insert(&self, slot: Slot, kind: Kind, content: Bytes) -> Checked {
        if self.entries.len() >= ENTRIES_MAX {
            return Err(OperationError::TooManyEntries);
        }
        Ok(Plan::Insert { parent: slot.parent, name: slot.name, kind, content })
    }

    fn check_put(&self, path: &ConfigPath, expect: Expect, content: &Bytes) -> Checked {
        let slot = self.slot(path)?;
        let Some(entry) = slot.inode.and_then(|inode| self.entry(inode)) else {
            return match expect {
                Expect::Any | Expect::Absent => {
                    self.check_size(path, 0, content.len())?;
                    self.check_guest(path, None)?;
                    self.insert(slot, Kind::File, content.clone())
                }
                _ => Err(OperationError::NotFound { path: path.clone() }),
            };
        };
        check_expect(path, entry, expect)?;
        self.check_file(path, entry)?;
        self.check_size(path, entry.content().len(), content.len())?;
        Ok(Plan::Replace { inode: entry.inode(), content: content.clone() })
    }

    fn check_write(&self, path: &ConfigPath, offset: usize, truncate: bool, content: &Bytes) -> Checked {
        let entry = self.existing(path)?;
        self.check_file(path, entry)?;
        let old = entry.content();
        let end = offset + content.len();
        let size = if truncate { end } else { end.max(old.len()) };
        self.check_size(path, old.len(), size)?;
        let mut new = BytesMut::from(&old[..old.len().min(size)]);
        new.resize(size, 0);
        new[offset..end].copy_from_slice(content);
        Ok(Plan::Replace { inode: entry.inode(), content: new.freeze() })
    }

    fn check_file(&self, path: &ConfigPath, entry: &Entry) -> Checked<()> {
        if entry.is_directory() {
            return Err(OperationError::IsADirectory { path: path.clone() });
        }
        Ok(())
    }

    fn check_size(&self, path: &ConfigPath, old: usize, new: usize) -> Checked<()> {
        if new > FILE_MAX {
            return Err(OperationError::FileTooLarge { path: path.clone(), size: new });
        }
        let size = self.bytes - old + new;
        if new > old && size > TREE_BYTES_MAX {
            return Err(OperationError::TreeFull { size });
        }
        Ok(())
    }

    /// A VMID has one configuration in the cluster; `moving` is the entry that comes to `path`.
    fn check_guest(&self, path: &ConfigPath, moving: Option<u64>) -> Checked<()> {
        let Some(guest) = GuestConfig::of(path) else { return Ok(()) };
        let Some(&registered) = self.guests.get(&guest.vmid) else { return Ok(()) };
        let elsewhere = self.path_of(registered).filter(|owner| owner != path);
        match elsewhere {
            Some(owner) if moving != Some(registered) => {
                Err(OperationError::GuestExists { vmid: guest.vmid, path: owner })
            }
            _ => Ok(()),
        }
    }

    fn check_rename(&self, from: &ConfigPath, to: &ConfigPath, expect: Expect, no_replace: bool) -> Checked {
        let entry = self.existing(from)?;
        let slot = self.slot(to)?;
        check_expect(from, entry, expect)?;
        if entry.is_directory() {
            self.check_movable_directory(from, entry)?;
            if slot.parent == entry.inode() {
                return Err(OperationError::IntoItself { path: from.clone() });
            }
        } else {
            self.check_guest(to, Some(entry.inode()))?;
        }
        let over = slot.inode.filter(|inode| *inode != entry.inode());
        if let Some(target) = slot.inode.and_then(|inode| self.entry(inode)) {
            if no_replace {
                return Err(OperationError::AlreadyExists { path: to.clone() });
            }
            self.check_replaceable(entry, to, target)?;
        }
        Ok(Plan::Move { inode: entry.inode(), parent: slot.parent, name: slot.name, over })
    }

    fn check_movable_directory(&self, path: &ConfigPath, entry: &Entry) -> Checked<()> {
        if is_lock(path) {
            return Err(lock_held(path, entry));
        }
        if !self.is_empty_directory(entry.inode()) {
            return Err(OperationError::NotEmpty { path: path.clone() });
        }
        Ok(())
    }

    fn check_replaceable(&self, source: &Entry, path: &ConfigPath, target: &Entry) -> Checked<()> {
        match (source.is_directory(), target.is_directory()) {
            (true, false) => Err(OperationError::NotADirectory { path: path.clone() }),
            (false, true) => Err(OperationError::IsADirectory { path: path.clone() }),
            (true, true) if is_lock(path) => Err(lock_held(path, target)),
            (true, true) if !self.is_empty_directory(target.inode()) => {
                Err(OperationError::NotEmpty { path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    fn check_delete(&self, path: &ConfigPath, expect: Expect) -> Checked {
        let entry = self.existing(path)?;
        check_expect(path, entry, expect)?;
        if entry.is_directory() && !self.is_empty_directory(entry.inode()) {
            return Err(OperationError::NotEmpty { path: path.clone() });
        }
        Ok(Plan::Remove { inode: entry.inode() })
    }

    /// A lock is refreshed only by its holder, and never made older: a request to break one (mtime 0)
    /// is refused here and judged by its age elsewhere.
    fn check_mtime(&self, origin: u32, path: &ConfigPath, mtime: u32) -> Checked {
        let entry = self.existing(path)?;
        let head = entry.head();
        if entry.is_directory() && is_lock(path) && (mtime < head.mtime || origin != head.writer) {
            return Err(lock_held(path, entry));
        }
        Ok(Plan::Touch { inode: head.inode, mtime })
    }
}

fn is_lock(path: &ConfigPath) -> bool {
    path.parent().is_some_and(|parent| parent.as_str() == LOCK_DIRECTORY)
}

fn lock_held(path: &ConfigPath, entry: &Entry) -> OperationError {
    let head = entry.head();
    OperationError::LockHeld { path: path.clone(), holder: head.writer, mtime: head.mtime }
}

fn check_expect(path: &ConfigPath, entry: &Entry, expect: Expect) -> Checked<()> {
    debug_assert_ne!(entry.inode(), ROOT);
    let version = entry.head().version;
    let met = match expect {
        Expect::Any | Expect::Present => true,
        Expect::Absent => return Err(OperationError::AlreadyExists { path: path.clone() }),
        Expect::Version(expected) => expected == version,
        Expect::Digest(digest) => digest == *entry.digest(),
    };
    if met { Ok(()) } else { Err(OperationError::Changed { path: path.clone(), version }) }
}
