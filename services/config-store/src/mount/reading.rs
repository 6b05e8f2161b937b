//! Requests that are answered at once from what is in memory: looking up, attributes, lists, opening, reading.

use std::{ffi::OsStr, sync::Arc, time::Duration};

use bytes::Bytes;
use config_store_core::ROOT;
use fuser::{FileType, FopenFlags, OpenAccMode, OpenFlags};
use nix::fcntl::OFlag;

use super::{
    errno::{self, Refused},
    files::{Handle, Listed},
    fixed::Fixed,
    inodes::{Cached, ROOT_INO},
    shared::{Shared, Table, Told},
};
use crate::generated::GeneratedFile;

/// A handle for the kernel and how it may use it.
pub(super) type Opened = (u64, FopenFlags);

/// Whether one of the flags is set.
pub(super) fn has(flags: OpenFlags, flag: OFlag) -> bool {
    flags.0 & flag.bits() != 0
}

/// Whether whoever opens so may write.
pub(super) fn writes(flags: OpenFlags) -> bool {
    flags.acc_mode() != OpenAccMode::O_RDONLY
}

impl Shared {
    /// What a name stands for; `None` if there is no such name.
    pub(super) fn lookup(&self, parent: u64, name: &OsStr) -> Result<Option<Told>, Refused> {
        let name = match errno::name(name) {
            // There is none, so it is not found.
            Err(Refused::NotText) => return Ok(None),
            name => name?,
        };
        if let Some((ino, fixed)) = Fixed::named(name).filter(|_| parent == ROOT_INO) {
            let facts = self.fixed_facts(ino, fixed);
            self.table().inodes.tell(ino, None);
            return Ok(Some((facts, Duration::ZERO)));
        }
        let mut table = self.table();
        let tree = self.view.tree();
        let key = (table.directory(&tree, parent)?, Arc::from(name));
        let Some(ino) = table.truth(&tree, &key) else { return Ok(None) };
        let told = self.facts(&mut table, &tree, ino)?;
        table.inodes.tell(ino, Some(key));
        Ok(Some(told))
    }

    pub(super) fn attributes(&self, ino: u64, handle: Option<u64>) -> Result<Told, Refused> {
        let Some(fixed) = Fixed::of(ino) else {
            let mut table = self.table();
            let tree = self.view.tree();
            return self.facts(&mut table, &tree, ino);
        };
        let mut facts = self.fixed_facts(ino, fixed);
        if let Some(Handle::Generated { content }) = handle.and_then(|handle| self.handle(handle)) {
            facts.size = content.len();
        }
        Ok((facts, Duration::ZERO))
    }

    pub(super) fn handle(&self, handle: u64) -> Option<Handle> {
        self.table().files.handle(handle).cloned()
    }

    pub(super) fn open_directory(&self, ino: u64) -> Result<Opened, Refused> {
        let entries = Arc::new(self.list(ino)?);
        let handle = self.table().files.add(Handle::Directory { entries });
        Ok((handle, FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE))
    }

    /// The entries of a directory that is being read from its beginning (again).
    pub(super) fn relist(&self, ino: u64, handle: u64) -> Result<Arc<Vec<Listed>>, Refused> {
        let entries = Arc::new(self.list(ino)?);
        if let Some(Handle::Directory { entries: old }) = self.table().files.handle_mut(handle) {
            old.clone_from(&entries);
        }
        Ok(entries)
    }

    fn list(&self, ino: u64) -> Result<Vec<Listed>, Refused> {
        let table = self.table();
        let tree = self.view.tree();
        let directory = table.directory(&tree, ino)?;
        let above = tree.entry(directory).map_or(ROOT, |entry| entry.head().parent);
        let is_root = directory == ROOT;
        let listed = |ino, kind, name: &str| Listed { ino, kind, name: Arc::from(name) };
        let mut list = vec![
            listed(ino, FileType::Directory, "."),
            listed(table.inodes.of_entry(above), FileType::Directory, ".."),
        ];
        if is_root {
            list.extend(Fixed::all().map(|(ino, fixed)| listed(ino, fixed.kind(), fixed.name())));
        }
        for entry in tree.children(directory) {
            let name = &entry.head().name;
            let is_shadowed = is_root && Fixed::named(name).is_some();
            if !is_shadowed && table.files.unsent(&(directory, Arc::clone(name))).is_none() {
                let kind = if entry.is_directory() { FileType::Directory } else { FileType::RegularFile };
                list.push(listed(table.inodes.of_entry(entry.inode()), kind, name));
            }
        }
        let unsent = table.files.unsent_in(directory);
        list.extend(unsent.map(|(name, ino)| listed(ino, FileType::RegularFile, name)));
        Ok(list)
    }

    /// Opens an existing file.
    pub(super) fn open(self: &Arc<Self>, ino: u64, flags: OpenFlags) -> Result<Opened, Refused> {
        if let Some(fixed) = Fixed::of(ino) {
            return self.open_fixed(fixed, flags);
        }
        let empties = has(flags, OFlag::O_TRUNC);
        if empties {
            self.must_be_writable()?;
        }
        let mut table = self.table();
        self.open_known(&mut table, ino, flags, empties)
    }

    /// Opens an existing file, and perhaps empties it: nobody else sees that before it is written or closed.
    pub(super) fn open_known(
        self: &Arc<Self>,
        table: &mut Table,
        ino: u64,
        flags: OpenFlags,
        empties: bool,
    ) -> Result<Opened, Refused> {
        let tree = self.view.tree();
        if table.files.get(ino).is_none() {
            let inode = table.inodes.entry_of(ino).ok_or(Refused::Stale)?;
            let entry = tree.entry(inode).ok_or(Refused::Stale)?;
            if entry.is_directory() {
                return Err(Refused::IsADirectory);
            }
            table.files.of_tree(ino, inode, &tree);
        }
        let handle = table.files.open(ino, writes(flags) || empties);
        let file = table.files.get_mut(ino).ok_or(Refused::Stale)?;
        file.refresh(&tree);
        if empties {
            file.pending.set_size(0);
            self.arm(ino, file);
        }
        if writes(flags) || empties {
            // What is written here goes to the cluster as it is written, not through the kernel's pages.
            return Ok((handle, FopenFlags::FOPEN_DIRECT_IO));
        }
        let version = file.version(&tree).filter(|_| !file.is_dirty());
        let cached = version.map_or(Cached::Wrong, |version| table.inodes.opened(ino, version));
        let flags = FopenFlags::FOPEN_NOFLUSH
            | match cached {
                Cached::Wrong => FopenFlags::FOPEN_DIRECT_IO,
                Cached::Attributes => FopenFlags::empty(),
                Cached::Pages => FopenFlags::FOPEN_KEEP_CACHE,
            };
        Ok((handle, flags))
    }

    fn open_fixed(&self, fixed: Fixed, flags: OpenFlags) -> Result<Opened, Refused> {
        let Fixed::Generated(file) = fixed else { return Err(Refused::Fixed) };
        if writes(flags) && file != GeneratedFile::Debug {
            return Err(Refused::Fixed);
        }
        let content = self.generated.content(file);
        let handle = self.table().files.add(Handle::Generated { content });
        Ok((handle, FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH))
    }

    /// Up to `size` bytes from an offset.
    pub(super) fn read(&self, handle: u64, offset: u64, size: u32) -> Result<Bytes, Refused> {
        let content = {
            let mut table = self.table();
            match table.files.handle(handle).cloned().ok_or(Refused::Handle)? {
                Handle::Generated { content } => content,
                Handle::Directory { .. } => return Err(Refused::IsADirectory),
                Handle::File { ino, .. } => {
                    let tree = self.view.tree();
                    let file = table.files.get_mut(ino).ok_or(Refused::Handle)?;
                    file.refresh(&tree);
                    file.content()
                }
            }
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let to = from.saturating_add(size as usize).min(content.len());
        Ok(content.slice(from..to))
    }
}
