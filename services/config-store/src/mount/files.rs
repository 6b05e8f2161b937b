//! Open files: what waits to be sent of each, and what was seen of it last, so that a file can be read after it is gone.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use config_store_core::Tree;
use fuser::{Errno, FileType};
use tokio::sync::Mutex as Turn;

use super::{inodes::Key, pending::Pending};

/// Where an open file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Home {
    /// In the tree, under this inode.
    Tree(u64),
    /// Made here and not sent yet: only this mount sees it.
    Unsent {
        at: Key,
        /// Whether whoever made it wanted it empty (`O_TRUNC`), should another node make one of the same name.
        emptied: bool,
    },
    /// Nowhere: removed, replaced, or refused.
    Lost,
}

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) home: Home,
    /// Whether it was removed through this mount: then, as everywhere, whoever has it open goes on without being told.
    pub(super) removed_here: bool,
    /// Its content when it was seen last.
    pub(super) last: Bytes,
    /// Its modification time at that time, whole UTC seconds.
    pub(super) mtime: u32,
    pub(super) pending: Pending,
    /// What is on its way to the cluster.
    pub(super) in_flight: Option<Pending>,
    /// How often a write that had been accepted failed, and how the last one did.
    pub(super) failures: u64,
    pub(super) failure: Errno,
    /// Whether a timer runs that sends what waits.
    pub(super) timer: bool,
    pub(super) handles: usize,
    /// One sends at a time.
    pub(super) turn: Arc<Turn<()>>,
}

impl File {
    fn new(home: Home, mtime: u32) -> Self {
        Self {
            home,
            removed_here: false,
            last: Bytes::new(),
            mtime,
            pending: Pending::default(),
            in_flight: None,
            failures: 0,
            failure: Errno::EIO,
            timer: false,
            handles: 0,
            turn: Arc::default(),
        }
    }

    /// Looks at the file in the tree. False if it is not there.
    pub(super) fn refresh(&mut self, tree: &Tree) -> bool {
        let Home::Tree(inode) = self.home else { return false };
        let Some(entry) = tree.entry(inode) else { return false };
        self.last = entry.content().clone();
        self.mtime = entry.head().mtime;
        let size = self.in_flight.as_ref().map_or(self.last.len(), |sent| sent.size_over(self.last.len()));
        self.pending.rebase(size);
        true
    }

    /// Version of its last change; `None` if it is not in the tree.
    pub(super) fn version(&self, tree: &Tree) -> Option<u64> {
        let Home::Tree(inode) = self.home else { return None };
        tree.entry(inode).map(|entry| entry.head().version)
    }

    /// Whether something waits or is under way.
    pub(super) fn is_dirty(&self) -> bool {
        !self.pending.is_empty() || self.in_flight.is_some() || matches!(self.home, Home::Unsent { .. })
    }

    /// Its size with all that was written here.
    pub(super) fn size(&self) -> usize {
        let sent = self.in_flight.as_ref().map_or(self.last.len(), |sent| sent.size_over(self.last.len()));
        self.pending.size_over(sent)
    }

    /// Its content with all that was written here.
    pub(super) fn content(&self) -> Bytes {
        match &self.in_flight {
            Some(sent) => self.pending.over(&sent.over(&self.last)),
            None => self.pending.over(&self.last),
        }
    }

    /// It is nowhere any more; what was written can still be read here.
    pub(super) fn lose(&mut self, removed_here: bool) {
        self.last = self.content();
        self.pending = Pending::default();
        self.home = Home::Lost;
        self.removed_here = removed_here;
    }
}

/// One entry of a listed directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) ino: u64,
    pub(super) kind: FileType,
    pub(super) name: Arc<str>,
}

/// What a handle of the kernel stands for.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    File {
        ino: u64,
        writes: bool,
        /// Failures of the file that this handle was told, or that came before it.
        told: u64,
    },
    /// A generated file as it was when it was opened.
    Generated { content: Bytes },
    /// A directory as it was when its reading began.
    Directory { entries: Arc<Vec<Listed>> },
}

/// All open files, and those with something that waits.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: HashMap<u64, File>,
    unsent: HashMap<Key, u64>,
    handles: HashMap<u64, Handle>,
    last_handle: u64,
}

impl Files {
    pub(super) fn get(&self, ino: u64) -> Option<&File> {
        self.files.get(&ino)
    }

    pub(super) fn get_mut(&mut self, ino: u64) -> Option<&mut File> {
        self.files.get_mut(&ino)
    }

    /// The file of this number, which is in the tree.
    pub(super) fn of_tree(&mut self, ino: u64, inode: u64, tree: &Tree) -> &mut File {
        let file = self.files.entry(ino).or_insert_with(|| File::new(Home::Tree(inode), 0));
        file.refresh(tree);
        file
    }

    /// A new file that nobody else sees yet.
    pub(super) fn make(&mut self, ino: u64, at: Key, emptied: bool, mtime: u32) {
        self.unsent.insert(at.clone(), ino);
        self.files.insert(ino, File::new(Home::Unsent { at, emptied }, mtime));
    }

    /// The file of this name that nobody else sees yet.
    pub(super) fn unsent(&self, key: &Key) -> Option<u64> {
        self.unsent.get(key).copied()
    }

    /// The names in a directory that nobody else sees yet.
    pub(super) fn unsent_in(&self, directory: u64) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let own = self.unsent.iter().filter(move |((parent, _), _)| *parent == directory);
        own.map(|((_, name), ino)| (name, *ino))
    }

    /// The file is in the tree now.
    pub(super) fn entered(&mut self, ino: u64, inode: u64) {
        let Some(file) = self.files.get_mut(&ino) else { return };
        if let Home::Unsent { at, .. } = &file.home {
            self.unsent.remove(at);
            file.home = Home::Tree(inode);
        }
    }

    /// The file is nowhere any more.
    pub(super) fn lose(&mut self, ino: u64, removed_here: bool) {
        let Some(file) = self.files.get_mut(&ino) else { return };
        if let Home::Unsent { at, .. } = &file.home {
            self.unsent.remove(at);
        }
        file.lose(removed_here);
    }

    /// A handle for a file that exists here.
    pub(super) fn open(&mut self, ino: u64, writes: bool) -> u64 {
        let told = self.files.get_mut(&ino).map_or(0, |file| {
            file.handles += 1;
            file.failures
        });
        self.add(Handle::File { ino, writes, told })
    }

    /// A handle.
    pub(super) fn add(&mut self, handle: Handle) -> u64 {
        self.last_handle += 1;
        self.handles.insert(self.last_handle, handle);
        self.last_handle
    }

    pub(super) fn handle(&self, handle: u64) -> Option<&Handle> {
        self.handles.get(&handle)
    }

    pub(super) fn handle_mut(&mut self, handle: u64) -> Option<&mut Handle> {
        self.handles.get_mut(&handle)
    }

    /// The handle is closed.
    pub(super) fn close(&mut self, handle: u64) {
        if let Some(Handle::File { ino, .. }) = self.handles.remove(&handle) {
            if let Some(file) = self.files.get_mut(&ino) {
                file.handles -= 1;
            }
            self.tidy(ino);
        }
    }

    /// Drops what is neither open nor waits.
    pub(super) fn tidy(&mut self, ino: u64) {
        if self.files.get(&ino).is_some_and(|file| file.handles == 0 && !file.is_dirty()) {
            self.files.remove(&ino);
        }
    }

    /// What became of earlier writes, once for each handle.
    pub(super) fn failure(&mut self, handle: u64) -> Option<Errno> {
        let Handle::File { ino, told, .. } = self.handles.get_mut(&handle)? else { return None };
        let file = self.files.get(ino)?;
        let failed = file.failures > *told;
        *told = file.failures;
        failed.then_some(file.failure)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &File)> {
        self.files.iter().map(|(ino, file)| (*ino, file))
    }
}

#[cfg(test)]
mod tests {
    use config_store_core::{Expect, Operation, ROOT};

    use super::*;

    fn tree(content: &'static str) -> (Tree, u64) {
        let mut tree = Tree::new();
        let put = Operation::Put {
            path: "a".parse().expect("a path"),
            expect: Expect::Any,
            content: Bytes::from_static(content.as_bytes()),
        };
        let inode = tree.apply(1, 1, &put).expect("allowed").inode;
        (tree, inode)
    }

    #[test]
    fn what_was_written_is_seen_before_and_while_it_is_sent() {
        let (tree, inode) = tree("old text");
        let mut files = Files::default();
        let file = files.of_tree(300, inode, &tree);
        file.pending.write(0, b"new");
        assert_eq!((file.content(), file.size()), (Bytes::from_static(b"new text"), 8));
        file.in_flight = Some(std::mem::take(&mut file.pending));
        file.pending.set_size(3);
        assert_eq!((file.content(), file.size()), (Bytes::from_static(b"new"), 3));
    }

    #[test]
    fn a_file_that_is_gone_can_still_be_read_by_who_has_it_open() {
        let (tree, inode) = tree("text");
        let mut files = Files::default();
        files.of_tree(300, inode, &tree);
        let handle = files.open(300, false);
        assert!(!files.get_mut(300).expect("open").refresh(&Tree::new()));
        assert_eq!(files.get(300).expect("open").content(), "text");
        files.close(handle);
        assert!(files.get(300).is_none());
    }

    #[test]
    fn a_new_file_is_known_by_name_until_it_is_sent_or_lost() {
        let key: Key = (ROOT, Arc::from("new"));
        let mut files = Files::default();
        files.make(1 << 62, key.clone(), false, 7);
        assert_eq!(files.unsent(&key), Some(1 << 62));
        files.entered(1 << 62, 9);
        assert_eq!((files.unsent(&key), &files.get(1 << 62).expect("kept").home), (None, &Home::Tree(9)));
        files.make(2, key.clone(), false, 7);
        files.lose(2, true);
        assert_eq!(files.unsent(&key), None);
    }

    #[test]
    fn every_handle_is_told_once_of_a_failure() {
        let (tree, inode) = tree("text");
        let mut files = Files::default();
        files.of_tree(300, inode, &tree);
        let (one, two) = (files.open(300, true), files.open(300, true));
        let file = files.get_mut(300).expect("open");
        (file.failures, file.failure) = (1, Errno::EACCES);
        assert_eq!((files.failure(one), files.failure(one)), (Some(Errno::EACCES), None));
        assert_eq!(files.failure(two), Some(Errno::EACCES));
        let late = files.open(300, true);
        assert_eq!(files.failure(late), None);
    }
}
