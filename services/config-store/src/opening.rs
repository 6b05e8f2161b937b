//! Opening the store and loading the replica from it, also from a store that can only be read.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use config_store_core::{Input, Replica, Settings};
use quorate_types::NodeId;
use tokio::sync::mpsc;

use crate::{
    aside::{self, Why},
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
    /// Where the store lies that was damaged and given up for this one.
    pub(crate) damaged: Option<PathBuf>,
}

/// A store, and what to do if it is damaged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) path: &'a Path,
    /// Whether other nodes have copies: a damaged store is set aside, and they fill a new one.
    pub(crate) repair: bool,
}

/// Opens the store, making it if there is none.
///
/// # Errors
/// A store that cannot be opened or read, or is damaged while no other node has a copy.
pub(crate) fn open(place: Place<'_>, identity: &Identity) -> Result<Opened, Error> {
    match open_as_it_is(place.path, identity) {
        Err(Error::Store(error)) if place.repair && error.is_damage() => {
            let reason = quorate_daemon::telemetry::chain(&error);
            aside::note_forgotten(place.path)?;
            let damaged = aside::set_aside(place.path, Why::Damaged)?;
            tracing::error!(reason, kept = %damaged.display(), "the store is damaged: the other nodes fill a new one");
            Ok(Opened { damaged: Some(damaged), ..open_as_it_is(place.path, identity)? })
        }
        opened => opened,
    }
}

fn open_as_it_is(path: &Path, identity: &Identity) -> Result<Opened, Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::SetAside { path: path.to_owned(), source })?;
    let store = Store::open(path)?;
    let (replica, conflict_entries) = load(&store, path, identity)?;
    let (completions, written) = mpsc::unbounded_channel();
    let store = StoreThread::start(Arc::new(store), completions)?;
    Ok(Opened { replica, store, written, conflict_entries, damaged: None })
}

/// Like [`open`]; but a store that is there and cannot be written, because the disk is full or broken, is read all the
/// same. Then the reason comes with it, and the replica must be told that its store has failed.
///
/// # Errors
/// As [`open`], when the store cannot be read either.
pub(crate) fn open_or_read(place: Place<'_>, identity: &Identity) -> Result<(Opened, Option<Error>), Error> {
    match open(place, identity) {
        Ok(opened) => Ok((opened, None)),
        Err(error @ Error::Store(StoreError::Open { .. })) => match read(place.path, identity) {
            Ok(opened) => Ok((opened, Some(error))),
            Err(_) => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn read(path: &Path, identity: &Identity) -> Result<Opened, Error> {
    let (replica, conflict_entries) = load(&Store::open_read_only(path)?, path, identity)?;
    let (_, written) = mpsc::unbounded_channel();
    Ok(Opened { replica, store: StoreThread::ended(), written, conflict_entries, damaged: None })
}

fn load(store: &Store, path: &Path, identity: &Identity) -> Result<(Replica, u64), Error> {
    let image = store.load()?;
    let conflict_entries = store.conflict_entries()?;
    let node = identity.node.unwrap_or(STANDALONE_NODE);
    let mut settings = Settings::new(node, rand::random());
    settings.disk_forgot = aside::is_forgotten(path);
    let mut replica = Replica::load(settings, image);
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
        let place = Place { path: &path, repair: false };
        open(place, &alone).expect("a new store").store.close().await;
        // Whoever holds the lock keeps others from writing, as a full disk does.
        let holder = Store::open(&path).expect("the store is closed");

        let (_, failure) = open_or_read(place, &alone).expect("it can be read");
        assert!(matches!(failure, Some(Error::Store(StoreError::Open { .. }))), "{failure:?}");

        drop(holder);
        let (_, failure) = open_or_read(place, &alone).expect("it can be written again");
        assert!(failure.is_none(), "{failure:?}");
    }

    #[test]
    fn a_store_that_neither_can_be_made_nor_is_there_is_an_error() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let alone = Identity { node: None, cluster: String::new() };
        std::fs::write(dir.path().join("tree"), "a file in the way").expect("writable");
        let path = dir.path().join("tree");
        assert!(open_or_read(Place { path: &path, repair: true }, &alone).is_err());
    }

    #[tokio::test]
    async fn a_damaged_store_is_given_up_only_where_others_have_copies() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let member = Identity { node: NodeId::new(1).ok(), cluster: "lab".to_owned() };
        let path = dir.path().join("tree");
        open(Place { path: &path, repair: true }, &member).expect("a new store").store.close().await;
        std::fs::write(path.join("CURRENT"), "no manifest at all").expect("writable");

        let refused = open(Place { path: &path, repair: false }, &member).map(|_| ()).expect_err("damaged");
        assert!(matches!(&refused, Error::Store(error) if error.is_damage()), "{refused:?}");

        let opened = open(Place { path: &path, repair: true }, &member).expect("a store in its place");
        let kept = opened.damaged.as_deref().expect("the damaged one is kept");
        assert!(kept.join("CURRENT").exists() && aside::is_forgotten(&path), "{kept:?}");
    }
}
