//! Which number the kernel knows an entry by, and what it has been told of entries and names.
//!
//! | number | what |
//! |---|---|
//! | 1 | the root |
//! | 2 to 11 | what exists in the root alone (`fixed.rs`) |
//! | from 0x100 | entries of the tree: their inode and 0x100 |
//! | from 2^62 | files that were made here and were not in the tree at that time |
//!
//! A number means the same until the kernel forgets it. When the whole tree was replaced, a new generation begins:
//! the kernel then takes the same number for another file.

use std::{collections::HashMap, sync::Arc};

use config_store_core::ROOT;

/// The root's number.
pub(super) const ROOT_INO: u64 = 1;
const TREE: u64 = 0x100;
const OURS: u64 = 1 << 62;

/// A name in a directory of the tree.
pub(super) type Key = (u64, Arc<str>);

#[derive(Debug, Default)]
struct Known {
    /// How often the kernel was told of it and has not forgotten it.
    lookups: u64,
    /// Where the kernel was told last that it is.
    place: Option<Key>,
    /// Version of the entry whose attributes the kernel was told last; 0 if they were none of the tree.
    told: u64,
    /// Version of the entry that the kernel's pages may hold.
    pages: u64,
}

/// What the kernel has of a file at the moment when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cached {
    /// Perhaps another size: its pages must not be used.
    Wrong,
    /// The right size, and perhaps pages of before.
    Attributes,
    /// All of it is right.
    Pages,
}

/// What the kernel knows.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    generation: u64,
    known: HashMap<u64, Known>,
    /// Inodes in the tree of files that were made here, by number.
    entered: HashMap<u64, u64>,
    /// The reverse.
    numbers: HashMap<u64, u64>,
    made: u64,
    /// Names that requests under way are changing: the kernel learns from their answers what becomes of them.
    busy: HashMap<Key, usize>,
}

impl Inodes {
    /// The generation of all numbers.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The number of an entry of the tree.
    pub(super) fn of_entry(&self, inode: u64) -> u64 {
        if inode == ROOT {
            return ROOT_INO;
        }
        self.numbers.get(&inode).copied().unwrap_or(TREE + inode)
    }

    /// All numbers by which the kernel may know an entry: a file that was made here may have two.
    pub(super) fn all_of_entry(&self, inode: u64) -> impl Iterator<Item = u64> {
        let own = if inode == ROOT { ROOT_INO } else { TREE + inode };
        [Some(own), self.numbers.get(&inode).copied()].into_iter().flatten()
    }

    /// The entry of the tree that has this number.
    pub(super) fn entry_of(&self, ino: u64) -> Option<u64> {
        match ino {
            ROOT_INO => Some(ROOT),
            OURS.. => self.entered.get(&ino).copied(),
            TREE.. => Some(ino - TREE),
            _ => None,
        }
    }

    /// A number for a file that is not in the tree yet.
    pub(super) fn make(&mut self) -> u64 {
        self.made += 1;
        OURS + self.made
    }

    /// A file that was made here is in the tree now.
    pub(super) fn entered(&mut self, ino: u64, inode: u64) {
        self.entered.insert(ino, inode);
        self.numbers.insert(inode, ino);
    }

    /// The kernel is told of an entry and where it is.
    pub(super) fn tell(&mut self, ino: u64, place: Option<Key>) {
        let known = self.known.entry(ino).or_default();
        known.lookups += 1;
        known.place = place;
    }

    /// The kernel is told the attributes of an entry at this version; 0 if they are none of the tree.
    pub(super) fn told(&mut self, ino: u64, version: u64) {
        self.known.entry(ino).or_default().told = version;
    }

    /// What the kernel has of a file that is at this version and is being opened. It drops pages that are not right.
    pub(super) fn opened(&mut self, ino: u64, version: u64) -> Cached {
        let Some(known) = self.known.get_mut(&ino) else { return Cached::Wrong };
        if known.told != version {
            return Cached::Wrong;
        }
        let before = std::mem::replace(&mut known.pages, version);
        if before == version { Cached::Pages } else { Cached::Attributes }
    }

    /// The kernel has moved an entry itself, or removed it.
    pub(super) fn moved(&mut self, ino: u64, place: Option<Key>) {
        if let Some(known) = self.known.get_mut(&ino) {
            known.place = place;
        }
    }

    /// The kernel has forgotten an entry so many times.
    pub(super) fn forget(&mut self, ino: u64, times: u64) {
        let Some(known) = self.known.get_mut(&ino) else { return };
        known.lookups = known.lookups.saturating_sub(times);
        if known.lookups > 0 {
            return;
        }
        self.known.remove(&ino);
        if let Some(inode) = self.entered.remove(&ino)
            && self.numbers.get(&inode) == Some(&ino)
        {
            self.numbers.remove(&inode);
        }
    }

    /// Whether the kernel knows this number. It always knows the root.
    pub(super) fn knows(&self, ino: u64) -> bool {
        ino == ROOT_INO || self.known.contains_key(&ino)
    }

    /// Where the kernel was told last that an entry is.
    pub(super) fn place(&self, ino: u64) -> Option<&Key> {
        self.known.get(&ino)?.place.as_ref()
    }

    /// All numbers that the kernel knows, the root's apart.
    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        self.known.keys().copied()
    }

    /// All names of a directory that the kernel may know.
    pub(super) fn names_in(&self, directory: u64) -> impl Iterator<Item = Arc<str>> {
        let places = self.known.values().filter_map(|known| known.place.as_ref());
        places.filter(move |(parent, _)| *parent == directory).map(|(_, name)| Arc::clone(name))
    }

    /// A request changes a name until [`Self::leave`].
    pub(super) fn enter(&mut self, key: &Key) {
        *self.busy.entry(key.clone()).or_default() += 1;
    }

    /// The request is done.
    pub(super) fn leave(&mut self, key: &Key) {
        if let Some(count) = self.busy.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.busy.remove(key);
            }
        }
    }

    /// Whether a request changes this name.
    pub(super) fn is_busy(&self, key: &Key) -> bool {
        self.busy.contains_key(key)
    }

    /// The whole tree is another one: numbers may mean other entries.
    pub(super) fn renew(&mut self) {
        self.generation += 1;
        self.entered.clear();
        self.numbers.clear();
        for known in self.known.values_mut() {
            *known = Known { lookups: known.lookups, ..Known::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        (ROOT, Arc::from(name))
    }

    #[test]
    fn entries_have_numbers_and_numbers_lead_to_entries() {
        let inodes = Inodes::default();
        for inode in [ROOT, 2, 262_144, 1 << 40] {
            assert_eq!(inodes.entry_of(inodes.of_entry(inode)), Some(inode));
        }
        assert_eq!((inodes.entry_of(2), inodes.entry_of(11), inodes.entry_of(OURS + 1)), (None, None, None));
    }

    #[test]
    fn a_file_made_here_keeps_its_number_until_it_is_forgotten() {
        let mut inodes = Inodes::default();
        let ino = inodes.make();
        inodes.tell(ino, Some(key("a")));
        inodes.entered(ino, 7);
        assert_eq!((inodes.of_entry(7), inodes.entry_of(ino)), (ino, Some(7)));
        assert_eq!(inodes.all_of_entry(7).collect::<Vec<_>>(), [TREE + 7, ino]);

        inodes.tell(ino, Some(key("a")));
        inodes.forget(ino, 1);
        assert!(inodes.knows(ino));
        inodes.forget(ino, 1);
        assert!(!inodes.knows(ino));
        assert_eq!((inodes.of_entry(7), inodes.entry_of(ino)), (TREE + 7, None));
        assert_ne!(inodes.make(), ino);
    }

    #[test]
    fn a_name_is_busy_until_the_last_request_is_done() {
        let mut inodes = Inodes::default();
        inodes.enter(&key("a"));
        inodes.enter(&key("a"));
        inodes.leave(&key("a"));
        assert!(inodes.is_busy(&key("a")) && !inodes.is_busy(&key("b")));
        inodes.leave(&key("a"));
        assert!(!inodes.is_busy(&key("a")));
    }

    #[test]
    fn pages_are_kept_only_for_the_version_that_the_kernel_knows() {
        let mut inodes = Inodes::default();
        assert_eq!(inodes.opened(300, 5), Cached::Wrong);
        inodes.tell(300, Some(key("a")));
        inodes.told(300, 5);
        assert_eq!((inodes.opened(300, 5), inodes.opened(300, 5)), (Cached::Attributes, Cached::Pages));
        assert_eq!(inodes.opened(300, 6), Cached::Wrong, "it changed, and the kernel does not know yet");
        inodes.told(300, 6);
        assert_eq!((inodes.opened(300, 6), inodes.opened(300, 6)), (Cached::Attributes, Cached::Pages));
    }

    #[test]
    fn another_tree_is_another_generation() {
        let mut inodes = Inodes::default();
        let ino = inodes.of_entry(3);
        inodes.tell(ino, Some(key("a")));
        inodes.renew();
        assert_eq!((inodes.generation(), inodes.place(ino), inodes.knows(ino)), (1, None, true));
    }
}
