//! Files of this node that must be either old or new after a crash, never half.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Mode of a file that everybody may read.
pub const PUBLIC: u32 = 0o644;
/// Mode of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;

/// A file of this node that could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError { action, path: path.to_owned(), source }
}

/// Writes the file as a whole: a new file beside it is synced, renamed over it, and the directory synced.
/// Missing directories are made.
///
/// # Errors
/// [`FileError`]; the old file is then still there.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(failed("make the directory", directory))?;
    let beside = path.with_extension("new");
    write_synced(&beside, content, mode).map_err(|source| {
        // A part of it is of no use, and on a full disk even that is in the way.
        let _ = fs::remove_file(&beside);
        failed("write", &beside)(source)
    })?;
    fs::rename(&beside, path).map_err(failed("replace", path))?;
    sync_directory(directory).map_err(failed("sync", directory))
}

/// The file's content; `None` if there is no such file.
///
/// # Errors
/// [`FileError`] if it is there and cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Removes the file, if it is there.
///
/// # Errors
/// [`FileError`] if it is still there.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            sync_directory(directory).map_err(failed("sync", directory))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

fn write_synced(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_the_given_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/node.key");

        replace(&path, b"old", PUBLIC).unwrap();
        replace(&path, b"new", PRIVATE).unwrap();

        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_there_reads_as_none_and_removes_without_complaint() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none");
        assert_eq!(read(&path).unwrap(), None);
        remove(&path).unwrap();
    }
}
