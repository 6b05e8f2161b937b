//! RocksDB: where a replica's batches are kept.
//!
//! One column family per key space of the core. A batch is one atomic write, synced before it is
//! reported; batches arrive one after the other, each already holding everything that one burst of the
//! ring delivered.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use config_store_core::{
    Batch, ConflictHeader, ConflictItem, Image, KeptContent, LoadError, Loader, Space, conflict_key,
    conflict_removal, content_key,
};
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, Direction, ErrorKind, IteratorMode, Options, WriteBatch,
    WriteOptions,
};
use sha2::{Digest as _, Sha256};

/// Memory for writes that are not yet in a table file, per column family: the tree is small.
const WRITE_BUFFER_BYTES: usize = 4 << 20;
/// Write-ahead log, at most: bounds the time that opening takes after a crash.
const WAL_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a conflict copy that are read at once: a file more fits into memory at any time.
const CONFLICT_READ_BYTES: usize = 1 << 20;
/// RocksDB's own log files that are kept.
const LOG_FILES_KEPT: usize = 3;

/// Why the store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB refused to open.
    #[error("cannot open the store in {path}")]
    Open {
        /// Its directory.
        path: PathBuf,
        /// What RocksDB says.
        #[source]
        source: rocksdb::Error,
    },
    /// Reading failed.
    #[error("cannot read the store in {path}")]
    Read {
        /// Its directory.
        path: PathBuf,
        /// What RocksDB says.
        #[source]
        source: rocksdb::Error,
    },
    /// What is stored makes no replica.
    #[error(
        "the store in {path} is damaged; restore a backup, or move it away and let the cluster send the tree again"
    )]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// What does not fit.
        #[source]
        source: LoadError,
    },
    /// Writing failed: a full disk, or a broken one.
    #[error("cannot write the store in {path}")]
    Write {
        /// Its directory.
        path: PathBuf,
        /// What RocksDB says.
        #[source]
        source: rocksdb::Error,
    },
}

impl StoreError {
    /// Whether what is stored is broken, rather than out of reach for the moment.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Open { source, .. } | Self::Read { source, .. } => source.kind() == ErrorKind::Corruption,
            Self::Write { .. } => false,
        }
    }
}

/// An open store.
pub struct Store {
    db: DB,
    path: PathBuf,
}

impl Store {
    /// Opens the store, making it if there is none.
    ///
    /// # Errors
    /// [`StoreError::Open`], also when another process has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_total_wal_size(WAL_BYTES_MAX);
        options.set_keep_log_file_num(LOG_FILES_KEPT);
        options.set_db_write_buffer_size(WRITE_BUFFER_BYTES * Space::ALL.len());
        options.set_max_background_jobs(2);
        let db = DB::open_cf_descriptors(&options, path, families())
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// Opens a store that there is, for reading only: nothing is written to its disk.
    ///
    /// # Errors
    /// [`StoreError::Open`], also when there is no store.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let db = DB::open_cf_descriptors_read_only(&Options::default(), path, families(), false)
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// Reads everything that a replica starts from.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Damaged`].
    pub fn load(&self) -> Result<Image, StoreError> {
        let mut loader = Loader::new();
        for space in Space::ALL.into_iter().filter(|space| *space != Space::Conflict) {
            for item in self.db.iterator_cf(self.family(space), IteratorMode::Start) {
                let (key, value) =
                    item.map_err(|source| StoreError::Read { path: self.path.clone(), source })?;
                loader.add(space, &key, Bytes::from(value)).map_err(|source| self.damaged(source))?;
            }
        }
        loader.finish().map_err(|source| self.damaged(source))
    }

    fn damaged(&self, source: LoadError) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), source }
    }

    /// Writes a batch, all of it or nothing, and syncs it.
    ///
    /// # Errors
    /// [`StoreError::Write`]; nothing of the batch is there then.
    pub fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut writes = WriteBatch::default();
        for write in &batch.writes {
            let family = self.family(write.space);
            match &write.value {
                Some(value) => writes.put_cf(family, &write.key, value),
                None => writes.delete_cf(family, &write.key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db
            .write_opt(writes, &options)
            .map_err(|source| StoreError::Write { path: self.path.clone(), source })
    }

    /// A content that the history knows of; `None` if it is not there, or not what was written.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn content(&self, inode: u64, kept: KeptContent) -> Result<Option<Bytes>, StoreError> {
        if kept.size == 0 {
            return Ok(Some(Bytes::new()));
        }
        let key = content_key(inode, kept.stored);
        let content =
            self.db.get_cf(self.family(Space::Content), key).map_err(|source| self.unread(source))?;
        let intact = |content: &Vec<u8>| <[u8; 32]>::from(Sha256::digest(content)) == kept.digest;
        Ok(content.filter(intact).map(Bytes::from))
    }

    /// The headers of all conflict copies, each with how many entries and records follow. What cannot be read is an
    /// entry, as in [`Store::conflict_entries`].
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn conflicts(&self) -> Result<Vec<(ConflictHeader, u64, u64)>, StoreError> {
        let mut conflicts: Vec<(ConflictHeader, u64, u64)> = Vec::new();
        for item in self.db.iterator_cf(self.family(Space::Conflict), IteratorMode::Start) {
            let (_, value) = item.map_err(|source| self.unread(source))?;
            match (ConflictItem::decode(Bytes::from(value)), conflicts.last_mut()) {
                (Ok(ConflictItem::Header(header)), _) => conflicts.push((header, 0, 0)),
                (Ok(ConflictItem::Record(_)), Some((_, _, records))) => *records += 1,
                (_, Some((_, entries, _))) => *entries += 1,
                (_, None) => {}
            }
        }
        Ok(conflicts)
    }

    /// Items of a conflict copy from an index on, so many as are well below the size of a message.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn conflict_items(&self, number: u64, from: u32) -> Result<Vec<(u32, ConflictItem)>, StoreError> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        for item in self.conflict_keys(number, from) {
            let (key, value) = item?;
            bytes += value.len();
            if let Ok(item) = ConflictItem::decode(value) {
                items.push((index_of(&key), item));
            }
            if bytes >= CONFLICT_READ_BYTES {
                break;
            }
        }
        Ok(items)
    }

    /// Removes a conflict copy; says how many entries it had, or that there is none.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Write`].
    pub fn drop_conflict(&self, number: u64) -> Result<Option<u64>, StoreError> {
        let (mut keys, mut entries) = (Vec::new(), 0);
        for item in self.conflict_keys(number, 0) {
            let (key, value) = item?;
            let item = ConflictItem::decode(value);
            entries += u64::from(!matches!(item, Ok(ConflictItem::Header(_) | ConflictItem::Record(_))));
            keys.push(key);
        }
        if keys.is_empty() {
            return Ok(None);
        }
        self.write(&Batch { id: 0, writes: conflict_removal(keys) })?;
        Ok(Some(entries))
    }

    fn conflict_keys(
        &self,
        number: u64,
        from: u32,
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), StoreError>> + '_ {
        let start = conflict_key(number, from);
        let mode = IteratorMode::From(&start, Direction::Forward);
        let items = self.db.iterator_cf(self.family(Space::Conflict), mode);
        let items = items.map(|item| item.map_err(|source| self.unread(source)));
        let items = items.map(|item| item.map(|(key, value)| (Bytes::from(key), Bytes::from(value))));
        items.take_while(move |item| {
            item.as_ref().map_or(true, |(key, _)| key.starts_with(&number.to_be_bytes()))
        })
    }

    fn unread(&self, source: rocksdb::Error) -> StoreError {
        StoreError::Read { path: self.path.clone(), source }
    }

    /// How many entries of the tree are kept as conflict copies; what cannot be read counts as one.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn conflict_entries(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        for item in self.db.iterator_cf(self.family(Space::Conflict), IteratorMode::Start) {
            let (_, value) = item.map_err(|source| StoreError::Read { path: self.path.clone(), source })?;
            let item = ConflictItem::decode(Bytes::from(value));
            if !matches!(item, Ok(ConflictItem::Header(_) | ConflictItem::Record(_))) {
                count += 1;
            }
        }
        Ok(count)
    }

    fn family(&self, space: Space) -> &ColumnFamily {
        self.db.cf_handle(space.name()).expect("all column families are made when the store is opened")
    }
}

/// The index in the key of an item of a conflict copy.
fn index_of(key: &[u8]) -> u32 {
    key.last_chunk().map_or(u32::MAX, |index| u32::from_be_bytes(*index))
}

fn families() -> [ColumnFamilyDescriptor; Space::ALL.len()] {
    Space::ALL.map(|space| {
        let mut options = Options::default();
        options.set_write_buffer_size(WRITE_BUFFER_BYTES);
        ColumnFamilyDescriptor::new(space.name(), options)
    })
}

#[cfg(test)]
mod tests {
    use config_store_core::{
        ConfigPath, Expect, Extensions, Input, Operation, OperationRequest, Output, Replica, RequestId,
        Settings,
    };
    use quorate_types::NodeId;
    use std::time::{Duration, Instant};

    use super::*;

    fn settings() -> Settings {
        Settings::new(NodeId::new(1).expect("not 0"), 7)
    }

    /// Hands every batch to the store and every completion back.
    fn drain(replica: &mut Replica, store: &Store) -> Vec<Output> {
        let mut seen = Vec::new();
        while let Some(output) = replica.poll_output() {
            if let Output::Store(batch) = &output {
                store.write(batch).expect("the disk has room");
                replica.handle_input(Instant::now(), Input::Stored { batch: batch.id });
            }
            seen.push(output);
        }
        seen
    }

    fn put(replica: &mut Replica, path: &str, content: &'static str) {
        let operation = Operation::Put {
            path: path.parse::<ConfigPath>().expect("a path"),
            expect: Expect::Any,
            content: Bytes::from_static(content.as_bytes()),
        };
        let request = OperationRequest {
            id: RequestId([9; 16]),
            mtime: 5,
            trace: None,
            extensions: Extensions::default(),
            operation,
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        replica.handle_input(Instant::now(), Input::Request { handle: 1, request, deadline });
    }

    #[test]
    fn what_a_replica_stored_is_there_after_reopening() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let before = {
            let store = Store::open(dir.path()).expect("a new store");
            let mut replica = Replica::load(settings(), store.load().expect("empty"));
            replica.handle_input(Instant::now(), Input::LocalMode(true));
            put(&mut replica, "datacenter.cfg", "migration: secure\n");
            let outputs = drain(&mut replica, &store);
            assert!(outputs.iter().any(|output| matches!(output, Output::Reply { reply: Ok(_), .. })));
            (replica.tree().version(), replica.tree().checksum())
        };

        let store = Store::open(dir.path()).expect("the store is there");
        let replica = Replica::load(settings(), store.load().expect("undamaged"));

        assert_eq!((replica.tree().version(), replica.tree().checksum()), before);
    }

    #[test]
    fn a_store_that_is_open_elsewhere_is_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let _open = Store::open(dir.path()).expect("a new store");
        assert!(matches!(Store::open(dir.path()), Err(StoreError::Open { .. })));
    }

    #[test]
    fn a_damaged_value_is_reported_with_the_way_out() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("a new store");
        store.db.put_cf(store.family(Space::Entry), b"short", b"x").expect("written");
        let error = store.load().expect_err("damaged").to_string();
        assert!(error.contains("restore a backup"), "{error}");
    }

    #[test]
    fn of_a_conflict_copy_entries_count_and_its_header_does_not() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("a new store");
        let header = Bytes::from([&[1][..], &[0; 64][..]].concat());
        assert!(matches!(ConflictItem::decode(header.clone()), Ok(ConflictItem::Header(_))));
        let family = store.family(Space::Conflict);
        store.db.put_cf(family, config_store_core::conflict_key(0, 0), header).expect("written");
        assert_eq!(store.conflict_entries().expect("readable"), 0);

        store.db.put_cf(family, config_store_core::conflict_key(0, 1), b"cannot be read").expect("written");

        assert_eq!(store.conflict_entries().expect("readable"), 1);
    }

    #[test]
    fn conflict_copies_are_listed_read_in_parts_and_removed_one_by_one() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("a new store");
        let header = |number: u8| Bytes::from([&[1, number][..], &[0; 63][..]].concat());
        let family = store.family(Space::Conflict);
        for (number, index) in [(0, 0), (1, 0), (1, 1), (1, 2)] {
            let value = if index == 0 { header(number as u8) } else { Bytes::from(vec![0; 700_000]) };
            store.db.put_cf(family, conflict_key(number, index), value).expect("written");
        }
        let listed = store.conflicts().expect("readable");
        assert_eq!(
            listed.iter().map(|(header, entries, _)| (header.number, *entries)).collect::<Vec<_>>(),
            [(0, 0), (1, 2)]
        );
        assert_eq!(store.conflict_items(1, 0).expect("readable").len(), 1, "what cannot be read is left out");

        assert_eq!(store.drop_conflict(1).expect("there"), Some(2));

        assert_eq!(store.drop_conflict(1).expect("readable"), None);
        assert_eq!(store.conflicts().expect("readable").len(), 1);
    }

    #[test]
    fn an_old_content_is_read_back_unless_it_is_damaged() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("a new store");
        let mut replica = Replica::load(settings(), store.load().expect("empty"));
        replica.handle_input(Instant::now(), Input::LocalMode(true));
        put(&mut replica, "storage.cfg", "old");
        drain(&mut replica, &store);
        let path: ConfigPath = "storage.cfg".parse().expect("a path");
        let found = replica.file_history().versions(&path, u64::MAX).next().expect("listed").clone();
        let kept = found.content.expect("kept");

        assert_eq!(store.content(found.inode, kept).expect("readable"), Some(Bytes::from_static(b"old")));

        let key = content_key(found.inode, kept.stored);
        store.db.put_cf(store.family(Space::Content), key, b"odd").expect("written");
        assert_eq!(store.content(found.inode, kept).expect("readable"), None);
    }
}
