//! The directory that is mounted on: made if it is missing, taken over from a configd that was killed, refused if it
//! holds somebody else's files.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

/// What our mounts are called in the list of mounts.
pub(super) const SOURCE: &str = "quorate";
/// Mounts one upon another that are taken away.
const LAYERS_MAX: usize = 16;
/// Names that are told of a directory that is in the way.
const TOLD: usize = 3;

/// Why nothing can be mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum PointError {
    /// The directory cannot be made or looked at.
    #[error("cannot use {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A mount that a killed configd left cannot be taken away.
    #[error("cannot take away the mount that an earlier configd left at {path}")]
    Leftover {
        path: PathBuf,
        #[source]
        source: nix::Error,
    },
    /// Another file system is mounted there.
    #[error("'{source_name}' is mounted at {path}, which is not ours; unmount it and restart configd")]
    Occupied { path: PathBuf, source_name: String },
    /// It would hide files.
    #[error(
        "{path} is not empty ({names}), and a mount would hide what is there: move it away and restart configd"
    )]
    NotEmpty { path: PathBuf, names: String },
}

/// Makes the directory ready to be mounted on; gives its path without symbolic links above it.
///
/// It is never looked into while something is mounted on it: a daemon that hangs would make this one hang, too.
pub(super) fn prepare(path: &Path) -> Result<PathBuf, PointError> {
    let directory = |source| PointError::Directory { path: path.to_owned(), source };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(directory(io::ErrorKind::InvalidInput.into()));
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o755);
    builder.create(parent).map_err(directory)?;
    let path = parent.canonicalize().map_err(directory)?.join(name);
    take_over(&path)?;
    builder.create(&path).map_err(directory)?;
    refuse_files(&path)?;
    Ok(path)
}

/// Takes our mount away, lazily: who has files open there keeps them until they are closed.
pub(super) fn detach(path: &Path) -> nix::Result<()> {
    umount2(path, MntFlags::MNT_DETACH)
}

fn take_over(path: &Path) -> Result<(), PointError> {
    for _ in 0..LAYERS_MAX {
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|source| PointError::Directory { path: path.to_owned(), source })?;
        let Some(mount) = mounts.lines().rev().filter_map(parse).find(|mount| mount.at == path) else {
            return Ok(());
        };
        if mount.source != SOURCE {
            return Err(PointError::Occupied { path: path.to_owned(), source_name: mount.source });
        }
        tracing::info!(path = %path.display(), "taking over the mount of an earlier configd");
        detach(path).map_err(|source| PointError::Leftover { path: path.to_owned(), source })?;
    }
    Err(PointError::Leftover { path: path.to_owned(), source: nix::Error::EBUSY })
}

fn refuse_files(path: &Path) -> Result<(), PointError> {
    let directory = |source| PointError::Directory { path: path.to_owned(), source };
    let entries = fs::read_dir(path).map_err(directory)?;
    let names: Vec<String> =
        entries.flatten().take(TOLD).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(PointError::NotEmpty { path: path.to_owned(), names: names.join(", ") })
}

#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    at: PathBuf,
    source: String,
}

/// A line of `/proc/self/mountinfo`. Source: proc_pid_mountinfo(5).
fn parse(line: &str) -> Option<Mounted> {
    let (head, tail) = line.split_once(" - ")?;
    let at = unescape(head.split(' ').nth(4)?);
    let source = unescape(tail.split(' ').nth(1)?);
    Some(Mounted { at: at.into(), source })
}

/// Blanks, newlines and backslashes stand as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let code = (first == b'\\').then(|| behind.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_of_the_list_of_mounts_is_read() {
        let line = "61 28 0:45 / /tmp/a\\040b/etc/pve rw,nosuid - fuse quorate rw,user_id=0,group_id=0";
        let mounted = Mounted { at: "/tmp/a b/etc/pve".into(), source: "quorate".to_owned() };
        assert_eq!(parse(line), Some(mounted));
        assert_eq!(parse("61 28 0:45 /"), None);
    }

    #[test]
    fn a_missing_directory_is_made() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = prepare(&dir.path().join("etc/pve")).expect("an empty directory");
        assert!(path.is_dir());
        assert!(prepare(&path).is_ok(), "it is still empty");
    }

    #[test]
    fn files_are_not_hidden() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join("storage.cfg"), "dir: local\n").expect("writable");
        let error = prepare(dir.path()).expect_err("it holds a file").to_string();
        assert!(error.contains("storage.cfg") && error.contains("move it away"), "{error}");
    }

    #[test]
    fn what_stands_there_and_is_no_directory_is_an_error() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("pve");
        fs::write(&path, "").expect("writable");
        assert!(matches!(prepare(&path), Err(PointError::Directory { .. })));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in "\\PC{0,60}") {
            let _ = parse(&line);
        }

        #[test]
        fn every_path_is_read_back(path in "/[ -~]{0,20}") {
            let escaped = path.replace('\\', "\\134").replace(' ', "\\040");
            let line = format!("1 2 0:3 / {escaped} rw - fuse quorate rw");
            prop_assert_eq!(parse(&line).map(|mount| mount.at), Some(PathBuf::from(path)));
        }
    }
}
