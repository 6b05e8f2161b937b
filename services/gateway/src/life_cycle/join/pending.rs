//! A note of a join under way, so that a gateway that dies in the middle of it can go on.
//!
//! Written before the first file of the new membership, removed after the confirmation or the way back.

use std::{path::PathBuf, time::Duration};

use quorate_daemon::{Root, status};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::super::{ThisNode, local::file_failed};
use crate::{files, roster};

const FILE: &str = "joining.json";
/// First pause before the confirmation is tried again; doubles up to [`PAUSE_MAX`]. Without an end: the
/// node is a member without votes until it succeeds, and the cluster may be without quorum for long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What is left to do once the node is in the ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// The member that admitted this node, as `host:port`.
    pub member: String,
    /// Where other members are, for when that one does not answer any more.
    #[serde(default)]
    pub others: Vec<String>,
    /// Fingerprint of the cluster's CA.
    pub ca: String,
    /// The votes that this node is to get.
    pub votes: u32,
    /// Whether configd has set aside the tree that this node had before.
    pub tree_set_aside: bool,
}

impl Pending {
    fn path(root: &Root) -> PathBuf {
        root.state_dir("gatewayd").join(FILE)
    }

    /// Notes that a join is under way.
    ///
    /// # Errors
    /// INTERNAL if the file cannot be written.
    pub fn write(&self, root: &Root) -> Result<(), Status> {
        let text = serde_json::to_vec(self).expect("strings and a number");
        files::replace(&Self::path(root), &text, files::PRIVATE).map_err(|error| file_failed(&error))
    }

    /// The join under way; `None` if there is none.
    ///
    /// # Errors
    /// INTERNAL or DATA_LOSS if the file cannot be read.
    pub fn read(root: &Root) -> Result<Option<Self>, Status> {
        let Some(text) = files::read(&Self::path(root)).map_err(|error| file_failed(&error))? else {
            return Ok(None);
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let message = format!("{} cannot be read: {error}", Self::path(root).display());
            status::error(Code::DataLoss, "JOIN_NOTE_DAMAGED", message, [("", ""); 0])
        })
    }

    /// Notes that no join is under way any more.
    ///
    /// # Errors
    /// INTERNAL if the file cannot be removed.
    pub fn remove(root: &Root) -> Result<(), Status> {
        files::remove(&Self::path(root)).map_err(|error| file_failed(&error))
    }
}

/// Goes on with a join that the gateway's end interrupted, until it is complete or `shutdown`.
pub async fn resume(node: &ThisNode, shutdown: CancellationToken) {
    let mut pending = match Pending::read(&node.root) {
        Ok(None) => return,
        Ok(Some(pending)) => pending,
        Err(status) => {
            tracing::error!(reason = status.message(), "a join under way cannot be resumed");
            return;
        }
    };
    if roster::local_conf(&node.root).is_none() {
        // It had not begun here: the member lists this node without votes until it joins again.
        tracing::warn!(
            member = pending.member,
            "a join was interrupted before it began on this node; join again"
        );
        if let Err(status) = Pending::remove(&node.root) {
            tracing::error!(reason = status.message(), "the note of it stays");
        }
        return;
    }
    let mut pause = PAUSE_MIN;
    loop {
        let Ok(_busy) = node.begin("cannot resume the join") else { return };
        tracing::info!(member = pending.member, "resuming an interrupted join");
        let completed = tokio::select! {
            completed = super::apply::complete(node, &mut pending, "cannot complete the join", None) => completed,
            () = shutdown.cancelled() => return,
        };
        match completed {
            Ok(()) => {
                tracing::info!("the interrupted join is complete");
                return;
            }
            Err(status) => tracing::warn!(reason = status.message(), ?pause, "trying again"),
        }
        drop(_busy);
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            () = shutdown.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_there_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let note = Pending {
            member: "10.0.0.1:8006".into(),
            others: vec!["10.0.0.2:8006".into()],
            ca: "AB".into(),
            votes: 1,
            tree_set_aside: true,
        };

        assert_eq!(Pending::read(&root).unwrap(), None);
        note.write(&root).unwrap();
        assert_eq!(Pending::read(&root).unwrap(), Some(note));
        Pending::remove(&root).unwrap();
        assert_eq!(Pending::read(&root).unwrap(), None);
    }
}
