//! The file that makes ring ids unique across restarts: `ringid_<nodeid>`, 8 bytes, little endian.
//!
//! Source: spec `totem.md`, 4.6. A missing, short or otherwise broken file counts as sequence 0: the
//! join messages of the other members then raise it, so a broken disk never keeps a node out.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use quorate_types::NodeId;

/// Where one node's ring sequence is kept.
#[derive(Debug, Clone)]
pub struct RingIdFile {
    path: PathBuf,
}

impl RingIdFile {
    /// The file of this node in the daemon's state directory, which must exist.
    #[must_use]
    pub fn new(state_dir: &Path, node: NodeId) -> Self {
        Self { path: state_dir.join(format!("ringid_{node}")) }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The stored sequence; 0 if there is none or the file is damaged.
    ///
    /// # Errors
    /// Whatever reading fails with, other than a missing file.
    pub fn load(&self) -> io::Result<u64> {
        match fs::read(&self.path) {
            Ok(bytes) => match <[u8; 8]>::try_from(bytes.as_slice()) {
                Ok(sequence) => Ok(u64::from_le_bytes(sequence)),
                Err(_) => {
                    tracing::warn!(path = %self.path.display(), length = bytes.len(), "ring id file is damaged, starting from 0");
                    Ok(0)
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Makes the sequence durable: the file holds the old or the new one, never a part.
    ///
    /// # Errors
    /// Whatever writing, syncing or renaming fails with; the old sequence is then still there.
    pub fn store(&self, sequence: u64) -> io::Result<()> {
        let staged = self.path.with_extension("new");
        let mut file = File::create(&staged)?;
        file.write_all(&sequence.to_le_bytes())?;
        file.sync_data()?;
        fs::rename(&staged, &self.path)?;
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, RingIdFile) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = RingIdFile::new(dir.path(), NodeId::new(3).expect("not 0"));
        (dir, file)
    }

    #[test]
    fn a_missing_file_counts_as_zero() {
        let (_dir, file) = file();
        assert_eq!(file.load().expect("readable"), 0);
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let (_dir, file) = file();
        file.store(0x1_0000_0005).expect("writable");
        file.store(0x1_0000_0009).expect("writable");
        assert_eq!(file.load().expect("readable"), 0x1_0000_0009);
    }

    #[test]
    fn a_file_cut_short_by_a_crash_counts_as_zero() {
        let (_dir, file) = file();
        fs::write(file.path(), [1, 2, 3]).expect("writable");
        assert_eq!(file.load().expect("readable"), 0);
    }
}
