//! `etc/corosync/corosync.conf`: the local copy of the tree's corosync.conf, from which the daemons start.
//!
//! The tree is authoritative. Whenever the tree holds a higher `config_version` than the local file, the file is
//! replaced in one step and the daemons that read it are told. A content that does not parse, or that does not list
//! this node, is logged and left alone: the node goes on with what it has.
//!
//! A new key of the ring comes with the version from which on it is used ([`RingKey`]): it is in its file before that
//! version is.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use corosync_conf::{ClusterConf, RING_KEY_PATH, RingKey};
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

/// What the tree holds for this node's `etc/corosync`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfferedConf {
    /// corosync.conf.
    pub(crate) conf: Bytes,
    /// [`RING_KEY_PATH`](corosync_conf::RING_KEY_PATH), if there is one.
    pub(crate) key: Option<Bytes>,
    /// [`DEVICE_CREDENTIALS_PATH`](corosync_conf::DEVICE_CREDENTIALS_PATH), if there is one.
    pub(crate) device: Option<Bytes>,
}

/// Mode of the ring's key. Source: pvecm specification, section 6.
const KEY_MODE: u32 = 0o400;
const CONF_MODE: u32 = 0o644;

/// Follows the tree's corosync.conf until shutdown.
pub(crate) async fn keep_local_copy(
    root: Root,
    node: NodeName,
    mut offers: watch::Receiver<Option<OfferedConf>>,
    readers: Readers,
    shutdown: CancellationToken,
) {
    loop {
        let offered = offers.borrow_and_update().clone();
        if let Some(offered) = offered {
            match install(&root, &node, &offered) {
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
            changed = offers.changed() => if changed.is_err() { return },
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
    #[error("the new key of the ring cannot be written")]
    Key(#[source] io::Error),
    #[error("the certificates for the quorum device cannot be written")]
    Device(#[source] io::Error),
}

/// Replaces the local file, and the ring's key if another one comes with it, if the content is newer; tells its version
/// if so.
fn install(root: &Root, node: &NodeName, offered: &OfferedConf) -> Result<Option<u64>, InstallError> {
    let path = &root.corosync_conf();
    let text = std::str::from_utf8(&offered.conf).map_err(InstallError::NotText)?;
    let conf = ClusterConf::parse(text).map_err(InstallError::Mistakes)?;
    if conf.node_named(node.as_str()).is_none() {
        return Err(InstallError::NotListed(node.clone()));
    }
    // Before the version that needs them; a node that joins has that version already.
    install_credentials(&root.qdevice_credentials(), offered.device.as_ref())
        .map_err(InstallError::Device)?;
    let version = conf.totem.config_version;
    let local = local_version(path);
    if local.is_some_and(|local| local >= version) {
        return Ok(None);
    }
    if let Some(key) = new_key(offered, local.unwrap_or_default(), version) {
        replace(&root.authkey(), &key.key, KEY_MODE).map_err(InstallError::Key)?;
        tracing::info!(config_version = key.config_version, "key of the ring replaced");
    }
    replace(path, &offered.conf, CONF_MODE).map_err(InstallError::Write)?;
    Ok(Some(version))
}

/// Makes the certificates for the quorum device what the tree holds; quorumd reads them whenever it connects.
fn install_credentials(path: &Path, offered: Option<&Bytes>) -> io::Result<()> {
    let present = match fs::read(path) {
        Ok(present) => Some(present),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match offered {
        None if present.is_some() => fs::remove_file(path),
        Some(offered) if present.as_deref() != Some(offered) => {
            tracing::info!(path = %path.display(), "certificates for the quorum device replaced");
            replace(path, offered, KEY_MODE)
        }
        _ => Ok(()),
    }
}

/// The key that is used from a version between these on. What is none is logged: the ring goes on with the key it has.
fn new_key(offered: &OfferedConf, local: u64, version: u64) -> Option<RingKey> {
    let text = offered.key.as_ref()?;
    match RingKey::parse(&String::from_utf8_lossy(text)) {
        Ok(key) => Some(key).filter(|key| key.is_due(local, version)),
        Err(error) => {
            tracing::error!(path = RING_KEY_PATH, %error, "the key of the ring in the tree is not used");
            None
        }
    }
}

/// Version of the local file; `None` if it is missing or unusable, so that it is replaced.
fn local_version(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    ClusterConf::parse(&text).ok().map(|conf| conf.totem.config_version)
}

/// Whole or not at all, also through a loss of power.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let staged = path.with_added_extension("new");
    // One that was left by a crash may not be writable, as a key is not.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&staged)?;
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

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(dir.path());
        (dir, root)
    }

    fn offer(conf: Bytes) -> OfferedConf {
        OfferedConf { conf, key: None, device: None }
    }

    /// The same with a key for a version.
    fn with_key(conf: Bytes, config_version: u64, byte: u8) -> OfferedConf {
        let key = RingKey { config_version, key: vec![byte; 256] };
        OfferedConf { conf, key: Some(key.print().into()), device: None }
    }

    #[test]
    fn a_new_key_comes_once_with_its_version_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_dir, root) = root();
        let key = || fs::read(root.authkey()).ok().map(|key| key[0]);
        install(&root, &hp1(), &offer(conf(1))).expect("installed");

        install(&root, &hp1(), &with_key(conf(2), 3, 7)).expect("installed");
        assert_eq!(key(), None, "its version has not come");
        install(&root, &hp1(), &with_key(conf(4), 3, 7)).expect("installed");
        assert_eq!(key(), Some(7));
        let mode = fs::metadata(root.authkey()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o400);

        fs::remove_file(root.authkey()).expect("an operator may");
        fs::write(root.authkey(), [9; 256]).expect("and put another one there");
        install(&root, &hp1(), &with_key(conf(5), 3, 7)).expect("installed");
        assert_eq!(key(), Some(9), "an old key never comes back");
        install(&root, &hp1(), &with_key(conf(6), 6, 8)).expect("installed");
        assert_eq!(key(), Some(8));
    }

    #[test]
    fn what_is_no_key_leaves_the_key_alone_and_the_configuration_goes_on() {
        let (_dir, root) = root();
        let offered =
            OfferedConf { conf: conf(2), key: Some(Bytes::from_static(b"key: none")), device: None };
        assert_eq!(install(&root, &hp1(), &offered).expect("installed"), Some(2));
        assert!(!root.authkey().exists());
    }

    #[test]
    fn only_a_higher_version_replaces_the_local_file() {
        let (_dir, root) = root();
        let path = root.corosync_conf();

        assert_eq!(install(&root, &hp1(), &offer(conf(2))).expect("installed"), Some(2));
        assert_eq!(install(&root, &hp1(), &offer(conf(2))).expect("the same"), None);
        assert_eq!(install(&root, &hp1(), &offer(conf(1))).expect("older"), None);
        assert_eq!(install(&root, &hp1(), &offer(conf(3))).expect("newer"), Some(3));
        assert_eq!(fs::read(&path).expect("readable"), conf(3));
    }

    #[test]
    fn certificates_for_the_quorum_device_come_and_go_with_the_trees() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(dir.path());
        let path = root.qdevice_credentials();
        install(&root, &hp1(), &offer(conf(2))).expect("installed");
        assert!(!path.exists());

        let device = Some(Bytes::from_static(b"certificates"));
        let offered = OfferedConf { device: device.clone(), ..offer(conf(2)) };
        assert_eq!(install(&root, &hp1(), &offered).expect("the same version"), None);
        assert_eq!(fs::read(&path).ok().map(Bytes::from), device);

        install(&root, &hp1(), &offer(conf(3))).expect("without them");
        assert!(!path.exists());
    }

    #[test]
    fn a_damaged_local_file_is_replaced() {
        let (_dir, root) = root();
        let path = root.corosync_conf();
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(&path, "totem {").expect("writable");
        assert_eq!(install(&root, &hp1(), &offer(conf(1))).expect("installed"), Some(1));
    }

    #[test]
    fn content_that_cannot_work_leaves_the_local_file_alone() {
        let (_dir, root) = root();
        let path = root.corosync_conf();
        install(&root, &hp1(), &offer(conf(1))).expect("installed");

        assert!(matches!(
            install(&root, &hp1(), &offer(Bytes::from_static(b"totem {"))),
            Err(InstallError::Mistakes(_))
        ));
        assert!(matches!(
            install(&root, &hp1(), &offer(Bytes::from_static(b"\xff"))),
            Err(InstallError::NotText(_))
        ));
        let other = "hp9".parse().expect("a name");
        assert!(matches!(install(&root, &other, &offer(conf(9))), Err(InstallError::NotListed(_))));
        assert_eq!(fs::read(&path).expect("readable"), conf(1));
    }
}
