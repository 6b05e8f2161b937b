//! Requests that change an open file or an entry's attributes.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use config_store_core::{ConfigPath, FILE_MAX, Operation};
use fuser::{FileType, OpenFlags, TimeOrNow};
use nix::fcntl::OFlag;
use tracing::Instrument as _;

use super::{
    attributes::{is_own_mode, is_private},
    errno::Refused,
    files::{File, Handle, Home},
    fixed::Fixed,
    notices::Job,
    reading::has,
    shared::{Shared, Told, now_seconds, span},
};
use crate::generated::GeneratedFile;

/// What is to be set of an entry's attributes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<TimeOrNow>,
    pub(super) handle: Option<u64>,
}

/// What is left to do after attributes were set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// Send what waits of the file.
    Flush,
    /// Set the time of this path.
    Mtime(ConfigPath, u32),
}

impl Shared {
    /// Takes bytes. Gives the file if they must be sent before the answer.
    pub(super) fn write(
        self: &Arc<Self>,
        handle: u64,
        offset: u64,
        data: &[u8],
        flags: OpenFlags,
    ) -> Result<Option<u64>, Refused> {
        let ino = match self.handle(handle).ok_or(Refused::Handle)? {
            Handle::Generated { .. } => return self.write_debug(offset, data).map(|()| None),
            Handle::File { ino, writes: true, .. } => ino,
            Handle::File { .. } | Handle::Directory { .. } => return Err(Refused::Handle),
        };
        self.must_be_writable()?;
        let mut table = self.table();
        let file = table.files.get_mut(ino).ok_or(Refused::Handle)?;
        self.must_be_there(file)?;
        // Where the end is, is known here and not in the kernel: another node may have written, too.
        let appends = has(flags, OFlag::O_APPEND);
        let offset =
            if appends { file.size() } else { usize::try_from(offset).map_err(|_| Refused::TooLarge)? };
        if offset.saturating_add(data.len()) > FILE_MAX {
            return Err(Refused::TooLarge);
        }
        match appends {
            true => file.pending.append(offset, data),
            false => file.pending.write(offset, data),
        }
        let others_read = file.handles > 1;
        let at_once = file.pending.is_full() || has(flags, OFlag::O_SYNC | OFlag::O_DSYNC);
        if !at_once {
            self.arm(ino, file);
        }
        drop(table);
        if others_read {
            self.jobs.push(vec![Job::Data(ino)]);
        }
        Ok(at_once.then_some(ino))
    }

    fn write_debug(&self, offset: u64, data: &[u8]) -> Result<(), Refused> {
        match (offset, data.get(..2)) {
            (0, Some(b"0\n")) => self.generated.set_debug(false),
            (0, Some(b"1\n")) => self.generated.set_debug(true),
            _ => return Err(Refused::Debug),
        }
        Ok(())
    }

    /// A file that another node removed cannot be written any more; one that was removed here can, in vain, as
    /// everywhere.
    fn must_be_there(&self, file: &mut File) -> Result<(), Refused> {
        let is_there = file.refresh(&self.view.tree()) || matches!(file.home, Home::Unsent { .. });
        if is_there || file.removed_here { Ok(()) } else { Err(Refused::Gone) }
    }

    /// Sets attributes as far as they can be set at all.
    pub(super) fn set_attributes(self: &Arc<Self>, ino: u64, wanted: Wanted) -> Result<Left, Refused> {
        if let Some(fixed) = Fixed::of(ino) {
            let only_cuts = wanted.mode.is_none() && wanted.uid.is_none() && wanted.gid.is_none();
            let is_debug = fixed == Fixed::Generated(GeneratedFile::Debug);
            return if is_debug && only_cuts { Ok(Left::Nothing) } else { Err(Refused::Fixed) };
        }
        let (kind, path) = self.kind_and_path(ino)?;
        self.must_be_implied(kind, path.as_ref(), wanted)?;
        if wanted.size.is_none() && wanted.mtime.is_none() {
            return Ok(Left::Nothing);
        }
        self.must_be_writable()?;
        let mut left = Left::Nothing;
        if let Some(size) = wanted.size {
            self.set_size(ino, kind, size)?;
            // Through a handle it is sent with what is written next, and only then.
            if wanted.handle.is_none() {
                left = Left::Flush;
            }
        }
        if let Some(mtime) = wanted.mtime.map(seconds) {
            let mut table = self.table();
            match (table.files.get_mut(ino).filter(|file| file.is_dirty()), path) {
                (Some(file), _) => file.pending.mtime = Some(mtime),
                (None, Some(path)) => left = Left::Mtime(path, mtime),
                (None, None) => {}
            }
        }
        Ok(left)
    }

    fn kind_and_path(&self, ino: u64) -> Result<(FileType, Option<ConfigPath>), Refused> {
        let mut table = self.table();
        let tree = self.view.tree();
        let (facts, _) = self.facts(&mut table, &tree, ino)?;
        let path = match table.files.get(ino) {
            Some(file) => super::shared::path_of(&file.home, &tree),
            None => table.inodes.entry_of(ino).and_then(|inode| tree.path_of(inode)),
        };
        Ok((facts.kind, path))
    }

    /// Modes and owners are what the path implies: they can be set to that, and to nothing else.
    fn must_be_implied(
        &self,
        kind: FileType,
        path: Option<&ConfigPath>,
        wanted: Wanted,
    ) -> Result<(), Refused> {
        let private = path.is_some_and(is_private);
        let mode = wanted.mode.is_none_or(|mode| is_own_mode(kind, private, mode));
        let owner = wanted.uid.is_none_or(|uid| uid == 0) && wanted.gid.is_none_or(|gid| gid == self.gid);
        if mode && owner { Ok(()) } else { Err(Refused::Implied) }
    }

    fn set_size(self: &Arc<Self>, ino: u64, kind: FileType, size: u64) -> Result<(), Refused> {
        if kind == FileType::Directory {
            return Err(Refused::IsADirectory);
        }
        let size = usize::try_from(size).ok().filter(|size| *size <= FILE_MAX).ok_or(Refused::TooLarge)?;
        let mut table = self.table();
        if table.files.get(ino).is_none() {
            let inode = table.inodes.entry_of(ino).ok_or(Refused::Stale)?;
            table.files.of_tree(ino, inode, &self.view.tree());
        }
        let file = table.files.get_mut(ino).ok_or(Refused::Stale)?;
        self.must_be_there(file)?;
        file.pending.set_size(size);
        self.arm(ino, file);
        Ok(())
    }

    /// Does what is left, and says what the attributes are then.
    pub(super) async fn finish(self: &Arc<Self>, ino: u64, left: Left) -> Result<Told, Refused> {
        match left {
            Left::Nothing => {}
            Left::Flush => self.flush_all(ino).await?,
            Left::Mtime(path, mtime) => {
                let span = span("utimens", &path);
                self.commit(Operation::SetMtime { path, mtime }).instrument(span).await?;
            }
        }
        self.attributes(ino, None)
    }
}

/// Whole UTC seconds; what lies before 1970 or after 2106 is the first or last of them.
fn seconds(time: TimeOrNow) -> u32 {
    match time {
        TimeOrNow::Now => now_seconds(),
        TimeOrNow::SpecificTime(time) => since_epoch(time),
    }
}

fn since_epoch(time: SystemTime) -> u32 {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_whole_seconds_of_an_unsigned_number() {
        let at = |seconds| TimeOrNow::SpecificTime(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!((seconds(at(0)), seconds(at(1_700_000_000))), (0, 1_700_000_000));
        assert_eq!(seconds(at(1 << 40)), u32::MAX);
        assert_eq!(since_epoch(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
