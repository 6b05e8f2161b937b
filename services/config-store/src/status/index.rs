//! What of the tree's changes the generated files count: paths, guests, and corosync.conf.
//!
//! The index is brought up to date when somebody reads. Who writes a file and then reads `.version` therefore finds it
//! counted, and a daemon that nobody asks counts nothing.

use std::collections::BTreeMap;

use config_store_core::{ConfigPath, GuestConfig, Place, Touch, Tree};
use quorate_daemon::Root;
use tokio::sync::broadcast::{Receiver, error::TryRecvError};

use super::cluster::Cluster;
use crate::{
    generated::{GuestLine, TRACKED},
    view::{Notice, View},
};

/// Place of corosync.conf in [`TRACKED`].
const CONF: usize = 0;

/// Counters over the tree.
#[derive(Debug)]
pub(super) struct TreeIndex {
    notices: Receiver<Notice>,
    paths: [u64; TRACKED.len()],
    /// Inodes of the tracked files that are there.
    tracked: BTreeMap<u64, usize>,
    /// Guests by the inodes of their configurations.
    guests: BTreeMap<u64, u32>,
    guest_versions: BTreeMap<u32, u64>,
    guest_changes: u64,
    list_version: u64,
    cluster: Option<Cluster>,
    cluster_changes: u64,
}

impl TreeIndex {
    pub(super) fn new(view: &View, root: &Root) -> Self {
        let notices = view.subscribe();
        let mut index = Self {
            notices,
            paths: [0; TRACKED.len()],
            tracked: BTreeMap::new(),
            guests: BTreeMap::new(),
            guest_versions: BTreeMap::new(),
            guest_changes: 0,
            list_version: 1,
            cluster: None,
            cluster_changes: 0,
        };
        index.look_again(&view.tree(), root);
        index
    }

    /// Counts what has happened since the last time.
    pub(super) fn catch_up(&mut self, view: &View, root: &Root) {
        loop {
            match self.notices.try_recv() {
                Ok(Notice::Touched(touches)) => self.touched(&touches, &view.tree(), root),
                Ok(Notice::Reset) | Err(TryRecvError::Lagged(_)) => self.reset(&view.tree(), root),
                Ok(Notice::Writable(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// How often each tracked path changed.
    pub(super) fn paths(&self) -> [u64; TRACKED.len()] {
        self.paths
    }

    /// Version of the list of guests.
    pub(super) fn list_version(&self) -> u64 {
        self.list_version
    }

    /// All guests of the tree, by number.
    pub(super) fn guests(&self, tree: &Tree) -> Vec<GuestLine> {
        let line = |(vmid, inode): (&u32, &u64)| {
            let guest = GuestConfig::of(&tree.path_of(*inode)?)?;
            let version = self.guest_versions.get(vmid).copied().unwrap_or_default();
            let (node, kind) = (guest.node.to_string(), guest.kind.to_string());
            Some(GuestLine { vmid: *vmid, node, kind, version })
        };
        tree.guests().iter().filter_map(line).collect()
    }

    /// The cluster by corosync.conf; `None` while this node is in none.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Rises when the cluster by corosync.conf changes.
    pub(super) fn cluster_changes(&self) -> u64 {
        self.cluster_changes
    }

    /// Another tree: every counter rises.
    fn reset(&mut self, tree: &Tree, root: &Root) {
        self.paths.iter_mut().for_each(|count| *count += 1);
        self.look_again(tree, root);
    }

    fn look_again(&mut self, tree: &Tree, root: &Root) {
        let inode = |path: &str| Some(tree.get(&path.parse().ok()?)?.inode());
        let present = TRACKED.iter().enumerate().filter_map(|(index, path)| Some((inode(path)?, index)));
        self.tracked = present.collect();
        if !self.guests.is_empty() || !tree.guests().is_empty() {
            self.list_version += 1;
        }
        self.guests = tree.guests().iter().map(|(vmid, inode)| (*inode, *vmid)).collect();
        self.guest_versions.clear();
        for vmid in tree.guests().keys() {
            self.guest_changes += 1;
            self.guest_versions.insert(*vmid, self.guest_changes);
        }
        self.read_cluster(tree, root);
    }

    fn read_cluster(&mut self, tree: &Tree, root: &Root) {
        let cluster = Cluster::read(root, tree);
        if cluster != self.cluster {
            self.cluster = cluster;
            self.cluster_changes += 1;
        }
    }

    fn touched(&mut self, touches: &[Touch], tree: &Tree, root: &Root) {
        let conf = self.paths[CONF];
        for (number, touch) in touches.iter().enumerate() {
            // A file that another one replaces by its name: one change of that name.
            let replaced = touch.after.is_none()
                && touches
                    .get(number + 1)
                    .is_some_and(|next| next.after == touch.before && next.after.is_some());
            self.count_path(touch, tree, replaced);
            self.count_guest(touch, tree);
        }
        if self.paths[CONF] != conf {
            self.read_cluster(tree, root);
        }
    }

    fn count_path(&mut self, touch: &Touch, tree: &Tree, replaced: bool) {
        let known = self.tracked.remove(&touch.inode);
        let before = known.or_else(|| tracked(touch.before.as_ref(), tree));
        let after = tracked(touch.after.as_ref(), tree);
        if let Some(index) = after {
            self.tracked.insert(touch.inode, index);
            self.paths[index] += 1;
        }
        if let Some(index) = before
            && before != after
            && !replaced
        {
            self.paths[index] += 1;
        }
    }

    fn count_guest(&mut self, touch: &Touch, tree: &Tree) {
        let before = self.guests.remove(&touch.inode);
        let after = place_of(touch.after.as_ref(), tree).and_then(|path| GuestConfig::of(&path));
        let after = after.map(|guest| guest.vmid);
        if let Some(vmid) = after {
            self.guests.insert(touch.inode, vmid);
        }
        if before == after && (after.is_none() || (!touch.content && touch.before == touch.after)) {
            return;
        }
        self.list_version += 1;
        self.guest_changes += 1;
        if let Some(vmid) = before {
            self.guest_versions.remove(&vmid);
        }
        if let Some(vmid) = after {
            self.guest_versions.insert(vmid, self.guest_changes);
        }
    }
}

fn place_of(place: Option<&Place>, tree: &Tree) -> Option<ConfigPath> {
    let place = place?;
    let parent = if place.parent == config_store_core::ROOT {
        ConfigPath::root()
    } else {
        tree.path_of(place.parent)?
    };
    parent.join(&place.name).ok()
}

fn tracked(place: Option<&Place>, tree: &Tree) -> Option<usize> {
    let name: &str = &place?.name;
    // Most names are those of no tracked path: then the path need not be put together.
    TRACKED.iter().any(|path| path.rsplit('/').next() == Some(name)).then_some(())?;
    let path = place_of(place, tree)?;
    TRACKED.iter().position(|tracked| *tracked == path.as_str())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use config_store_core::{Expect, Operation, Replacement};

    use super::*;

    /// A tree that a view follows, and the index over the view.
    struct World {
        leader: Tree,
        view: View,
        root: Root,
        index: TreeIndex,
    }

    impl World {
        fn new() -> Self {
            let (leader, root) = (Tree::new(), Root::new("/nonexistent"));
            let view = View::new(leader.clone());
            let index = TreeIndex::new(&view, &root);
            let mut world = Self { leader, view, root, index };
            for directory in ["nodes", "nodes/a", "nodes/a/qemu-server", "nodes/b", "nodes/b/qemu-server"] {
                world.apply(&Operation::Mkdir { path: path(directory) });
            }
            world
        }

        fn apply(&mut self, operation: &Operation) {
            let effect = self.leader.apply(1, 7, operation).expect("allowed");
            let entries = self.leader.entry(effect.inode).cloned().into_iter().collect();
            let removed = effect.removed.into_iter().collect();
            self.view.follow(vec![Replacement { root: self.leader.root(), entries, removed }]);
        }

        fn put(&mut self, name: &str, content: &'static str) {
            let content = Bytes::from_static(content.as_bytes());
            self.apply(&Operation::Put { path: path(name), expect: Expect::Any, content });
        }

        fn rename(&mut self, from: &str, to: &str) {
            let (from, to) = (path(from), path(to));
            self.apply(&Operation::Rename { from, to, expect: Expect::Any, no_replace: false });
        }

        fn count(&mut self, name: &str) -> u64 {
            self.index.catch_up(&self.view, &self.root);
            self.index.paths()[TRACKED.iter().position(|path| *path == name).expect("tracked")]
        }

        fn guests(&mut self) -> (u64, Vec<(u32, String, u64)>) {
            self.index.catch_up(&self.view, &self.root);
            let lines = self.index.guests(&self.view.tree()).into_iter();
            (self.index.list_version(), lines.map(|line| (line.vmid, line.node, line.version)).collect())
        }
    }

    fn path(text: &str) -> ConfigPath {
        text.parse().expect("a path")
    }

    #[test]
    fn each_change_of_a_tracked_path_counts_once() {
        let mut world = World::new();
        world.put("user.cfg", "1");
        assert_eq!(world.count("user.cfg"), 1);
        world.put("user.cfg", "2");
        world.apply(&Operation::SetMtime { path: path("user.cfg"), mtime: 9 });
        assert_eq!(world.count("user.cfg"), 3);
        world.put("user.cfg.tmp.1", "3");
        world.rename("user.cfg.tmp.1", "user.cfg");
        assert_eq!(world.count("user.cfg"), 4, "replaced in one step");
        world.rename("user.cfg", "domains.cfg");
        assert_eq!((world.count("user.cfg"), world.count("domains.cfg")), (5, 1));
        world.apply(&Operation::Delete { path: path("domains.cfg"), expect: Expect::Any });
        assert_eq!((world.count("domains.cfg"), world.count("storage.cfg")), (2, 0));
    }

    #[test]
    fn a_file_of_the_same_name_elsewhere_is_another_one() {
        let mut world = World::new();
        world.put("nodes/user.cfg", "1");
        assert_eq!(world.count("user.cfg"), 0);
    }

    #[test]
    fn a_directory_that_is_gone_with_its_file_is_counted() {
        let mut world = World::new();
        world.apply(&Operation::Mkdir { path: path("ha") });
        world.put("ha/fence.cfg", "1");
        assert_eq!(world.count("ha/fence.cfg"), 1);
        for gone in ["ha/fence.cfg", "ha"] {
            world.apply(&Operation::Delete { path: path(gone), expect: Expect::Any });
        }
        assert_eq!(world.count("ha/fence.cfg"), 2);
    }

    #[test]
    fn another_tree_counts_for_every_path() {
        let mut world = World::new();
        world.view.reset(Tree::new());
        assert_eq!((world.count("user.cfg"), world.count("mapping/usb.cfg")), (1, 1));
    }

    #[test]
    fn a_guest_has_a_new_version_when_it_is_written_or_moved() {
        let mut world = World::new();
        assert_eq!(world.guests(), (1, vec![]));
        world.put("nodes/a/qemu-server/100.conf", "x");
        world.put("nodes/a/qemu-server/101.conf", "x");
        assert_eq!(world.guests(), (3, vec![(100, "a".into(), 1), (101, "a".into(), 2)]));
        world.rename("nodes/a/qemu-server/100.conf", "nodes/b/qemu-server/100.conf");
        assert_eq!(world.guests(), (4, vec![(100, "b".into(), 3), (101, "a".into(), 2)]));
        world.put("nodes/a/qemu-server/notes", "x");
        world.apply(&Operation::SetMtime { path: path("nodes/a/qemu-server/101.conf"), mtime: 9 });
        assert_eq!(world.guests().0, 4, "nothing about guests");
        let deleted = path("nodes/a/qemu-server/101.conf");
        world.apply(&Operation::Delete { path: deleted, expect: Expect::Any });
        assert_eq!(world.guests(), (5, vec![(100, "b".into(), 3)]));
    }
}
