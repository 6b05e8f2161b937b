//! `pvecm keygen`: a new key for the ring, in a file. Source: spec 4.9.
//!
//! Works on this machine alone and calls nobody: a key is made before there is a cluster.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rand::RngCore as _;

use crate::{error::Error, exit::Exit};

/// Bytes of a key. Source: spec 4.9, today's default.
const KEY_BYTES: usize = 256;
/// Only its owner reads it, and nobody writes it.
const MODE: u32 = 0o400;

/// Writes a new key for the ring to a file, which must not exist.
///
/// 'pvecm create' makes a key by itself, and 'pvecm delnode' replaces it; this is for keys that are brought along, such as
/// for a cluster together with corosync.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm keygen /etc/corosync/authkey")]
pub(crate) struct Args {
    /// The file; directories on the way to it are made
    #[arg(value_name = "FILENAME")]
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let written = write(&args.file);
    written.map_err(|source| Error::WriteKey { path: args.file.clone(), source })?;
    Ok(Exit::Success)
}

fn write(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut key = [0; KEY_BYTES];
    rand::rng().fill_bytes(&mut key);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(&key)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etc/corosync/authkey");
        write(&path).unwrap();
        let key = fs::read(&path).unwrap();
        assert_eq!(key.len(), 256);
        assert!(key.iter().any(|byte| *byte != key[0]), "it is random");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(write(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), key);
    }
}
