//! The present state of the votes, and every change of it, for any number of watchers.

use std::sync::{Mutex, PoisonError};

use futures_util::stream::{self, Stream};
use quorate_proto::quorum::v1::QuorumStatus;
use tokio::sync::broadcast::{self, error::RecvError};

/// Changes that a slow watcher may be behind. More, and it is given the newest state in their place.
const BEHIND_MAX: usize = 64;

/// Holds the present state; hands changes to watchers without ever waiting for them.
#[derive(Debug)]
pub(crate) struct Published {
    current: Mutex<QuorumStatus>,
    changes: broadcast::Sender<QuorumStatus>,
}

impl Published {
    pub(crate) fn new(status: QuorumStatus) -> Self {
        Self { current: Mutex::new(status), changes: broadcast::Sender::new(BEHIND_MAX) }
    }

    /// The present state.
    pub(crate) fn current(&self) -> QuorumStatus {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the present state and tells all watchers; false if it is the same as before.
    pub(crate) fn publish(&self, status: QuorumStatus) -> bool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == status {
            return false;
        }
        *current = status.clone();
        // Sent under the lock, so that a new watcher gets each state exactly once. No receiver is no error.
        let _ = self.changes.send(status);
        true
    }

    /// The present state, then each change, in order.
    pub(crate) fn watch(self: &std::sync::Arc<Self>) -> impl Stream<Item = QuorumStatus> + Send + use<> {
        let (first, changes) = self.subscribe();
        stream::unfold((self.clone(), Some(first), changes), |(published, first, mut changes)| async move {
            if let Some(first) = first {
                return Some((first, (published, None, changes)));
            }
            match changes.recv().await {
                Ok(status) => Some((status, (published, None, changes))),
                Err(RecvError::Lagged(_)) => {
                    let (newest, changes) = published.subscribe();
                    Some((newest, (published, None, changes)))
                }
                Err(RecvError::Closed) => None,
            }
        })
    }

    fn subscribe(&self) -> (QuorumStatus, broadcast::Receiver<QuorumStatus>) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (current.clone(), self.changes.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_stream::StreamExt as _;

    use super::*;

    fn votes(total_votes: u32) -> QuorumStatus {
        QuorumStatus { total_votes, ..Default::default() }
    }

    #[tokio::test]
    async fn a_watcher_sees_the_present_state_and_then_every_change() {
        let published = Arc::new(Published::new(votes(1)));
        let mut watch = Box::pin(published.watch());

        published.publish(votes(2));
        published.publish(votes(3));

        for expected in 1..=3 {
            assert_eq!(watch.next().await, Some(votes(expected)));
        }
    }

    #[tokio::test]
    async fn the_same_state_again_is_no_change() {
        let published = Arc::new(Published::new(votes(1)));

        assert!(!published.publish(votes(1)));
        assert!(published.publish(votes(2)));
    }

    #[tokio::test]
    async fn a_watcher_that_fell_behind_goes_on_with_the_newest_state() {
        let published = Arc::new(Published::new(votes(0)));
        let mut watch = Box::pin(published.watch());
        assert_eq!(watch.next().await, Some(votes(0)));

        for total in 1..200 {
            published.publish(votes(total));
        }

        assert_eq!(watch.next().await, Some(votes(199)));
        published.publish(votes(200));
        assert_eq!(watch.next().await, Some(votes(200)));
    }
}
