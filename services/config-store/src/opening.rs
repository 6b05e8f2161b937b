//! Opening the store and loading the replica from it, also from a store that can only be read.

use std::{path::Path, sync::Arc, time::Instant};

use config_store_core::{Input, Replica, Settings};
use quorate_types::NodeId;
use tokio::sync::mpsc;

use crate::{
    error::Error,
    identity::Identity,
    rocks::{Store, StoreError},
    store_thread::{StoreThread, Written},
};

/// Stands for this node while it is in no cluster; never leaves the process.
const STANDALONE_NODE: NodeId = match NodeId::new(1) {
    Ok(node) => node,
    Err(_) => panic!("1 is not 0"),
};

/// A replica with its store.
pub(crate) struct Opened {
    pub(crate) replica: Replica,
    pub(crate) store: StoreThread,
    /// What became of the batches that the store was given.
    pub(crate) written: mpsc::UnboundedReceiver<Written>,
    pub(crate) conflict_entries: u64,
}

/// Opens the store, making it if there is none.
///
/// # Errors
/// A store that cannot be opened, read, or is damaged.
pub(crate) fn open(path: &Path, identity: &Identity) -> Result<Opened, Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::SetAside { path: path.to_owned(), source })?;
    let store = Store::open(path)?;
    let (replica, conflict_entries) = load(&store, identity)?;
    let (completions, written) = mpsc::unbounded_channel();
    let store = StoreThread::start(Arc::new(store), completions)?;
    Ok(Opened { replica, store, written, conflict_entries })
}

/// Like [`open`]; but a store that is there and cannot be written, because the disk is full or broken, is read all the
/// same. Then the reason comes with it, and the replica must be told that its store has failed.
///
/// # Errors
/// As [`open`], when the store cannot be read either.
pub(crate) fn open_or_read(path: &Path, identity: &Identity) -> Result<(Opened, Option<Error>), Error> {
    match open(path, identity) {
        Ok(opened) => Ok((opened, None)),
        Err(error @ Error::Store(StoreError::Open { .. })) => match read(path, identity) {
            Ok(opened) => Ok((opened, Some(error))),
            Err(_) => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn read(path: &Path, identity: &Identity) -> Result<Opened, Error> {
    let (replica, conflict_entries) = load(&Store::open_read_only(path)?, identity)?;
    let (_, written) = mpsc::unbounded_channel();
    Ok(Opened { replica, store: StoreThread::ended(), written, conflict_entries })
}

fn load(store: &Store, identity: &Identity) -> Result<(Replica, u64), Error> {
    let image = store.load()?;
    let conflict_entries = store.conflict_entries()?;
    let node = identity.node.unwrap_or(STANDALONE_NODE);
    let mut replica = Replica::load(Settings::new(node, rand::random()), image);
    replica.handle_input(Instant::now(), Input::LocalMode(identity.node.is_none()));
    Ok((replica, conflict_entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_that_cannot_be_written_is_read_and_the_reason_is_told() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let alone = Identity { node: None, cluster: String::new() };
        let path = dir.path().join("tree");
        open(&path, &alone).expect("a new store").store.close().await;
        // Whoever holds the lock keeps others from writing, as a full disk does.
        let holder = Store::open(&path).expect("the store is closed");

        let (_, failure) = open_or_read(&path, &alone).expect("it can be read");
        assert!(matches!(failure, Some(Error::Store(StoreError::Open { .. }))), "{failure:?}");

        drop(holder);
        let (_, failure) = open_or_read(&path, &alone).expect("it can be written again");
        assert!(failure.is_none(), "{failure:?}");
    }

    #[test]
    fn a_store_that_neither_can_be_made_nor_is_there_is_an_error() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let alone = Identity { node: None, cluster: String::new() };
        std::fs::write(dir.path().join("tree"), "a file in the way").expect("writable");
        assert!(open_or_read(&dir.path().join("tree"), &alone).is_err());
    }
}
