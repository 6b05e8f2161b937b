//! `etc/corosync/corosync.conf`: the local copy of the tree's corosync.conf, from which the daemons start.
//!
//! The tree is authoritative. Whenever the tree holds a higher `config_version` than the local file, the file is
//! replaced in one step and the daemons that read it are told. A content that does not parse, or that does not list
//! this node, is logged and left alone: the node goes on with what it has.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use corosync_conf::ClusterConf;
use quorate_daemon::{
    Root,
    backoff::Backoff,
    client::{DaemonChannel, deadline},
    telemetry::chain,
};
use quorate_proto::{membership, quorum};
use quorate_types::NodeName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A reload resolves host names, which may take a while.
const RELOAD_DEADLINE: Duration = Duration::from_secs(10);
/// Attempts to tell a daemon; one that stays away reads the file when it starts.
const RELOAD_ATTEMPTS: u32 = 8;

/// The daemons that read corosync.conf.
pub(crate) struct Readers {
    pub(crate) membership: DaemonChannel,
    pub(crate) quorum: DaemonChannel,
}

/// Follows the tree's corosync.conf until shutdown.
pub(crate) async fn keep_local_copy(
    root: Root,
    node: NodeName,
    mut contents: watch::Receiver<Option<Bytes>>,
    readers: Readers,
    shutdown: CancellationToken,
) {
    loop {
        let content = contents.borrow_and_update().clone();
        if let Some(content) = content {
            match install(&root.corosync_conf(), &node, &content) {
                Ok(Some(version)) => {
                    tracing::info!(config_version = version, "corosync.conf of this node replaced");
                    readers.reload(&shutdown).await;
                }
                // This daemon may have died between replacing the file and telling the readers.
                Ok(None) => readers.reload_if_behind(&root.corosync_conf(), &shutdown).await,
                Err(error) => tracing::error!(
                    error = chain(&error),
                    "corosync.conf of the tree is not used on this node"
                ),
            }
        }
        tokio::select! {
            changed = contents.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

/// Why the tree's corosync.conf was not installed.
#[derive(Debug, thiserror::Error)]
enum InstallError {
    #[error("it is not UTF-8")]
    NotText(#[source] std::str::Utf8Error),
    #[error("it has mistakes")]
    Mistakes(#[source] corosync_conf::ConfErrors),
    #[error("it does not list this node, '{0}': this node was removed from the cluster")]
    NotListed(NodeName),
    #[error("the local copy cannot be written")]
    Write(#[source] io::Error),
}

/// Replaces the local file if the content is newer; tells its version if so.
fn install(path: &Path, node: &NodeName, content: &Bytes) -> Result<Option<u64>, InstallError> {
    let text = std::str::from_utf8(content).map_err(InstallError::NotText)?;
    let conf = ClusterConf::parse(text).map_err(InstallError::Mistakes)?;
    if conf.node_named(node.as_str()).is_none() {
        return Err(InstallError::NotListed(node.clone()));
    }
    let version = conf.totem.config_version;
    if local_version(path).is_some_and(|local| local >= version) {
        return Ok(None);
    }
    replace(path, content).map_err(InstallError::Write)?;
    Ok(Some(version))
}

/// Version of the local file; `None` if it is missing or unusable, so that it is replaced.
fn local_version(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    ClusterConf::parse(&text).ok().map(|conf| conf.totem.config_version)
}

/// Whole or not at all, also through a loss of power.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let staged = path.with_extension("conf.new");
    let mut file = File::create(&staged)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    File::open(directory)?.sync_all()
}

impl Readers {
    async fn reload(&self, shutdown: &CancellationToken) {
        let mut backoff = Backoff::new();
        for _ in 0..RELOAD_ATTEMPTS {
            match self.reload_once().await {
                Ok(()) => return,
                Err(status) => {
                    tracing::warn!(code = ?status.code(), message = status.message(), "a daemon did not reload corosync.conf")
                }
            }
            if !backoff.wait(shutdown).await {
                return;
            }
        }
    }

    async fn reload_if_behind(&self, path: &Path, shutdown: &CancellationToken) {
        use membership::v1::{GetStatusRequest, membership_service_client::MembershipServiceClient};
        let request = deadline(GetStatusRequest {}, RELOAD_DEADLINE);
        let in_force = MembershipServiceClient::new(self.membership.clone()).get_status(request).await;
        // A daemon that does not answer reads the file when it starts.
        let Ok(in_force) = in_force.map(|status| status.into_inner().config_version) else { return };
        if local_version(path).is_some_and(|local| local > in_force) {
            self.reload(shutdown).await;
        }
    }

    async fn reload_once(&self) -> Result<(), tonic::Status> {
        use membership::v1::membership_service_client::MembershipServiceClient;
        use quorum::v1::quorum_service_client::QuorumServiceClient;
        let request = deadline(membership::v1::ReloadRequest {}, RELOAD_DEADLINE);
        let ring = MembershipServiceClient::new(self.membership.clone()).reload(request).await;
        // Votes follow the file also where the ring cannot.
        let request = deadline(quorum::v1::ReloadRequest {}, RELOAD_DEADLINE);
        QuorumServiceClient::new(self.quorum.clone()).reload(request).await?;
        ring.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(version: u64) -> Bytes {
        Bytes::from(format!(
            "totem {{\n version: 2\n cluster_name: lab\n config_version: {version}\n transport: udpu\n}}\n\
             nodelist {{\n node {{\n name: hp1\n nodeid: 1\n ring0_addr: 127.0.0.1\n }}\n}}\n\
             quorum {{\n provider: corosync_votequorum\n}}\n"
        ))
    }

    fn hp1() -> NodeName {
        "hp1".parse().expect("a name")
    }

    #[test]
    fn only_a_higher_version_replaces_the_local_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("etc/corosync/corosync.conf");

        assert_eq!(install(&path, &hp1(), &conf(2)).expect("installed"), Some(2));
        assert_eq!(install(&path, &hp1(), &conf(2)).expect("the same"), None);
        assert_eq!(install(&path, &hp1(), &conf(1)).expect("older"), None);
        assert_eq!(install(&path, &hp1(), &conf(3)).expect("newer"), Some(3));
        assert_eq!(fs::read(&path).expect("readable"), conf(3));
    }

    #[test]
    fn a_damaged_local_file_is_replaced() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("corosync.conf");
        fs::write(&path, "totem {").expect("writable");
        assert_eq!(install(&path, &hp1(), &conf(1)).expect("installed"), Some(1));
    }

    #[test]
    fn content_that_cannot_work_leaves_the_local_file_alone() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("corosync.conf");
        install(&path, &hp1(), &conf(1)).expect("installed");

        assert!(matches!(
            install(&path, &hp1(), &Bytes::from_static(b"totem {")),
            Err(InstallError::Mistakes(_))
        ));
        assert!(matches!(
            install(&path, &hp1(), &Bytes::from_static(b"\xff")),
            Err(InstallError::NotText(_))
        ));
        let other = "hp9".parse().expect("a name");
        assert!(matches!(install(&path, &other, &conf(9)), Err(InstallError::NotListed(_))));
        assert_eq!(fs::read(&path).expect("readable"), conf(1));
    }
}
