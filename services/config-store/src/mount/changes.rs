//! Requests that change names: making, removing, renaming. Each becomes one operation of the cluster, and is answered
//! when that is durable on a majority. Only a new ordinary file waits until something was written to it (`flush.rs`).

use std::{ffi::OsStr, sync::Arc};

use config_store_core::{Expect, GuestConfig, Operation, OperationError};
use fuser::{FopenFlags, OpenFlags, RenameFlags};
use nix::fcntl::OFlag;
use tracing::Instrument as _;

use super::{
    errno::Refused,
    files::Home,
    inodes::Key,
    notices::Job,
    reading::{Opened, has},
    shared::{Place, Shared, Told, now_seconds, span},
};
use crate::error::Error;

/// Names that a request is changing. While it lasts, notices leave them alone; at its end, they are compared with the
/// tree.
struct Change {
    shared: Arc<Shared>,
    /// Each with what the kernel believes it stands for when the request is done.
    names: Vec<(Key, Option<u64>)>,
}

impl Change {
    fn of(shared: &Arc<Shared>, keys: &[&Key]) -> Self {
        let mut table = shared.table();
        let tree = shared.view.tree();
        let mut names = Vec::with_capacity(keys.len());
        for key in keys.iter().copied() {
            table.inodes.enter(key);
            names.push((key.clone(), table.truth(&tree, key)));
        }
        Self { shared: Arc::clone(shared), names }
    }

    fn believed(&mut self, at: usize, ino: Option<u64>) {
        self.names[at].1 = ino;
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        let mut jobs = Vec::new();
        {
            let mut table = self.shared.table();
            let tree = self.shared.view.tree();
            for (key, believed) in &self.names {
                jobs.extend(table.settle(&tree, key, *believed).map(Job::Entry));
            }
        }
        self.shared.jobs.push(jobs);
    }
}

/// What came of a request to create a file.
pub(super) enum Created {
    Open(Told, Opened),
    /// The cluster decides.
    Asked(Place),
}

impl Shared {
    /// A place where something is to be changed.
    pub(super) fn writable_place(&self, parent: u64, name: &OsStr) -> Result<Place, Refused> {
        let table = self.table();
        let place = table.place(&self.view.tree(), parent, name)?;
        self.must_be_writable()?;
        Ok(place)
    }

    /// Opens a file that the kernel takes for a new one. Whether the name is free is the cluster's to decide if it must
    /// be, or if the name is a guest's; else the file is this mount's own until it is written.
    pub(super) fn create(
        self: &Arc<Self>,
        parent: u64,
        name: &OsStr,
        flags: OpenFlags,
    ) -> Result<Created, Refused> {
        let mut table = self.table();
        let place = table.place(&self.view.tree(), parent, name)?;
        let (exclusive, empties) = (has(flags, OFlag::O_EXCL), has(flags, OFlag::O_TRUNC));
        let present = table.truth(&self.view.tree(), &place.key);
        if present.is_some() && exclusive {
            return Err(Refused::Exists);
        }
        if present.is_none() || empties {
            self.must_be_writable()?;
        }
        let ino = match present {
            Some(ino) => ino,
            None if exclusive || GuestConfig::of(&place.path).is_some() => return Ok(Created::Asked(place)),
            None => {
                let ino = table.inodes.make();
                table.files.make(ino, place.key.clone(), empties, now_seconds());
                ino
            }
        };
        let (handle, _) = self.open_known(&mut table, ino, flags, empties && present.is_some())?;
        if let Some(file) = table.files.get_mut(ino).filter(|file| matches!(file.home, Home::Unsent { .. })) {
            self.arm(ino, file);
        }
        let told = self.facts(&mut table, &self.view.tree(), ino)?;
        table.inodes.tell(ino, Some(place.key));
        Ok(Created::Open(told, (handle, FopenFlags::FOPEN_DIRECT_IO)))
    }

    /// Creates a file in the cluster and opens it.
    pub(super) async fn create_asked(
        self: &Arc<Self>,
        place: Place,
        flags: OpenFlags,
    ) -> Result<(Told, Opened), Refused> {
        let span = span("create", &place.path);
        async {
            let mut change = Change::of(self, &[&place.key]);
            match self.commit(Operation::Create { path: place.path.clone() }).await {
                Ok(_) => {}
                Err(Refused::Write(Error::Entry(OperationError::AlreadyExists { .. })))
                    if !has(flags, OFlag::O_EXCL) => {}
                Err(refused) => return Err(refused),
            }
            let mut table = self.table();
            let ino = table.truth(&self.view.tree(), &place.key).ok_or(Refused::NotFound)?;
            let empties = has(flags, OFlag::O_TRUNC);
            let (handle, _) = self.open_known(&mut table, ino, flags, empties)?;
            let told = self.facts(&mut table, &self.view.tree(), ino)?;
            table.inodes.tell(ino, Some(place.key.clone()));
            change.believed(0, Some(ino));
            // The change locks the table when it ends.
            drop(table);
            Ok((told, (handle, FopenFlags::FOPEN_DIRECT_IO)))
        }
        .instrument(span)
        .await
    }

    pub(super) async fn mkdir(self: &Arc<Self>, place: Place) -> Result<Told, Refused> {
        let span = span("mkdir", &place.path);
        async {
            let mut change = Change::of(self, &[&place.key]);
            if self.table().files.unsent(&place.key).is_some() {
                return Err(Refused::Exists);
            }
            let applied = self.commit(Operation::Mkdir { path: place.path.clone() }).await?;
            let mut table = self.table();
            let ino = table.inodes.of_entry(applied.inode);
            let told = self.facts(&mut table, &self.view.tree(), ino).map_err(|_| Refused::NotFound)?;
            table.inodes.tell(ino, Some(place.key.clone()));
            change.believed(0, Some(ino));
            drop(table);
            Ok(told)
        }
        .instrument(span)
        .await
    }

    /// Removes a file, or an empty directory.
    pub(super) async fn remove(self: &Arc<Self>, place: Place, directory: bool) -> Result<(), Refused> {
        let span = span(if directory { "rmdir" } else { "unlink" }, &place.path);
        async {
            let mut change = Change::of(self, &[&place.key]);
            let ino = change.names[0].1.ok_or(Refused::NotFound)?;
            if directory {
                self.must_hold_nothing_unsent(ino)?;
            }
            // What is under way comes first.
            let turn = self.table().files.get(ino).map(|file| Arc::clone(&file.turn));
            let _turn = match &turn {
                Some(turn) => Some(turn.lock().await),
                None => None,
            };
            if !self.drop_unsent(ino) {
                self.commit(Operation::Delete { path: place.path.clone(), expect: Expect::Any }).await?;
                self.table().files.lose(ino, true);
            }
            change.believed(0, None);
            self.table().files.tidy(ino);
            Ok(())
        }
        .instrument(span)
        .await
    }

    /// A file that nobody else has seen is gone without a word to anybody. False if it is none.
    fn drop_unsent(&self, ino: u64) -> bool {
        let mut table = self.table();
        let is_unsent = |home: &Home| matches!(home, Home::Unsent { .. });
        let unsent = table.files.get(ino).is_some_and(|file| is_unsent(&file.home));
        if unsent {
            table.files.lose(ino, true);
        }
        unsent
    }

    fn must_hold_nothing_unsent(&self, ino: u64) -> Result<(), Refused> {
        let table = self.table();
        let holds =
            table.inodes.entry_of(ino).is_some_and(|inode| table.files.unsent_in(inode).next().is_some());
        if holds { Err(Refused::NotEmpty) } else { Ok(()) }
    }

    pub(super) async fn rename(
        self: &Arc<Self>,
        from: Place,
        to: Place,
        flags: RenameFlags,
    ) -> Result<(), Refused> {
        if flags.intersects(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_WHITEOUT) {
            return Err(Refused::Flags);
        }
        let span = span("rename", &from.path);
        let rename = self.rename_at(&from, &to, flags.contains(RenameFlags::RENAME_NOREPLACE));
        rename.instrument(span).await
    }

    async fn rename_at(self: &Arc<Self>, from: &Place, to: &Place, no_replace: bool) -> Result<(), Refused> {
        let mut change = Change::of(self, &[&from.key, &to.key]);
        let source = change.names[0].1.ok_or(Refused::NotFound)?;
        self.must_hold_nothing_unsent(source)?;
        self.flush_all(source).await?;
        let replaced = change.names[1].1.filter(|ino| *ino != source);
        // Who writes to the file that is replaced must not come after the rename with it.
        let turn = replaced.and_then(|ino| self.table().files.get(ino).map(|file| Arc::clone(&file.turn)));
        let _turn = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        if no_replace && replaced.is_some() {
            return Err(Refused::Exists);
        }
        let (from, to) = (from.path.clone(), to.path.clone());
        self.commit(Operation::Rename { from, to, expect: Expect::Any, no_replace }).await?;
        if let Some(replaced) = replaced {
            let mut table = self.table();
            table.files.lose(replaced, true);
            table.files.tidy(replaced);
        }
        change.believed(0, None);
        change.believed(1, Some(source));
        Ok(())
    }

    /// Sends what waits of a file, whoever wrote it, and says what came of it.
    pub(super) async fn flush_all(self: &Arc<Self>, ino: u64) -> Result<(), Refused> {
        let handle = {
            let mut table = self.table();
            match table.files.get(ino).filter(|file| file.is_dirty()) {
                Some(_) => table.files.open(ino, true),
                None => return Ok(()),
            }
        };
        self.flush(ino).await;
        let outcome = self.outcome(handle);
        self.table().files.close(handle);
        outcome
    }
}
