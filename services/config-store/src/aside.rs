//! Stores that are no longer used, and the note that a damaged one had to be given up.
//!
//! Beside the store `tree`: `tree.before-join.TIME` is what a node had before it joined a cluster,
//! `tree.damaged.TIME` what could not be read any more. The file `tree.forgot` says that this replica lost what it
//! had and is not in sync yet; it keeps an empty tree from being taken for the beginning of a new cluster.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::error::Error;

/// Why a store is moved away: the middle of its new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The cluster's tree takes its place.
    BeforeJoin,
    /// It cannot be read.
    Damaged,
}

impl Why {
    fn name(self) -> &'static str {
        match self {
            Self::BeforeJoin => "before-join",
            Self::Damaged => "damaged",
        }
    }
}

/// Moves a store away and says where it lies now.
///
/// # Errors
/// [`Error::SetAside`].
pub(crate) fn set_aside(store: &Path, why: Why) -> Result<PathBuf, Error> {
    let name = format!("tree.{}.{}", why.name(), now_seconds());
    let names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}.{number}")));
    let backup = names.map(|name| store.with_file_name(name)).find(|path| !path.exists());
    let backup = backup.expect("an endless list of names has one that is free");
    std::fs::rename(store, &backup).map_err(|source| Error::SetAside { path: backup.clone(), source })?;
    Ok(backup)
}

/// Notes that the store is given up, before it is.
///
/// # Errors
/// [`Error::SetAside`] when the note cannot be written.
pub(crate) fn note_forgotten(store: &Path) -> Result<(), Error> {
    let path = note(store);
    let written = std::fs::File::create(&path).and_then(|file| file.sync_all());
    written.map_err(|source| Error::SetAside { path, source })
}

/// Whether a store was given up and the replica has not been in sync since.
pub(crate) fn is_forgotten(store: &Path) -> bool {
    note(store).exists()
}

/// The replica is in sync, or in no cluster any more.
pub(crate) fn remembered(store: &Path) {
    match std::fs::remove_file(note(store)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %note(store).display(), "cannot remove the note");
        }
        _ => {}
    }
}

fn note(store: &Path) -> PathBuf {
    store.with_file_name("tree.forgot")
}

/// Seconds since 1970; 0 if the clock is before that.
fn now_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_set_aside_within_one_second_keep_names_of_their_own() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = dir.path().join("tree");
        let mut backups = std::collections::BTreeSet::new();
        for _ in 0..3 {
            std::fs::create_dir(&store).expect("made");
            backups.insert(set_aside(&store, Why::BeforeJoin).expect("moved"));
        }
        assert_eq!(backups.len(), 3);
        assert!(backups.iter().all(|path| path.exists()));
    }

    #[test]
    fn what_was_given_up_is_known_until_the_replica_is_in_sync() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = dir.path().join("tree");
        assert!(!is_forgotten(&store));
        note_forgotten(&store).expect("written");
        assert!(is_forgotten(&store));
        remembered(&store);
        assert!(!is_forgotten(&store));
        remembered(&store);
    }
}
