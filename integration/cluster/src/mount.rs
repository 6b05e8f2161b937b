//! The tree as a node's programs see it: files below its `etc/pve`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{errno::Errno, fcntl::OFlag, unistd::geteuid};
use playground::Node;

use crate::wait;

/// Whether nodes can mount here; says so if not.
#[must_use]
pub fn possible() -> bool {
    let possible = geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !possible {
        println!("skipped: a mount needs root and /dev/fuse");
    }
    possible
}

/// Where a node's tree is mounted, as soon as it is: the probe of all tools is that `local` is a link.
pub async fn of(node: &Node) -> PathBuf {
    let at = node.root().mount_point();
    wait::until(&format!("the mount of {}", node.name()), async || {
        match fs::symlink_metadata(at.join("local")) {
            Ok(meta) if meta.file_type().is_symlink() => Ok(()),
            Ok(_) => Err("'local' is no link".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    at
}

/// Waits until a node's tree can be written: the probe of all tools is the owner's write bit of `local`.
pub async fn writable(at: &Path, wanted: bool) {
    wait::until(&format!("{} is writable: {wanted}", at.display()), async || {
        let mode = fs::symlink_metadata(at.join("local")).map_err(|error| error.to_string())?.mode();
        if (mode & 0o200 != 0) == wanted { Ok(()) } else { Err(format!("mode {mode:o}")) }
    })
    .await;
}

/// Waits until a file has this content.
pub async fn has(path: &Path, content: &str) {
    wait::until(&format!("the content of {}", path.display()), async || match fs::read_to_string(path) {
        Ok(read) if read == content => Ok(()),
        Ok(read) => Err(format!("{read:?}")),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

/// Waits until a name is gone.
pub async fn gone(path: &Path) {
    wait::until(&format!("the end of {}", path.display()), async || {
        match errno(fs::symlink_metadata(path)) {
            Some(Errno::ENOENT) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// The error of a call; `None` if it succeeded.
pub fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().map(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
}

/// Makes directories; those that are there stay.
pub fn directories(at: &Path, names: &[&str]) {
    for name in names {
        fs::create_dir_all(at.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Permissions of a path itself.
#[must_use]
pub fn mode(path: &Path) -> u32 {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    meta.mode() & 0o7777
}

/// Creates a file that must not exist yet, with this content.
///
/// # Errors
/// What the operating system says.
pub fn create_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    close(file)
}

/// Writes a file as a shell's `>` does, and tells what its close said.
///
/// # Errors
/// What the operating system says.
pub fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(content)?;
    close(file)
}

/// Opens for writing with more flags of open(2).
///
/// # Errors
/// What the operating system says.
pub fn open_with(path: &Path, flags: OFlag) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(flags.bits()).open(path)
}

/// Closes a file and tells what was said to that: the standard library does not.
///
/// # Errors
/// What the operating system says.
pub fn close(file: File) -> io::Result<()> {
    nix::unistd::close(file).map_err(io::Error::from)
}

/// Runs a command of the shell in a directory, which must succeed.
pub fn shell(at: &Path, command: &str) {
    let said = Command::new("sh").args(["-ec", command]).current_dir(at).output().expect("there is a shell");
    let err = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "{command}: {err}");
}
