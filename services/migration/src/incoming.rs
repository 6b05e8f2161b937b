//! What waits on this node for its memory, and by whose word it goes on or ends: the cluster's.
//!
//! A journal on this node's disk names the volumes that were made for each migration, so that a daemon that was killed
//! deletes what never came to be used. As long as the source's stream is open its daemon leads; afterwards this node
//! asks the cluster who owns the guest, and acts on that alone:
//!
//! | the configuration lies | and names this migration | the waiting QEMU |
//! |---|---|---|
//! | here | yes | goes on |
//! | elsewhere | no | ends, its volumes are deleted |
//! | elsewhere | yes | waits: the source may still commit |

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quorate_daemon::client::deadline;
use quorate_proto::guest::v1::{
    FreeVolumeRequest, GetOwnerRequest, GuestState, ResumeRequest, StopIncomingRequest,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    Node,
    error::{Error, reason},
    local::{SLOW, WRITE},
};

/// How often what waits here is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A guest that is to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) vmid: u32,
    pub(crate) source: String,
    pub(crate) online: bool,
    /// Volumes that were made here for it.
    pub(crate) volumes: Vec<String>,
}

/// All that waits here.
pub(crate) struct Incoming {
    directory: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Whose source's stream is open.
    led: Mutex<BTreeSet<String>>,
}

impl Incoming {
    /// Reads the journal.
    pub(crate) fn open(state: &Path) -> Result<Self, Error> {
        let directory = state.join("incoming");
        let error = |source| Error::Journal { path: directory.clone(), source };
        fs::create_dir_all(&directory).map_err(error)?;
        let mut entries = BTreeMap::new();
        for file in fs::read_dir(&directory).map_err(error)? {
            let path = file.map_err(error)?.path();
            let content = fs::read(&path).map_err(error)?;
            match serde_json::from_slice::<Entry>(&content) {
                Ok(entry) => drop(entries.insert(entry.id.clone(), entry)),
                Err(problem) => {
                    tracing::warn!(path = %path.display(), %problem, "is no entry of the journal")
                }
            }
        }
        Ok(Self { directory, entries: Mutex::new(entries), led: Mutex::default() })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    /// Notes a guest, or what was made for it since; on disk before it returns.
    pub(crate) fn note(&self, entry: &Entry) -> io::Result<()> {
        let path = self.path(&entry.id);
        let new = path.with_extension("new");
        let content = serde_json::to_vec(entry).map_err(io::Error::other)?;
        let mut file = fs::File::create(&new)?;
        io::Write::write_all(&mut file, &content)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(&self.directory)?.sync_all()?;
        self.lock().insert(entry.id.clone(), entry.clone());
        Ok(())
    }

    /// The entry of a migration.
    pub(crate) fn get(&self, id: &str) -> Option<Entry> {
        self.lock().get(id).cloned()
    }

    fn forget(&self, id: &str) {
        self.lock().remove(id);
        if let Err(error) = fs::remove_file(self.path(id)) {
            tracing::warn!(id, %error, "cannot be removed from the journal");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source's stream is open, or not any more.
    pub(crate) fn lead(&self, id: &str, led: bool) {
        let mut all = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = if led { all.insert(id.to_owned()) } else { all.remove(id) };
    }

    fn orphans(&self) -> Vec<Entry> {
        let led = self.led.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.lock().values().filter(|entry| !led.contains(&entry.id)).cloned().collect()
    }
}

/// Ends or finishes what nobody leads any more, until shutdown.
pub(crate) async fn look_after(node: Arc<Node>, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        for entry in node.incoming.orphans() {
            if let Err(status) = settle(&node, &entry).await {
                tracing::info!(vmid = entry.vmid, error = status.message(), "waits for the cluster's word");
            }
        }
    }
}

async fn settle(node: &Node, entry: &Entry) -> Result<(), Status> {
    let ask = deadline(GetOwnerRequest { vmid: entry.vmid }, WRITE);
    let owner = node.local.support().get_owner(ask).await?.into_inner();
    let ours = owner.migration_id == entry.id;
    match (owner.node == node.name, ours) {
        (true, true) => resume(node, &entry.id, entry.vmid, false, !entry.online).await.map(drop),
        (true, false) => {
            node.incoming.forget(&entry.id);
            Ok(())
        }
        (false, false) => discard(node, entry).await.map(drop),
        (false, true) => Ok(()),
    }
}

/// Lets a guest go on that has arrived; `false` if its process is dead.
pub(crate) async fn resume(
    node: &Node,
    id: &str,
    vmid: u32,
    stay_paused: bool,
    offline: bool,
) -> Result<bool, Status> {
    let request = ResumeRequest { vmid, migration_id: id.to_owned(), stay_paused, keep_lock: false };
    let resumed = node.local.support().resume(deadline(request, WRITE)).await?.into_inner();
    let state = resumed.status.map(|status| status.state()).unwrap_or_default();
    let alive = offline || state != GuestState::Stopped;
    node.incoming.forget(id);
    Ok(alive)
}

/// Ends what was received and deletes its volumes. Gives QEMU's last words.
pub(crate) async fn discard(node: &Node, entry: &Entry) -> Result<String, Status> {
    let mut stderr = String::new();
    if entry.online {
        let request = StopIncomingRequest { vmid: entry.vmid, migration_id: entry.id.clone() };
        match node.local.support().stop_incoming(deadline(request, SLOW)).await {
            Ok(stopped) => stopped.into_inner().stderr.clone_into(&mut stderr),
            // The process on this node is of another migration: this one's is dead.
            Err(status) if reason(&status) == "MIGRATION_MISMATCH" => {}
            Err(status) => return Err(status),
        }
    }
    for volume_id in &entry.volumes {
        let request = FreeVolumeRequest { volume_id: volume_id.clone() };
        node.local.storage().free_volume(deadline(request, SLOW)).await?;
    }
    node.incoming.forget(&entry.id);
    tracing::info!(vmid = entry.vmid, migration = entry.id, "what had been received is gone");
    Ok(stderr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry {
            id: id.into(),
            vmid: 100,
            source: "hp1".into(),
            online: true,
            volumes: vec!["local:x".into()],
        }
    }

    #[test]
    fn the_journal_survives_a_restart_and_forgets_what_is_settled() {
        let directory = tempfile::tempdir().expect("a directory");
        let incoming = Incoming::open(directory.path()).expect("opened");
        incoming.note(&entry("m-1")).expect("written");
        incoming.note(&entry("m-2")).expect("written");
        incoming.forget("m-1");
        let again = Incoming::open(directory.path()).expect("opened");
        assert_eq!(again.get("m-1"), None);
        assert_eq!(again.get("m-2"), Some(entry("m-2")));
    }

    #[test]
    fn what_its_source_leads_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let incoming = Incoming::open(directory.path()).expect("opened");
        incoming.note(&entry("m-1")).expect("written");
        incoming.lead("m-1", true);
        assert!(incoming.orphans().is_empty());
        incoming.lead("m-1", false);
        assert_eq!(incoming.orphans(), [entry("m-1")]);
    }
}
