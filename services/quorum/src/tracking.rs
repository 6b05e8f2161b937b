//! The file `ev_tracking`: the highest expected votes this node ever had, one number as text.
//!
//! It counts after a restart if `expected_votes_tracking` is on, so that a node that starts alone does
//! not believe in a smaller cluster. Source: votequorum(5).

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Where the number lies.
#[derive(Debug, Clone)]
pub(crate) struct TrackingFile {
    path: PathBuf,
}

/// Why the stored number cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrackingError {
    /// The file exists but cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file holds something else than a number.
    #[error("{} holds no number of votes; delete it to start without", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::num::ParseIntError,
    },
    /// The number cannot be stored.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl TrackingFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("ev_tracking") }
    }

    /// The stored number, if there is one.
    pub(crate) fn load(&self) -> Result<Option<u32>, TrackingError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(TrackingError::Read { path: self.path.clone(), source }),
        };
        let votes = text.trim().parse();
        votes.map(Some).map_err(|source| TrackingError::Malformed { path: self.path.clone(), source })
    }

    /// Replaces the number; it is on the disk when this returns.
    pub(crate) fn store(&self, votes: u32) -> Result<(), TrackingError> {
        self.replace(votes).map_err(|source| TrackingError::Write { path: self.path.clone(), source })
    }

    fn replace(&self, votes: u32) -> io::Result<()> {
        let dir = self.path.parent().expect("the file lies in the state directory");
        fs::create_dir_all(dir)?;
        let next = self.path.with_extension("new");
        let mut file = File::create(&next)?;
        writeln!(file, "{votes}")?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = TrackingFile::new(&dir.path().join("var/lib/quorate/quorumd"));
        assert_eq!(file.load().unwrap(), None);

        file.store(3).unwrap();
        file.store(5).unwrap();

        assert_eq!(file.load().unwrap(), Some(5));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = TrackingFile::new(dir.path());
        fs::write(dir.path().join("ev_tracking"), "many\n").unwrap();

        let err = file.load().unwrap_err();

        assert!(
            err.to_string().ends_with("ev_tracking holds no number of votes; delete it to start without")
        );
    }
}
