//! Process id files, the lock, the logs.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use quorate_daemon::Root;

use crate::{Error, NAME};

/// Mode of directories: this user and group.
const DIR_MODE: u32 = 0o750;
/// Mode of logs, process ids and the lock.
const FILE_MODE: u32 = 0o640;

/// Makes a directory and its parents.
pub(crate) fn create_dir(path: &Path) -> Result<(), Error> {
    let created = DirBuilder::new().recursive(true).mode(DIR_MODE).create(path);
    created.map_err(|source| Error::CreateDirectory { path: path.to_owned(), source })
}

/// Proof that no other supervisor has this root; given back when it is dropped, and by the kernel if it dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    pub(crate) fn take(root: &Root) -> Result<Self, Error> {
        let path = root.run_dir().join(format!("{NAME}.lock"));
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(&path);
        let file = opened.map_err(|source| Error::Lock { path: path.clone(), source })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::Running { path }),
            Err((_, errno)) => Err(Error::Lock { path, source: errno.into() }),
        }
    }
}

/// `run/quorate/<name>.pid`: a process id and a newline, there while the process is; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes it in one step: a reader sees the old id, the new one, or none.
    pub(crate) fn write(root: &Root, name: &str, pid: u32) -> Result<Self, Error> {
        let path = root.run_dir().join(format!("{name}.pid"));
        let new = path.with_extension("pid.new");
        let written = fs::write(&new, format!("{pid}\n")).and_then(|()| fs::rename(&new, &path));
        written.map_err(|source| Error::WritePid { path: path.clone(), source })?;
        Ok(Self { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Best effort: the next start replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// `var/log/quorate/<name>.log`, to be appended to, so that it may be truncated while it is in use.
pub(crate) fn open_log(root: &Root, name: &str) -> io::Result<File> {
    let dir = root.as_path().join("var/log/quorate");
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(&dir)?;
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(dir.join(format!("{name}.log")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        create_dir(&root.run_dir()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_second_supervisor_is_refused_while_the_first_one_lives() {
        let (_dir, root) = root();
        let first = Lock::take(&root).unwrap();
        assert!(matches!(Lock::take(&root), Err(Error::Running { .. })));
        drop(first);
        assert!(Lock::take(&root).is_ok());
    }

    #[test]
    fn a_process_id_file_is_there_while_the_process_is() {
        let (_dir, root) = root();
        let path = root.run_dir().join("quorumd.pid");
        let file = PidFile::write(&root, "quorumd", 17).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "17\n");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_log_is_appended_to() {
        use std::io::Write as _;
        let (dir, root) = root();
        for line in ["one", "two"] {
            writeln!(open_log(&root, "quorumd").unwrap(), "{line}").unwrap();
        }
        assert_eq!(fs::read_to_string(dir.path().join("var/log/quorate/quorumd.log")).unwrap(), "one\ntwo\n");
    }
}
