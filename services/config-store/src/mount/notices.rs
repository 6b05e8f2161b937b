//! Telling the kernel what it must look at again.
//!
//! A thread of its own does it: to drop a name the kernel takes the lock of the directory, which a request that waits
//! for its answer may hold. So nothing that answers requests ever waits for this thread.
//!
//! A name that a request of this mount is changing is left alone: the kernel learns from the answer what becomes of it,
//! and to drop the name of a directory into which somebody has just changed would take its path from him. When the
//! request is done, its names are compared with the tree.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use config_store_core::{Place, ROOT, Touch, Tree};
use fuser::{INodeNo, Notifier};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    files::Home,
    inodes::{Key, ROOT_INO},
    shared::{Shared, Table},
};
use crate::view::Notice;

/// Jobs that may wait, for a kernel that holds a directory's lock for long; with more of them, all is looked at again.
const JOBS_MAX: usize = 65_536;
/// A name that no directory has: to drop it takes and leaves the directory's lock.
const NOBODY: &str = "\u{1}";

/// Something to tell the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// This name may stand for something else.
    Entry(Key),
    /// Content and attributes of this number may be others; for a directory, its list.
    Data(u64),
    /// Attributes of this number may be others.
    Attributes(u64),
    /// Look-ups in this directory that are under way have been answered before the jobs that follow.
    Barrier(u64),
    /// Anything may be different.
    Everything,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// What waits to be told.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut queue = self.lock();
        if queue.jobs.len() + jobs.len() > JOBS_MAX {
            queue.jobs.clear();
            queue.jobs.push_back(Job::Everything);
        } else {
            queue.jobs.extend(jobs);
        }
        self.filled.notify_one();
    }

    /// No more is told.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Waits for the next one; `None` when no more is told.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Turns what happens to the tree into jobs, until the view is gone.
pub(super) async fn follow(shared: Arc<Shared>, mut notices: Receiver<Notice>) {
    loop {
        let jobs = match notices.recv().await {
            Ok(Notice::Touched(touches)) => touched(&shared, &touches),
            Ok(Notice::Writable(writable)) => {
                tracing::debug!(writable, "all modes change");
                shared.table().inodes.all().map(Job::Attributes).collect()
            }
            Ok(Notice::Reset) | Err(RecvError::Lagged(_)) => vec![Job::Everything],
            Err(RecvError::Closed) => return,
        };
        shared.jobs.push(jobs);
    }
}

fn touched(shared: &Shared, touches: &[Touch]) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut table = shared.table();
    let tree = shared.view.tree();
    for touch in touches {
        jobs_of(&mut table, &tree, touch, &mut jobs);
    }
    jobs
}

/// What the kernel must be told of one touched entry.
fn jobs_of(table: &mut Table, tree: &Tree, touch: &Touch, jobs: &mut Vec<Job>) {
    let numbers: Vec<u64> = table.inodes.all_of_entry(touch.inode).collect();
    for &ino in numbers.iter().filter(|ino| table.inodes.knows(**ino)) {
        // The kernel may be about to take in what it was told before.
        let parent = touch.after.as_ref().or(touch.before.as_ref()).map(|place| place.parent);
        jobs.extend(parent.map(|parent| Job::Barrier(table.inodes.of_entry(parent))));
        jobs.push(if touch.content { Job::Data(ino) } else { Job::Attributes(ino) });
    }
    for &ino in &numbers {
        if let Some(file) = table.files.get_mut(ino) {
            file.refresh(tree);
        }
    }
    if touch.before == touch.after {
        return;
    }
    let ino = table.inodes.of_entry(touch.inode);
    for place in [&touch.before, &touch.after].into_iter().flatten() {
        let parent = table.inodes.of_entry(place.parent);
        if table.inodes.knows(parent) {
            jobs.push(Job::Data(parent));
        }
    }
    if let Some(before) = touch.before.as_ref().map(key)
        && !table.inodes.is_busy(&before)
        && numbers.iter().any(|ino| table.inodes.place(*ino) == Some(&before))
    {
        jobs.push(Job::Entry(before));
        numbers.iter().for_each(|ino| table.inodes.moved(*ino, None));
    }
    if let Some(after) = touch.after.as_ref().map(key)
        && !table.inodes.is_busy(&after)
        && table.inodes.place(ino) != Some(&after)
        && table.inodes.knows(table.inodes.of_entry(after.0))
    {
        jobs.push(Job::Entry(after));
    }
}

fn key(place: &Place) -> Key {
    (place.parent, Arc::clone(&place.name))
}

/// Does the jobs until no more is told.
pub(super) fn run(shared: &Shared, notifier: &Notifier) {
    while let Some(job) = shared.jobs.next() {
        match job {
            Job::Everything => {
                tracing::info!("everything that the kernel has cached of the tree is dropped");
                everything(shared).iter().for_each(|job| tell(shared, notifier, job));
            }
            job => tell(shared, notifier, &job),
        }
    }
}

fn tell(shared: &Shared, notifier: &Notifier, job: &Job) {
    let told = match job {
        Job::Entry((parent, name)) => {
            let parent = shared.table().inodes.of_entry(*parent);
            notifier.inval_entry(INodeNo(parent), OsStr::new(&**name))
        }
        Job::Data(ino) => notifier.inval_inode(INodeNo(*ino), 0, 0),
        Job::Attributes(ino) => notifier.inval_inode(INodeNo(*ino), -1, 0),
        Job::Barrier(directory) => notifier.inval_entry(INodeNo(*directory), OsStr::new(NOBODY)),
        Job::Everything => Ok(()),
    };
    if let Err(error) = told {
        tracing::debug!(?job, %error, "the kernel did not take a notice");
    }
}

/// The tree is another one: numbers may mean other entries, so all names below the root are dropped, and open files are
/// kept only where the same file is still there.
fn everything(shared: &Shared) -> Vec<Job> {
    let mut table = shared.table();
    let tree = shared.view.tree();
    let mut jobs: Vec<Job> = table.inodes.names_in(ROOT).map(|name| Job::Entry((ROOT, name))).collect();
    jobs.extend(tree.children(ROOT).map(|entry| Job::Entry((ROOT, Arc::clone(&entry.head().name)))));
    jobs.extend(table.inodes.all().map(Job::Data));
    jobs.push(Job::Data(ROOT_INO));
    let is_same = |table: &Table, ino: u64, inode: u64| {
        let head = tree.entry(inode).filter(|entry| !entry.is_directory()).map(|entry| entry.head());
        let place = table.inodes.place(ino);
        head.is_some_and(|head| {
            place.is_none_or(|(parent, name)| (*parent, name) == (head.parent, &head.name))
        })
    };
    let open: Vec<(u64, Home)> = table.files.all().map(|(ino, file)| (ino, file.home.clone())).collect();
    let mut kept = Vec::new();
    for (ino, home) in open {
        match home {
            Home::Tree(inode) if is_same(&table, ino, inode) => kept.push((ino, inode)),
            Home::Tree(_) => table.files.lose(ino, false),
            Home::Unsent { .. } | Home::Lost => {}
        }
    }
    table.inodes.renew();
    // A number of the tree still leads to its entry; one of ours must be told again.
    for (ino, inode) in kept.into_iter().filter(|(ino, inode)| table_number(*inode) != *ino) {
        table.inodes.entered(ino, inode);
    }
    jobs
}

fn table_number(inode: u64) -> u64 {
    super::inodes::Inodes::default().of_entry(inode)
}

#[cfg(test)]
mod tests {
    use config_store_core::{Expect, Operation, Replacement};

    use super::*;

    struct World {
        table: Table,
        leader: Tree,
        tree: Tree,
    }

    impl World {
        fn new() -> Self {
            Self { table: Table::default(), leader: Tree::new(), tree: Tree::new() }
        }

        /// Performs an operation and gives the jobs.
        fn perform(&mut self, operation: &Operation) -> (u64, Vec<Job>) {
            let effect = self.leader.apply(1, 1, operation).expect("allowed");
            let step = Replacement {
                root: self.leader.root(),
                entries: self.leader.entry(effect.inode).cloned().into_iter().collect(),
                removed: effect.removed.into_iter().collect(),
            };
            let mut jobs = Vec::new();
            for touch in self.tree.follow(step) {
                jobs_of(&mut self.table, &self.tree, &touch, &mut jobs);
            }
            (effect.inode, jobs)
        }

        fn put(&mut self, path: &str, content: &'static str) -> (u64, Vec<Job>) {
            let content = bytes::Bytes::from_static(content.as_bytes());
            self.perform(&Operation::Put {
                path: path.parse().expect("a path"),
                expect: Expect::Any,
                content,
            })
        }

        fn look_up(&mut self, inode: u64, name: &str) -> u64 {
            let ino = self.table.inodes.of_entry(inode);
            self.table.inodes.tell(ino, Some(named(name)));
            ino
        }
    }

    fn named(name: &str) -> Key {
        (ROOT, Arc::from(name))
    }

    #[test]
    fn a_new_name_may_have_been_looked_up_in_vain() {
        let (_, jobs) = World::new().put("a", "1");
        assert_eq!(jobs, [Job::Data(ROOT_INO), Job::Entry(named("a"))]);
    }

    #[test]
    fn new_content_concerns_the_file_and_not_its_name() {
        let mut world = World::new();
        let (inode, _) = world.put("a", "1");
        assert_eq!(world.put("a", "2").1, [], "the kernel has never heard of it");
        let ino = world.look_up(inode, "a");
        assert_eq!(world.put("a", "3").1, [Job::Barrier(ROOT_INO), Job::Data(ino)]);
        let touch = Operation::SetMtime { path: "a".parse().expect("a path"), mtime: 9 };
        assert_eq!(world.perform(&touch).1, [Job::Barrier(ROOT_INO), Job::Attributes(ino)]);
    }

    #[test]
    fn a_name_that_a_request_here_is_changing_is_left_alone() {
        let mut world = World::new();
        world.table.inodes.enter(&named("d"));
        let mkdir = Operation::Mkdir { path: "d".parse().expect("a path") };
        let (inode, jobs) = world.perform(&mkdir);
        assert_eq!(jobs, [Job::Data(ROOT_INO)]);
        let ino = world.look_up(inode, "d");
        assert_eq!(world.table.settle(&world.tree, &named("d"), Some(ino)), None, "the kernel is right");
    }

    #[test]
    fn a_name_that_somebody_else_changed_meanwhile_is_dropped_afterwards() {
        let mut world = World::new();
        world.table.inodes.enter(&named("d"));
        let (inode, _) = world.perform(&Operation::Mkdir { path: "d".parse().expect("a path") });
        let ino = world.look_up(inode, "d");
        world.perform(&Operation::Delete { path: "d".parse().expect("a path"), expect: Expect::Any });
        assert_eq!(world.table.settle(&world.tree, &named("d"), Some(ino)), Some(named("d")));
    }

    #[test]
    fn a_rename_concerns_both_names_and_what_was_replaced() {
        let mut world = World::new();
        let (one, _) = world.put("a", "1");
        let (two, _) = world.put("b", "2");
        let (one, two) = (world.look_up(one, "a"), world.look_up(two, "b"));
        let rename = Operation::Rename {
            from: "a".parse().expect("a path"),
            to: "b".parse().expect("a path"),
            expect: Expect::Any,
            no_replace: false,
        };
        let (_, jobs) = world.perform(&rename);
        for job in [Job::Entry(named("a")), Job::Entry(named("b")), Job::Data(two), Job::Attributes(one)] {
            assert!(jobs.contains(&job), "{job:?} is not in {jobs:?}");
        }
    }

    #[test]
    fn too_much_that_waits_becomes_one_job() {
        let jobs = Jobs::default();
        jobs.push(vec![Job::Data(1); JOBS_MAX]);
        jobs.push(vec![Job::Data(2)]);
        assert_eq!(jobs.next(), Some(Job::Everything));
        jobs.close();
        assert_eq!(jobs.next(), None);
    }
}
