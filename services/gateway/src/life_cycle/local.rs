//! This node's own files of its membership, and telling its daemons.

use quorate_daemon::client::deadline;
use quorate_proto::{config, membership, quorum};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::ThisNode;
use crate::{
    client::RELOAD,
    files::{self, FileError},
    refusal::prefixed,
};

/// Mode of the ring's key. Source: pvecm specification, section 6.
const AUTHKEY_MODE: u32 = 0o400;

impl ThisNode {
    /// Writes this node's corosync.conf.
    ///
    /// # Errors
    /// INTERNAL, reason by the operating system in the text.
    pub fn write_conf(&self, text: &str) -> Result<(), Status> {
        let path = self.root.corosync_conf();
        files::replace(&path, text.as_bytes(), files::PUBLIC).map_err(|error| file_failed(&error))
    }

    /// Writes the ring's key.
    ///
    /// # Errors
    /// As [`ThisNode::write_conf`].
    pub fn write_authkey(&self, key: &[u8]) -> Result<(), Status> {
        let path = self.root.authkey();
        files::replace(&path, key, AUTHKEY_MODE).map_err(|error| file_failed(&error))
    }

    /// Removes this node's corosync.conf; says whether there was one.
    ///
    /// # Errors
    /// As [`ThisNode::write_conf`].
    pub fn remove_conf(&self) -> Result<bool, Status> {
        let path = self.root.corosync_conf();
        let there = files::read(&path).map_err(|error| file_failed(&error))?.is_some();
        files::remove(&path).map_err(|error| file_failed(&error))?;
        Ok(there)
    }

    /// Tells configd to look at corosync.conf; with `discard` it begins with an empty tree, and the path of
    /// the old one is given back.
    ///
    /// # Errors
    /// What configd says, UNAVAILABLE if it does not answer.
    pub async fn reload_config(&self, discard: bool) -> Result<String, Status> {
        let answer = self.answered(|| {
            let mut configd = self.daemons.config();
            let request = deadline(config::v1::ReloadRequest { discard_tree: discard }, RELOAD);
            async move { configd.reload(request).await }
        });
        let answer = answer.await.map_err(|status| prefixed("configd did not reload", &status))?;
        Ok(answer.into_inner().backup_path)
    }

    /// Tells membershipd and quorumd to look at corosync.conf.
    ///
    /// # Errors
    /// What they say, UNAVAILABLE if one does not answer.
    pub async fn reload_ring(&self) -> Result<(), Status> {
        let answer = self.answered(|| {
            let mut membershipd = self.daemons.membership();
            async move { membershipd.reload(deadline(membership::v1::ReloadRequest {}, RELOAD)).await }
        });
        answer.await.map_err(|status| prefixed("membershipd did not reload", &status))?;
        let answer = self.answered(|| {
            let mut quorumd = self.daemons.quorum();
            async move { quorumd.reload(deadline(quorum::v1::ReloadRequest {}, RELOAD)).await }
        });
        answer.await.map_err(|status| prefixed("quorumd did not reload", &status))?;
        Ok(())
    }

    /// Calls again as long as the daemon is away, within [`Patience::restart`](super::ready::Patience::restart).
    /// One that died and was started again may have read corosync.conf as it was before, or as it is now: only its
    /// answer says so. A reload that is repeated does no harm.
    async fn answered<T, F>(&self, call: impl Fn() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let end = Instant::now() + self.patience.restart;
        loop {
            match call().await {
                Err(status) if is_away(&status) && Instant::now() < end => {
                    tracing::debug!(reason = status.message(), "a daemon that is to reload is away");
                    sleep(self.patience.pause).await;
                }
                answer => return answer,
            }
        }
    }

    /// Leaves the ring politely, so that the others need not wait for a timeout. It is left anyhow.
    pub async fn leave_ring(&self) {
        let request = deadline(membership::v1::LeaveRequest {}, RELOAD);
        if let Err(status) = self.daemons.membership().leave(request).await {
            tracing::warn!(code = ?status.code(), message = status.message(), "cannot leave the ring politely");
        }
    }
}

/// Whether a call failed on its way: no connection, or one that broke. A daemon that answers gives a reason.
fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
        && quorate_daemon::status::reason(status).is_none()
}

/// A file of this node could not be written: the disk, or its permissions.
#[must_use]
pub fn file_failed(error: &FileError) -> Status {
    let message = quorate_daemon::telemetry::chain(error);
    quorate_daemon::status::error(Code::Internal, "FILE_NOT_WRITTEN", message, [("", ""); 0])
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready, time::Duration};

    use super::*;
    use crate::testing::{TestNode, World};

    #[tokio::test]
    async fn a_daemon_that_is_away_is_asked_again_and_one_that_refuses_is_not() {
        let world = World::new();
        let node = TestNode::start(&world, "n1", true).await.node.clone();
        let tries = Cell::new(0);
        let away_twice = || {
            tries.set(tries.get() + 1);
            ready(if tries.get() < 3 { Err(Status::unavailable("connection refused")) } else { Ok(()) })
        };

        assert!(node.answered(away_twice).await.is_ok());
        assert_eq!(tries.replace(0), 3);

        let refuses = || {
            tries.set(tries.get() + 1);
            ready(Err::<(), _>(Status::failed_precondition("not now")))
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(20), node.answered(refuses)).await.unwrap().is_err()
        );
        assert_eq!(tries.get(), 1);
    }
}
