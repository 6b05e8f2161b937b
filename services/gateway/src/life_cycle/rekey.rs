//! A new key for the ring: it stands in the tree together with the corosync.conf from whose version on it is used, and
//! every member takes both over. membershipd goes on with both keys until all members have the new one.
//!
//! A member that is off could not learn of the key over a ring whose packets it cannot read any more. So the key is
//! changed only while all members are there; until then the change is noted with the node whose removal asks for it.

use std::{collections::BTreeSet, path::Path};

use bytes::Bytes;
use corosync_conf::{ClusterConf, RING_KEY_PATH, RingKey};
use quorate_proto::quorum::v1::QuorumStatus;
use rand::RngCore as _;
use tonic::Status;

use super::{
    ThisNode,
    conf::{self, Present},
    online,
    remove::record::{self, Removed},
};
use crate::{batch::Batch, tree::Tree};

/// Bytes of a new ring key. Source: `corosync-keygen` 3.1 and `pvecm keygen`.
pub const KEY_BYTES: usize = 256;

/// A key that nobody knows.
#[must_use]
pub fn random() -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    rand::rng().fill_bytes(&mut key);
    key
}

/// Why the ring gets no new key now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotNow {
    /// Its transport has none.
    Unprotected,
    /// `totem.keyfile` names a file that this cluster does not look after.
    ForeignFile(String),
    /// These members are off.
    Off(Vec<String>),
    /// The node that goes is in the ring.
    WouldBeRead,
}

impl NotNow {
    /// For whoever asked for a new key.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Unprotected => "the ring has no key, its packets are not protected".to_owned(),
            Self::ForeignFile(path) => {
                format!("the ring's key is {path} (totem.keyfile); change it there, on all nodes")
            }
            Self::WouldBeRead => {
                "the ring gets a new key as soon as the node is out of it, which would read the key"
                    .to_owned()
            }
            Self::Off(names) => format!(
                "the ring keeps its key while {} is off, which could not learn of another one; it gets a new one as soon as \
                 all members are there",
                names.join(", ")
            ),
        }
    }

    /// Whether it can be made up for.
    #[must_use]
    pub fn is_due_later(&self) -> bool {
        matches!(self, Self::Off(_) | Self::WouldBeRead)
    }
}

/// Whether the ring may get a new key now, with all members but `except` there.
///
/// # Errors
/// [`NotNow`].
pub fn is_possible(conf: &ClusterConf, votes: &QuorumStatus, except: Option<&str>) -> Result<(), NotNow> {
    if !conf.totem.is_protected() {
        return Err(NotNow::Unprotected);
    }
    if let Some(path) = &conf.totem.keyfile {
        return Err(NotNow::ForeignFile(Path::new(path).display().to_string()));
    }
    let online: BTreeSet<u32> = online(votes);
    let off = conf
        .nodes
        .iter()
        .filter(|node| Some(node.name.as_str()) != except && !online.contains(&node.id.get()));
    let off: Vec<String> = off.map(|node| node.name.to_string()).collect();
    if off.is_empty() { Ok(()) } else { Err(NotNow::Off(off)) }
}

/// Puts a new key for the next version of corosync.conf into a batch that writes that version, too.
pub fn add(batch: &mut Batch, present: &Present) {
    let key = RingKey { config_version: present.next_version(), key: random().to_vec() };
    batch.put(RING_KEY_PATH, key.print(), None);
}

/// The key for a node that starts with this version of corosync.conf, if the tree has a newer one than this node.
///
/// # Errors
/// What configd says.
pub async fn newer(tree: &Tree, local_version: u64, version: u64) -> Result<Option<Bytes>, Status> {
    let Some(file) = tree.read(RING_KEY_PATH).await? else { return Ok(None) };
    let key = RingKey::parse(&file.text()).ok();
    Ok(key.filter(|key| key.is_due(local_version, version)).map(|key| key.key.into()))
}

/// Gives the ring the new key that the removal of a node asks for, if one does and all members are there. Says whether
/// nothing is left to do.
///
/// # Errors
/// What configd or quorumd says.
pub async fn catch_up(node: &ThisNode) -> Result<bool, Status> {
    let what = "cannot change the ring's key";
    let due: Vec<_> =
        record::all(&node.tree).await?.into_iter().filter(|(_, _, removed)| removed.key_due).collect();
    if due.is_empty() {
        return Ok(true);
    }
    let votes = node.require_quorum(what).await?;
    let mut present = conf::read(&node.tree, what).await?;
    if is_possible(&present.conf, &votes, None).is_err() {
        return Ok(false);
    }
    let mut batch = Batch::default();
    add(&mut batch, &present);
    for (path, version, removed) in due {
        batch.put(path, Removed { key_due: false, ..removed }.to_json(), Some(version));
    }
    let written = conf::write(&node.tree, what, &mut present, batch).await?;
    if let Some(written) = &written {
        tracing::info!(config_version = written.config_version, "the ring gets a new key");
    }
    Ok(written.is_some())
}

#[cfg(test)]
mod tests {
    use quorate_proto::quorum::v1::{QuorumNode, quorum_node::State};

    use super::*;

    fn conf(totem: &str) -> ClusterConf {
        let node =
            |id: u32| format!("node {{\n name: n{id}\n nodeid: {id}\n ring0_addr: 10.0.0.{id}\n }}\n ");
        let text = format!(
            "totem {{\n version: 2\n cluster_name: demo\n config_version: 2\n {totem}\n}}\nnodelist {{\n {}{}}}\nquorum {{\n \
             provider: corosync_votequorum\n}}\n",
            node(1),
            node(2)
        );
        ClusterConf::parse(&text).unwrap()
    }

    fn votes(online: &[u32]) -> QuorumStatus {
        let member = |&node_id| QuorumNode { node_id, state: State::Member.into(), ..QuorumNode::default() };
        QuorumStatus { nodes: online.iter().map(member).collect(), ..QuorumStatus::default() }
    }

    #[test]
    fn a_key_changes_only_while_all_members_that_stay_are_there() {
        let protected = conf("secauth: on");
        assert_eq!(is_possible(&protected, &votes(&[1, 2]), None), Ok(()));
        assert_eq!(is_possible(&protected, &votes(&[1]), Some("n2")), Ok(()));
        assert_eq!(is_possible(&protected, &votes(&[1]), None), Err(NotNow::Off(vec!["n2".into()])));
    }

    #[test]
    fn a_ring_without_a_key_of_the_clusters_own_gets_none() {
        let both = votes(&[1, 2]);
        assert_eq!(is_possible(&conf("transport: udpu"), &both, None), Err(NotNow::Unprotected));
        let foreign = conf("secauth: on\n keyfile: /etc/key");
        assert_eq!(is_possible(&foreign, &both, None), Err(NotNow::ForeignFile("/etc/key".into())));
        assert!(!NotNow::Unprotected.is_due_later());
    }
}
