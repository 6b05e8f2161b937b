//! `etc/corosync/corosync.conf`: the local copy of the tree's corosync.conf, from which the daemons start.
//!
//! The tree is authoritative: the local file follows it and never the reverse. A new file is stored beside the one in
//! use first, and replaces it in one step later: when, says `conf_change.rs`.
//!
//! A new key of the ring comes with the version from which on it is used ([`RingKey`]): it is stored with that version, and
//! is in its file before that version is.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use config_store_core::conf_change::ConfId;
use corosync_conf::{ClusterConf, RING_KEY_PATH, RingKey, Tree};
use quorate_daemon::{
    Root,
    backoff::Backoff,
    client::{DaemonChannel, deadline},
};
use quorate_proto::{membership, quorum};
use quorate_types::NodeName;
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

/// Why a corosync.conf is not used on this node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it is not UTF-8")]
    NotText(#[source] std::str::Utf8Error),
    #[error("it has mistakes")]
    Mistakes(#[source] corosync_conf::ConfErrors),
    #[error("it does not list this node, '{0}': this node was removed from the cluster")]
    NotListed(NodeName),
    #[error("{0}")]
    NotRunnable(String),
    #[error("this node cannot store it")]
    Write(#[source] io::Error),
    #[error("the certificates for the quorum device cannot be written")]
    Device(#[source] io::Error),
}

/// A corosync.conf that can be read.
#[derive(Debug, Clone)]
pub(crate) struct ConfFile {
    pub(crate) id: ConfId,
    pub(crate) text: String,
    pub(crate) conf: ClusterConf,
}

impl ConfFile {
    /// Reads a text.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, Unusable> {
        let text = std::str::from_utf8(content).map_err(Unusable::NotText)?;
        let conf = ClusterConf::parse(text).map_err(Unusable::Mistakes)?;
        Ok(Self { id: ConfId::of(conf.totem.config_version, content), text: text.to_owned(), conf })
    }

    /// The file that this node uses; `None` if it is missing or unusable, so that it is replaced.
    pub(crate) fn local(root: &Root) -> Option<Self> {
        Self::parse(&fs::read(root.corosync_conf()).ok()?).ok()
    }

    /// The same with another version. Every node makes the same text of it.
    pub(crate) fn with_version(&self, version: u64) -> Option<Self> {
        let mut tree = Tree::parse(&self.text).ok()?;
        tree.set("totem.config_version", &version.to_string()).ok()?;
        Self::parse(tree.print().as_bytes()).ok()
    }

    /// Whether nothing but the version differs.
    pub(crate) fn is_same_beside_version(&self, other: &Self) -> bool {
        let text = |file: &Self| file.with_version(0).map(|file| file.text);
        text(self) == text(other)
    }

    /// Whether using this file after another one can break the ring: anything but who is a member, and with which votes.
    pub(crate) fn is_risky_after(&self, before: &Self) -> bool {
        let totem = |file: &Self| corosync_conf::Totem { config_version: 0, ..file.conf.totem.clone() };
        let has_moved = |node: &corosync_conf::Node| {
            before.conf.node(node.id).is_some_and(|old| old.addresses != node.addresses)
        };
        totem(self) != totem(before)
            || self.conf.quorum != before.conf.quorum
            || self.conf.nodes.iter().any(has_moved)
    }

    /// Stores it beside the file in use, and a key of the ring that is used from it on beside the key.
    pub(crate) fn store(&self, root: &Root, key: Option<&Bytes>) -> Result<(), Unusable> {
        let local = Self::local(root).map_or(0, |local| local.id.version);
        let key = key.and_then(|text| new_key(text, local, self.id.version));
        let stored = match &key {
            Some(key) => store(&prepared(&root.authkey()), &key.key, KEY_MODE),
            None => remove(&prepared(&root.authkey())),
        };
        let path = prepared(&root.corosync_conf());
        stored.and_then(|()| store(&path, self.text.as_bytes(), CONF_MODE)).map_err(Unusable::Write)
    }

    /// Puts what was stored in the place of the files in use, the key first: each whole or not at all, also through a
    /// loss of power.
    pub(crate) fn put_in_force(root: &Root) -> Result<(), Unusable> {
        let path = root.corosync_conf();
        let key = match fs::rename(prepared(&root.authkey()), root.authkey()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.inspect(|()| tracing::info!("key of the ring replaced")),
        };
        let moved = key.and_then(|()| fs::rename(prepared(&path), &path));
        moved.and_then(|()| sync_directory(&path)).map_err(Unusable::Write)
    }
}

/// Makes the certificates for the quorum device what the tree holds, before the version that needs them is used; quorumd
/// reads them whenever it connects.
pub(crate) fn install_credentials(root: &Root, offered: Option<&Bytes>) -> Result<(), Unusable> {
    let path = root.qdevice_credentials();
    let present = match fs::read(&path) {
        Ok(present) => Some(present),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Unusable::Device(error)),
    };
    let written = match offered {
        None if present.is_some() => fs::remove_file(&path),
        Some(offered) if present.as_deref() != Some(offered) => {
            tracing::info!(path = %path.display(), "certificates for the quorum device replaced");
            let staged = path.with_added_extension("new");
            store(&staged, offered, KEY_MODE)
                .and_then(|()| fs::rename(&staged, &path))
                .and_then(|()| sync_directory(&path))
        }
        _ => Ok(()),
    };
    written.map_err(Unusable::Device)
}

/// The key that is used from a version between these on. What is none is logged: the ring goes on with the key it has.
fn new_key(text: &[u8], local: u64, version: u64) -> Option<RingKey> {
    match RingKey::parse(&String::from_utf8_lossy(text)) {
        Ok(key) => Some(key).filter(|key| key.is_due(local, version)),
        Err(error) => {
            tracing::error!(path = RING_KEY_PATH, %error, "the key of the ring in the tree is not used");
            None
        }
    }
}

/// Where a file waits until all members have it.
fn prepared(path: &Path) -> PathBuf {
    path.with_added_extension("prepared")
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn store(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    // One that is there may not be writable, as a key is not.
    remove(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

impl Readers {
    /// Has the daemons read the file in use.
    pub(crate) async fn reload(&self, shutdown: &CancellationToken) {
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

    /// The same, if the ring runs with an older version than this: this daemon may have died between replacing the file
    /// and telling the readers.
    pub(crate) async fn reload_if_behind(&self, version: u64, shutdown: &CancellationToken) {
        if self.ring().await.is_some_and(|ring| version > ring.config_version) {
            self.reload(shutdown).await;
        }
    }

    /// What membershipd says of its ring. A daemon that does not answer reads the file when it starts.
    pub(crate) async fn ring(&self) -> Option<membership::v1::GetStatusResponse> {
        use membership::v1::{GetStatusRequest, membership_service_client::MembershipServiceClient};
        let request = deadline(GetStatusRequest {}, RELOAD_DEADLINE);
        let ring = MembershipServiceClient::new(self.membership.clone()).get_status(request).await;
        Some(ring.ok()?.into_inner())
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

    fn conf(version: u64, rest: &str) -> ConfFile {
        let text = format!(
            "totem {{\n version: 2\n cluster_name: lab\n config_version: {version}\n}}\n\
             nodelist {{\n node {{\n name: hp1\n nodeid: 1\n ring0_addr: 127.0.0.1\n }}\n{rest}}}\n\
             quorum {{\n provider: corosync_votequorum\n}}\n"
        );
        ConfFile::parse(text.as_bytes()).expect("a good file")
    }

    fn node(id: u32, address: &str, votes: u32) -> String {
        format!(
            " node {{\n name: hp{id}\n nodeid: {id}\n quorum_votes: {votes}\n ring0_addr: {address}\n }}\n"
        )
    }

    #[test]
    fn a_file_is_in_force_only_after_it_was_stored_and_put_there() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(dir.path());
        conf(2, "").store(&root, None).expect("stored");
        assert!(ConfFile::local(&root).is_none());
        ConfFile::put_in_force(&root).expect("replaced");
        assert_eq!(ConfFile::local(&root).map(|file| file.id), Some(conf(2, "").id));
        assert!(
            matches!(ConfFile::put_in_force(&root), Err(Unusable::Write(_))),
            "nothing is stored any more"
        );
    }

    #[test]
    fn a_new_key_comes_once_with_its_version_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(dir.path());
        let in_use = || fs::read(root.authkey()).ok().map(|key| key[0]);
        let take = |version, config_version, byte| {
            let key = RingKey { config_version, key: vec![byte; 256] };
            conf(version, "").store(&root, Some(&key.print().into())).expect("stored");
            ConfFile::put_in_force(&root).expect("in force");
        };
        take(2, 3, 7);
        assert_eq!(in_use(), None, "its version has not come");
        take(4, 3, 7);
        assert_eq!(in_use(), Some(7));
        let mode = fs::metadata(root.authkey()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o400);

        fs::remove_file(root.authkey()).expect("an operator may");
        fs::write(root.authkey(), [9; 256]).expect("and put another one there");
        take(5, 3, 7);
        assert_eq!(in_use(), Some(9), "an old key never comes back");
        take(6, 6, 8);
        assert_eq!(in_use(), Some(8));
    }

    #[test]
    fn what_is_no_key_leaves_the_key_alone_and_the_configuration_goes_on() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(dir.path());
        conf(2, "").store(&root, Some(&Bytes::from_static(b"key: none"))).expect("stored");
        ConfFile::put_in_force(&root).expect("in force");
        assert!(!root.authkey().exists() && root.corosync_conf().exists());
    }

    #[test]
    fn certificates_for_the_quorum_device_come_and_go_with_the_trees() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(dir.path());
        install_credentials(&root, None).expect("nothing to do");
        let device = Bytes::from_static(b"certificates");
        install_credentials(&root, Some(&device)).expect("written");
        assert_eq!(fs::read(root.qdevice_credentials()).ok().map(Bytes::from), Some(device));
        install_credentials(&root, None).expect("removed");
        assert!(!root.qdevice_credentials().exists());
    }

    #[test]
    fn content_that_cannot_be_read_says_why() {
        assert!(matches!(ConfFile::parse(b"totem {"), Err(Unusable::Mistakes(_))));
        assert!(matches!(ConfFile::parse(b"\xff"), Err(Unusable::NotText(_))));
    }

    #[test]
    fn a_file_taken_back_is_the_old_one_with_a_higher_version() {
        let old = conf(4, "");
        let back = old.with_version(6).expect("printable");
        assert_eq!((back.id.version, back.is_risky_after(&old)), (6, false));
        assert_eq!(Some(back.text), old.with_version(6).map(|file| file.text), "the same on every node");
    }

    #[test]
    fn members_and_votes_do_not_break_a_ring_but_addresses_may() {
        let one = conf(4, "");
        let two = conf(5, &node(2, "127.0.0.2", 0));
        let counted = conf(6, &node(2, "127.0.0.2", 1));
        let moved = conf(7, &node(2, "127.0.0.3", 1));
        assert!(!two.is_risky_after(&one) && !counted.is_risky_after(&two) && !one.is_risky_after(&counted));
        assert!(moved.is_risky_after(&counted));
    }
}
