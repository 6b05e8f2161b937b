//! The tree as readers see it: what can no longer be lost, behind a lock that is held for moments only.
//!
//! The driver follows the replica's certain steps here before it answers the writes that made them. Readers (gRPC
//! calls, the mount, the generated files) never wait for the driver, and none of them sees the tree go back unless an
//! operator overrides the quorum.

use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicBool, Ordering},
};

use config_store_core::{Replacement, Touch, Tree};
use tokio::sync::broadcast;

/// Notices that may wait for a subscriber; one that falls further behind is told so ([`broadcast::error::RecvError::Lagged`])
/// and must look at everything again, as after [`Notice::Reset`].
const NOTICES_MAX: usize = 4096;

/// What happened to the tree. The view has it already when the notice arrives, and perhaps more.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    /// These entries changed, in this order.
    Touched(Arc<Vec<Touch>>),
    /// Everything may be different.
    Reset,
    /// The tree can be written from now on, or no longer: modes of all entries change.
    Writable(bool),
}

/// The readers' tree. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct View(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tree: RwLock<Tree>,
    writable: AtomicBool,
    notices: broadcast::Sender<Notice>,
}

impl View {
    /// A view of a tree that is not writable yet.
    pub(crate) fn new(tree: Tree) -> Self {
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        Self(Arc::new(Inner { tree: RwLock::new(tree), writable: AtomicBool::new(false), notices }))
    }

    /// The tree. Keep the guard for a moment only: the driver waits for it.
    pub(crate) fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.0.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the tree may be written: quorate, or stand-alone.
    pub(crate) fn writable(&self) -> bool {
        self.0.writable.load(Ordering::Acquire)
    }

    /// What happens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.notices.subscribe()
    }

    /// Takes steps that have become certain.
    pub(crate) fn follow(&self, steps: Vec<Replacement>) {
        let mut touches = Vec::with_capacity(steps.len());
        {
            let mut tree = self.0.tree.write().unwrap_or_else(PoisonError::into_inner);
            for step in steps {
                touches.extend(tree.follow(step));
            }
        }
        self.tell(Notice::Touched(Arc::new(touches)));
    }

    /// Takes another tree.
    pub(crate) fn reset(&self, tree: Tree) {
        *self.0.tree.write().unwrap_or_else(PoisonError::into_inner) = tree;
        self.tell(Notice::Reset);
    }

    /// Says whether the tree may be written.
    pub(crate) fn set_writable(&self, writable: bool) {
        if self.0.writable.swap(writable, Ordering::AcqRel) != writable {
            self.tell(Notice::Writable(writable));
        }
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens: nothing to tell.
        let _ = self.0.notices.send(notice);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use config_store_core::{Expect, Operation};

    use super::*;

    #[test]
    fn a_notice_comes_after_the_view_has_what_it_is_about() {
        let mut leader = Tree::new();
        let view = View::new(leader.clone());
        let mut notices = view.subscribe();
        let put = Operation::Put {
            path: "storage.cfg".parse().expect("a path"),
            expect: Expect::Any,
            content: Bytes::from_static(b"dir: local\n"),
        };
        let effect = leader.apply(1, 7, &put).expect("allowed");
        let entries = leader.entry(effect.inode).cloned().into_iter().collect();

        view.follow(vec![Replacement { root: leader.root(), entries, removed: Vec::new() }]);

        let Ok(Notice::Touched(touches)) = notices.try_recv() else { panic!("no notice") };
        assert_eq!((touches.len(), touches[0].inode), (1, effect.inode));
        assert_eq!(view.tree().checksum(), leader.checksum());
    }

    #[test]
    fn only_a_change_of_writability_is_told() {
        let view = View::new(Tree::new());
        let mut notices = view.subscribe();
        view.set_writable(false);
        view.set_writable(true);
        view.set_writable(true);
        assert!(matches!(notices.try_recv(), Ok(Notice::Writable(true))));
        assert!(notices.try_recv().is_err());
    }
}
