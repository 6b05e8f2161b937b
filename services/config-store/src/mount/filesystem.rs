//! The requests of the kernel: what can be answered from memory is answered at once, everything else by a task that
//! takes the reply with it. No thread that takes requests ever waits.

use std::{ffi::OsStr, future::Future, io, path::Path, sync::Arc, time::SystemTime};

use config_store_core::{ENTRIES_MAX, NAME_MAX, TREE_BYTES_MAX};
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::{
    attributes::{BLOCK, Facts},
    changes::Created,
    errno::Refused,
    files::{Handle, Listed},
    fixed::Fixed,
    inodes::ROOT_INO,
    shared::{LONG, Shared, Told},
    writing::{Left, Wanted},
};

/// Largest write of the kernel: a whole file.
const WRITE_MAX: u32 = 1 << 20;

/// The file system.
pub(super) struct Pve(pub(super) Arc<Shared>);

impl Pve {
    fn generation(&self, ino: u64) -> Generation {
        // The root is always the same.
        if ino == ROOT_INO { Generation(0) } else { Generation(self.0.table().inodes.generation()) }
    }

    fn entry(&self, reply: ReplyEntry, (facts, ttl): Told) {
        let generation = self.generation(facts.ino);
        reply.entry_with_ttls(&ttl, &LONG, &facts.attr(self.0.gid), generation);
    }

    /// Says that there is no such name, for as long as nobody makes one.
    fn nothing(&self, reply: ReplyEntry) {
        let kind = fuser::FileType::RegularFile;
        let nothing = Facts { ino: 0, kind, perm: 0, size: 0, mtime: 0, linked: true };
        reply.entry(&LONG, &nothing.attr(self.0.gid), Generation(0));
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.runtime.spawn(task);
    }

    fn refuse(&self, operation: &str, what: impl std::fmt::Display, refused: &Refused) -> Errno {
        self.0.refuse(operation, what, refused)
    }

    /// Answers when everything that was written through a handle is durable, and says what came of it.
    fn settle(&self, operation: &'static str, ino: u64, handle: u64, reply: ReplyEmpty) {
        let Some(file) = self.0.unsettled(handle) else { return reply.ok() };
        let shared = Arc::clone(&self.0);
        self.spawn(async move {
            shared.flush(file).await;
            match shared.outcome(handle) {
                Ok(()) => reply.ok(),
                Err(refused) => reply.error(shared.refuse(operation, shared.path_text(ino), &refused)),
            }
        });
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, directory: bool, reply: ReplyEmpty) {
        let operation = if directory { "rmdir" } else { "unlink" };
        let place = match self.0.writable_place(parent.0, name) {
            Ok(place) => place,
            Err(refused) => {
                return reply.error(self.refuse(operation, self.0.name_text(parent.0, name), &refused));
            }
        };
        let shared = Arc::clone(&self.0);
        self.spawn(async move {
            let path = place.path.clone();
            match shared.remove(place, directory).await {
                Ok(()) => reply.ok(),
                Err(refused) => reply.error(shared.refuse(operation, path, &refused)),
            }
        });
    }
}

impl Filesystem for Pve {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
            InitFlags::FUSE_PARALLEL_DIROPS,
        ];
        for flag in wanted {
            if config.add_capabilities(flag).is_err() {
                tracing::warn!(?flag, "the kernel's FUSE is older than expected");
            }
        }
        let _ = config.set_max_write(WRITE_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.0.lookup(parent.0, name) {
            Ok(Some(told)) => self.entry(reply, told),
            Ok(None) => self.nothing(reply),
            Err(refused) => reply.error(refused.errno()),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, times: u64) {
        self.0.table().inodes.forget(ino.0, times);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.attributes(ino.0, handle.map(|handle| handle.0)) {
            Ok((facts, ttl)) => reply.attr(&ttl, &facts.attr(self.0.gid)),
            Err(refused) => reply.error(refused.errno()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let wanted = Wanted { mode, uid, gid, size, mtime, handle: handle.map(|handle| handle.0) };
        let (ino, shared) = (ino.0, Arc::clone(&self.0));
        let answer = move |shared: &Shared, told: Result<Told, Refused>, reply: ReplyAttr| match told {
            Ok((facts, ttl)) => reply.attr(&ttl, &facts.attr(shared.gid)),
            Err(refused) => reply.error(shared.refuse("setattr", shared.path_text(ino), &refused)),
        };
        match shared.set_attributes(ino, wanted) {
            Ok(Left::Nothing) => answer(&shared, shared.attributes(ino, wanted.handle), reply),
            Ok(left) => self.spawn(async move {
                let told = shared.finish(ino, left).await;
                answer(&shared, told, reply);
            }),
            Err(refused) => answer(&shared, Err(refused), reply),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match Fixed::of(ino.0) {
            Some(fixed @ Fixed::Link { .. }) => reply.data(fixed.target(&self.0.node).as_bytes()),
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn mknod(&self, _: &Request, at: INodeNo, name: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(self.refuse("mknod", self.0.name_text(at.0, name), &Refused::NotSupported));
    }

    fn symlink(&self, _: &Request, at: INodeNo, name: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(self.refuse("symlink", self.0.name_text(at.0, name), &Refused::NotSupported));
    }

    fn link(&self, _: &Request, _: INodeNo, at: INodeNo, name: &OsStr, reply: ReplyEntry) {
        reply.error(self.refuse("link", self.0.name_text(at.0, name), &Refused::NotSupported));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let place = match self.0.writable_place(parent.0, name) {
            Ok(place) => place,
            Err(refused) => {
                return reply.error(self.refuse("mkdir", self.0.name_text(parent.0, name), &refused));
            }
        };
        let pve = Self(Arc::clone(&self.0));
        self.spawn(async move {
            let path = place.path.clone();
            match pve.0.mkdir(place).await {
                Ok(told) => pve.entry(reply, told),
                Err(refused) => reply.error(pve.refuse("mkdir", path, &refused)),
            }
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, false, reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, true, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let from = self.0.writable_place(parent.0, name);
        let to = self.0.writable_place(new_parent.0, new_name);
        let (from, to) = match (from, to) {
            (Ok(from), Ok(to)) => (from, to),
            (Err(refused), _) | (_, Err(refused)) => {
                return reply.error(self.refuse("rename", self.0.name_text(parent.0, name), &refused));
            }
        };
        let shared = Arc::clone(&self.0);
        self.spawn(async move {
            let path = to.path.clone();
            match shared.rename(from, to, flags).await {
                Ok(()) => reply.ok(),
                Err(refused) => reply.error(shared.refuse("rename", path, &refused)),
            }
        });
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let pve = Self(Arc::clone(&self.0));
        let created =
            |pve: &Self, (facts, ttl): Told, (handle, flags): (u64, FopenFlags), reply: ReplyCreate| {
                let generation = pve.generation(facts.ino);
                reply.created(&ttl, &facts.attr(pve.0.gid), generation, FileHandle(handle), flags);
            };
        match pve.0.create(parent.0, name, OpenFlags(flags)) {
            Ok(Created::Open(told, opened)) => created(&pve, told, opened, reply),
            Ok(Created::Asked(place)) => self.spawn(async move {
                let path = place.path.clone();
                match pve.0.create_asked(place, OpenFlags(flags)).await {
                    Ok((told, opened)) => created(&pve, told, opened, reply),
                    Err(refused) => reply.error(pve.refuse("create", path, &refused)),
                }
            }),
            Err(refused) => reply.error(self.refuse("create", self.0.name_text(parent.0, name), &refused)),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.0.open(ino.0, flags) {
            Ok((handle, flags)) => reply.opened(FileHandle(handle), flags),
            Err(refused) => reply.error(self.refuse("open", self.0.path_text(ino.0), &refused)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.read(handle.0, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(refused) => reply.error(refused.errno()),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let length = data.len() as u32;
        match self.0.write(handle.0, offset, data, flags) {
            Ok(None) => reply.written(length),
            Ok(Some(file)) => {
                let shared = Arc::clone(&self.0);
                self.spawn(async move {
                    shared.flush(file).await;
                    match shared.outcome(handle.0) {
                        Ok(()) => reply.written(length),
                        Err(refused) => reply.error(shared.refuse("write", shared.path_text(file), &refused)),
                    }
                });
            }
            Err(refused) => reply.error(self.refuse("write", self.0.path_text(ino.0), &refused)),
        }
    }

    fn flush(&self, _: &Request, ino: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.settle("close", ino.0, handle.0, reply);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.settle("fsync", ino.0, handle.0, reply);
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        // Written after the last close, as through a mapping: nobody waits for it.
        let waits = self.0.unsettled(handle.0).is_some();
        self.0.table().files.close(handle.0);
        reply.ok();
        if waits {
            let (shared, ino) = (Arc::clone(&self.0), ino.0);
            self.spawn(async move { shared.flush(ino).await });
        }
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.0.open_directory(ino.0) {
            Ok((handle, flags)) => reply.opened(FileHandle(handle), flags),
            Err(refused) => reply.error(refused.errno()),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match self.0.handle(handle.0) {
            Some(Handle::Directory { .. }) if offset == 0 => self.0.relist(ino.0, handle.0),
            Some(Handle::Directory { entries }) => Ok(entries),
            _ => Err(Refused::Handle),
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(refused) => return reply.error(refused.errno()),
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, Listed { ino, kind, name }) in entries.iter().enumerate().skip(from) {
            if reply.add(INodeNo(*ino), at as u64 + 1, *kind, &**name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.0.table().files.close(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // Names are durable when the request that made them was answered.
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (bytes, entries) = {
            let tree = self.0.view.tree();
            (tree.byte_count() as u64, tree.entry_count() as u64)
        };
        let blocks = TREE_BYTES_MAX as u64 / u64::from(BLOCK);
        let free = blocks.saturating_sub(bytes.div_ceil(BLOCK.into()));
        let files = ENTRIES_MAX as u64;
        let names = NAME_MAX as u32;
        reply.statfs(blocks, free, free, files, files.saturating_sub(entries), BLOCK, names, BLOCK);
    }

    // The kernel remembers that there are none.
    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
