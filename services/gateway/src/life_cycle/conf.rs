//! corosync.conf: the first one of a cluster, and changes of it in the tree.
//!
//! A change reads the file, changes what it must, raises the version and writes on condition that the
//! file is still the one that was read; if somebody else was first it begins anew.

use std::{collections::BTreeMap, net::IpAddr};

use corosync_conf::{ClusterConf, ConfErrors, LinkMode, NewNode, Transport, Tree as ConfTree};
use quorate_daemon::status;
use quorate_types::{ClusterName, NodeId, NodeName};
use tonic::{Code, Status};

use crate::{
    batch::Batch,
    refusal::{NOTHING_CHANGED, prefixed},
    tree::{self, Tree},
};

/// `totem.token` of a new cluster, in milliseconds: how long the ring waits for its token before it asks
/// who is gone. Corosync 3 waits 3000, for networks that lose packets for seconds and for nodes that
/// stall. A ring of Quorate nodes runs its token on a thread of its own, in real time where it may, so
/// that one second of silence means a dead node or a dead network: about 1000 rotations on a LAN.
pub const TOKEN_MS: u32 = 1000;
/// `totem.token_coefficient` of a new cluster, in milliseconds per node above two. Source: pvecm
/// specification, section 2 (today's default of `pvecm create`; corosync's own is 650).
pub const TOKEN_COEFFICIENT_MS: u32 = 125;

/// Times that a change is tried when others change the file too: more than nodes that join at once.
pub const TRIES: u32 = 32;

/// What the first corosync.conf of a cluster says.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// Name of the cluster.
    pub name: ClusterName,
    /// The first node.
    pub node: NodeName,
    /// Its id.
    pub node_id: NodeId,
    /// Its votes.
    pub votes: u32,
    /// Its address on each link, at least one.
    pub links: Vec<NewLink>,
    /// How packets travel; knet is protected, the others cannot be.
    pub transport: Transport,
    /// Which of several links a packet takes.
    pub link_mode: LinkMode,
}

/// A link of a new cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewLink {
    /// The first node's address.
    pub address: IpAddr,
    /// `knet_link_priority`; `None` leaves it to the order of the links.
    pub priority: Option<u8>,
}

impl NewCluster {
    /// The configuration as text, version 1.
    ///
    /// # Panics
    /// Never: every value is a number, an address or a checked name.
    #[must_use]
    pub fn print(&self) -> String {
        let mut conf = ConfTree::default();
        let protected = self.is_protected();
        let mut settings = vec![
            ("totem.version", "2".to_owned()),
            ("totem.cluster_name", self.name.to_string()),
            ("totem.config_version", "1".to_owned()),
            ("totem.transport", self.transport.to_string()),
            ("totem.ip_version", "ipv4-6".to_owned()),
            ("totem.secauth", if protected { "on" } else { "off" }.to_owned()),
            ("totem.token", TOKEN_MS.to_string()),
            ("totem.token_coefficient", TOKEN_COEFFICIENT_MS.to_string()),
            ("quorum.provider", "corosync_votequorum".to_owned()),
            ("logging.to_syslog", "yes".to_owned()),
            ("logging.debug", "off".to_owned()),
        ];
        if self.transport == Transport::Knet {
            settings.insert(6, ("totem.link_mode", self.link_mode.as_str().to_owned()));
        }
        for (key, value) in settings {
            conf.set(key, &value).expect("numbers, words and checked names can be written");
        }
        for (number, link) in (0..).zip(&self.links) {
            conf.add_interface(number, link.priority).expect("numbers can be written");
        }
        let node = NewNode {
            name: self.node.clone(),
            id: self.node_id,
            votes: self.votes,
            addresses: self.addresses(),
        };
        conf.add_node(&node).expect("an IP address can be written");
        conf.print()
    }

    /// Whether the ring's packets are authenticated and encrypted.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.transport == Transport::Knet
    }

    fn addresses(&self) -> BTreeMap<u8, String> {
        (0..).zip(self.links.iter().map(|link| link.address.to_string())).collect()
    }
}

/// The cluster's corosync.conf as it stands in the tree.
pub struct Present {
    /// Its version in the tree.
    pub file_version: u64,
    /// As written.
    pub tree: ConfTree,
    /// As checked.
    pub conf: ClusterConf,
}

impl Present {
    /// The version that the next change gets.
    #[must_use]
    pub fn next_version(&self) -> u64 {
        self.conf.totem.config_version.saturating_add(1)
    }
}

/// What a change made of the configuration.
pub struct Changed<T> {
    /// What the change gave.
    pub value: T,
    /// The configuration after it.
    pub text: String,
    /// `totem.config_version` after it.
    pub config_version: u64,
}

/// Reads corosync.conf.
///
/// # Errors
/// FAILED_PRECONDITION, reason `NOT_IN_CLUSTER` or `CONFIGURATION_INVALID`; what configd says.
pub async fn read(tree: &Tree, what: &str) -> Result<Present, Status> {
    let file = tree.read(tree::COROSYNC_CONF).await;
    let file = file.map_err(|status| prefixed(&format!("{what}: cannot read corosync.conf"), &status))?;
    let Some(file) = file else { return Err(not_in_cluster(what)) };
    let parsed = ConfTree::parse(&file.text()).map_err(ConfErrors::from);
    let checked = parsed.and_then(|tree| Ok((ClusterConf::from_tree(&tree)?, tree)));
    let (conf, tree) = checked.map_err(|mistakes| {
        let message =
            format!("{what}: the cluster's corosync.conf has mistakes, {NOTHING_CHANGED}: {mistakes}");
        status::error(Code::FailedPrecondition, "CONFIGURATION_INVALID", message, [("", ""); 0])
    })?;
    Ok(Present { file_version: file.version, tree, conf })
}

/// Refusal of what only a node in a cluster can do.
#[must_use]
pub fn not_in_cluster(what: &str) -> Status {
    let message = format!(
        "{what}: this node is in no cluster; create one with 'pvecm create' or join one with 'pvecm add'"
    );
    status::error(Code::FailedPrecondition, "NOT_IN_CLUSTER", message, [("", ""); 0])
}

/// Changes corosync.conf in the tree. `change` sees the present state, as often as it is tried; what it
/// gives back says whether there is anything to write.
///
/// # Errors
/// What `change` refuses, what configd says, or ABORTED, reason `CONFIGURATION_CONTENDED`.
pub async fn edit<T>(
    tree: &Tree,
    what: &str,
    mut change: impl FnMut(&mut Present) -> Result<Change<T>, Status>,
) -> Result<Changed<T>, Status> {
    for _ in 0..TRIES {
        let mut present = read(tree, what).await?;
        let value = match change(&mut present)? {
            Change::Nothing(value) => {
                let config_version = present.conf.totem.config_version;
                return Ok(Changed { value, text: present.tree.print(), config_version });
            }
            Change::Write(value) => value,
        };
        let written = write(tree, what, &mut present, Batch::default()).await?;
        if let Some(Written { text, config_version }) = written {
            return Ok(Changed { value, text, config_version });
        }
    }
    Err(contended(what))
}

/// A configuration that was written.
pub struct Written {
    /// As written.
    pub text: String,
    /// Its `totem.config_version`.
    pub config_version: u64,
}

/// Writes the changed configuration with the next version, in one transaction with other changes; `None` if the tree is
/// not as it was read: then nothing was written, and everything must be read again.
///
/// # Errors
/// FAILED_PRECONDITION, reason `CONFIGURATION_INVALID`; what configd says.
pub async fn write(
    tree: &Tree,
    what: &str,
    present: &mut Present,
    mut with: Batch,
) -> Result<Option<Written>, Status> {
    let config_version = present.tree.bump_version().map_err(|mistake| invalid(what, &mistake.into()))?;
    ClusterConf::from_tree(&present.tree).map_err(|mistakes| invalid(what, &mistakes))?;
    let text = present.tree.print();
    with.put(tree::COROSYNC_CONF, text.clone(), Some(present.file_version));
    match tree.transact(with).await {
        Ok(()) => Ok(Some(Written { text, config_version })),
        Err(status) if tree::is_stale(&status) => Ok(None),
        Err(status) => Err(prefixed(&format!("{what}: cannot write corosync.conf"), &status)),
    }
}

/// Others were first, again and again.
#[must_use]
pub fn contended(what: &str) -> Status {
    let message = format!("{what}: others changed corosync.conf {TRIES} times meanwhile; {NOTHING_CHANGED}");
    status::error(Code::Aborted, "CONFIGURATION_CONTENDED", message, [("tries", TRIES)])
}

/// Whether a change has something to write.
pub enum Change<T> {
    /// The tree of [`Present`] was changed.
    Write(T),
    /// Everything is as it should be already.
    Nothing(T),
}

fn invalid(what: &str, mistakes: &ConfErrors) -> Status {
    let message = format!("{what}: the new corosync.conf would have mistakes, {NOTHING_CHANGED}: {mistakes}");
    status::error(Code::FailedPrecondition, "CONFIGURATION_INVALID", message, [("", ""); 0])
}

#[cfg(test)]
mod tests {
    use corosync_conf::Transport;

    use super::*;

    fn cluster(transport: Transport, links: &[(&str, Option<u8>)]) -> NewCluster {
        let link = |(address, priority): &(&str, _)| NewLink {
            address: address.parse().unwrap(),
            priority: *priority,
        };
        NewCluster {
            name: "demo".parse().unwrap(),
            node: "n1".parse().unwrap(),
            node_id: NodeId::new(3).unwrap(),
            votes: 2,
            links: links.iter().map(link).collect(),
            transport,
            link_mode: LinkMode::Passive,
        }
    }

    #[test]
    fn the_first_configuration_is_valid_protected_and_has_quick_timers() {
        let text = cluster(Transport::Knet, &[("10.0.0.1", None)]).print();
        let conf = ClusterConf::parse(&text).unwrap();

        assert_eq!(conf.totem.transport, Transport::Knet);
        assert_eq!((conf.totem.timing.token, conf.totem.timing.token_coefficient), (Some(1000), Some(125)));
        assert!(conf.totem.is_protected());
        assert_eq!((conf.totem.config_version, conf.expected_votes()), (1, 2));
        assert_eq!(conf.nodes[0].addresses[&0], "10.0.0.1");
        assert!(conf.check_for_join().errors.is_empty());
    }

    #[test]
    fn every_link_has_its_section_and_its_priority() {
        let text = cluster(Transport::Knet, &[("10.0.0.1", Some(5)), ("10.0.1.1", Some(9))]).print();
        let conf = ClusterConf::parse(&text).unwrap();

        let links: Vec<_> = conf.totem.interfaces.iter().map(|i| (i.link, i.knet_link_priority)).collect();
        assert_eq!(links, [(0, Some(5)), (1, Some(9))]);
        assert_eq!(conf.nodes[0].addresses[&1], "10.0.1.1");
        assert!(conf.check_for_join().errors.is_empty(), "{text}");
    }

    #[test]
    fn a_transport_that_protects_nothing_is_written_without_secauth() {
        for transport in [Transport::Udpu, Transport::Udp] {
            let conf = ClusterConf::parse(&cluster(transport, &[("10.0.0.1", None)]).print()).unwrap();
            assert_eq!((conf.totem.transport, conf.totem.is_protected()), (transport, false));
        }
    }
}
