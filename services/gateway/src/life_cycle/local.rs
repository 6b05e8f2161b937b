//! This node's own files of its membership, and telling its daemons.

use quorate_daemon::client::deadline;
use quorate_proto::{config, membership, quorum};
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
        let request = deadline(config::v1::ReloadRequest { discard_tree: discard }, RELOAD);
        let answer = self.daemons.config().reload(request).await;
        let answer = answer.map_err(|status| prefixed("configd did not reload", &status))?;
        Ok(answer.into_inner().backup_path)
    }

    /// Tells membershipd and quorumd to look at corosync.conf.
    ///
    /// # Errors
    /// What they say, UNAVAILABLE if one does not answer.
    pub async fn reload_ring(&self) -> Result<(), Status> {
        let request = deadline(membership::v1::ReloadRequest {}, RELOAD);
        let answer = self.daemons.membership().reload(request).await;
        answer.map_err(|status| prefixed("membershipd did not reload", &status))?;
        let request = deadline(quorum::v1::ReloadRequest {}, RELOAD);
        let answer = self.daemons.quorum().reload(request).await;
        answer.map_err(|status| prefixed("quorumd did not reload", &status))?;
        Ok(())
    }

    /// Leaves the ring politely, so that the others need not wait for a timeout. It is left anyhow.
    pub async fn leave_ring(&self) {
        let request = deadline(membership::v1::LeaveRequest {}, RELOAD);
        if let Err(status) = self.daemons.membership().leave(request).await {
            tracing::warn!(code = ?status.code(), message = status.message(), "cannot leave the ring politely");
        }
    }
}

/// A file of this node could not be written: the disk, or its permissions.
#[must_use]
pub fn file_failed(error: &FileError) -> Status {
    let message = quorate_daemon::telemetry::chain(error);
    quorate_daemon::status::error(Code::Internal, "FILE_NOT_WRITTEN", message, [("", ""); 0])
}
