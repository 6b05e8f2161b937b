//! Where everything lies below the prefix that `--root` names.
//!
//! One prefix per node lets many nodes live on one machine.

use std::path::{Path, PathBuf};

/// The prefix of all paths of one node; `/` on a real one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// The node below this directory.
    pub fn new(prefix: impl Into<PathBuf>) -> Self {
        Self(prefix.into())
    }

    /// The prefix itself.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// `etc/corosync/corosync.conf`: the cluster's configuration; absent while the node is in no cluster.
    #[must_use]
    pub fn corosync_conf(&self) -> PathBuf {
        self.0.join("etc/corosync/corosync.conf")
    }

    /// `etc/corosync/authkey`: the key of the ring, if its packets are authenticated.
    #[must_use]
    pub fn authkey(&self) -> PathBuf {
        self.0.join("etc/corosync/authkey")
    }

    /// `etc/corosync/qdevice.pem`: certificates and key for the quorum device, a copy of the tree's.
    #[must_use]
    pub fn qdevice_credentials(&self) -> PathBuf {
        self.0.join("etc/corosync/qdevice.pem")
    }

    /// `etc/pve`: where the replicated tree is mounted.
    #[must_use]
    pub fn mount_point(&self) -> PathBuf {
        self.0.join("etc/pve")
    }

    /// `etc/quorate/node.toml`: what only this node needs to know.
    #[must_use]
    pub fn node_toml(&self) -> PathBuf {
        self.0.join("etc/quorate/node.toml")
    }

    /// `etc/quorate`: settings and certificates of this node.
    #[must_use]
    pub fn config_dir(&self) -> PathBuf {
        self.0.join("etc/quorate")
    }

    /// `var/lib/quorate/<daemon>`: what a daemon must find again after a restart.
    #[must_use]
    pub fn state_dir(&self, daemon: &str) -> PathBuf {
        self.0.join("var/lib/quorate").join(daemon)
    }

    /// `var/lib/quorate/node-name`: whose data lies beside it.
    #[must_use]
    pub fn owner_mark(&self) -> PathBuf {
        self.0.join("var/lib/quorate/node-name")
    }

    /// `var/log/quorate/<daemon>.log`: what quorate-node keeps of a daemon's output.
    #[must_use]
    pub fn log(&self, daemon: &str) -> PathBuf {
        self.0.join(format!("var/log/quorate/{daemon}.log"))
    }

    /// `run/quorate`: the directory of all sockets.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.0.join("run/quorate")
    }

    /// `run/quorate/<daemon>.sock`: where a daemon serves.
    #[must_use]
    pub fn socket(&self, daemon: &str) -> PathBuf {
        self.run_dir().join(format!("{daemon}.sock"))
    }
}

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_paths_lie_below_the_prefix() {
        let root = Root::new("/tmp/n1");

        assert_eq!(root.corosync_conf(), Path::new("/tmp/n1/etc/corosync/corosync.conf"));
        assert_eq!(root.state_dir("quorumd"), Path::new("/tmp/n1/var/lib/quorate/quorumd"));
        assert_eq!(root.socket("quorumd"), Path::new("/tmp/n1/run/quorate/quorumd.sock"));
        assert_eq!(Root::default().authkey(), Path::new("/etc/corosync/authkey"));
    }
}
