//! What may become the cluster's corosync.conf: every write of it through the API is checked here first.
//!
//! A file that no node can use would change nothing on them, and would be found out only later; one with another
//! cluster's name, or without this node, would take the ring apart. A file that somehow got into the tree all the
//! same is handled by `local_conf.rs`: the nodes go on with what they have.
//!
//! Source: pvecm specification, 3.4 and 3.5 (the version must grow, the name of a cluster never changes, the local
//! node must be listed).

use bytes::Bytes;
use config_store_core::{ConfigPath, Entry, Expect, Operation, Tree};
use corosync_conf::{ClusterConf, ConfErrors};
use quorate_types::{NodeId, NodeName};

use crate::identity::Identity;

/// Path of the cluster's corosync.conf in the tree.
pub(crate) const COROSYNC_CONF: &str = "corosync.conf";

/// Why something may not become the cluster's corosync.conf.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfRefusal {
    /// It is no text.
    #[error("it is not UTF-8")]
    NotText,
    /// It has mistakes.
    #[error("it has mistakes: {}", one_line(.0))]
    Mistakes(ConfErrors),
    /// It carries another name.
    #[error("the name of a cluster can never be changed: it is '{present}', not '{new}'")]
    OtherCluster {
        /// The cluster's name.
        present: String,
        /// What the file says.
        new: String,
    },
    /// Its version is not higher.
    #[error(
        "its config_version is {new}, but must be higher than {present}, the present one; set it to {}",
        present.saturating_add(1)
    )]
    VersionNotHigher {
        /// Version of the present file.
        present: u64,
        /// Version of the new one.
        new: u64,
    },
    /// It does not list this node.
    #[error("it does not list this node, '{0}'; to remove a node, run 'pvecm delnode' on another member")]
    NotListed(NodeName),
    /// It would be gone.
    #[error("it lists the members of the cluster: it can be replaced, but not removed or renamed")]
    Removed,
}

fn one_line(mistakes: &ConfErrors) -> String {
    mistakes.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Checks an operation on a tree, as seen from the node `name`. A node without a cluster has only to give a file
/// that can be read.
///
/// # Errors
/// [`ConfRefusal`]: the operation must not be performed.
pub(crate) fn check(
    operation: &Operation,
    tree: &Tree,
    identity: &Identity,
    name: &NodeName,
) -> Result<(), ConfRefusal> {
    let is_conf = |path: &ConfigPath| path.as_str() == COROSYNC_CONF;
    let in_cluster = identity.node.is_some();
    let conf: ConfigPath = COROSYNC_CONF.parse().expect("a plain name is a path");
    let present = tree.get(&conf);
    match operation {
        Operation::Transaction(_) => check_transaction(operation, tree, identity, name),
        Operation::Put { path, expect, content } if is_conf(path) => {
            // One that is refused for its version anyway is told so, in the usual way.
            let stale = matches!(expect, Expect::Version(version)
                if present.is_none_or(|present| present.head().version != *version));
            if stale { Ok(()) } else { content_fits(content, present, identity, name) }
        }
        Operation::Rename { from, .. } if is_conf(from) && in_cluster && present.is_some() => {
            Err(ConfRefusal::Removed)
        }
        Operation::Rename { from, to, .. } if is_conf(to) => match tree.get(from) {
            Some(new) => content_fits(new.content(), present, identity, name),
            None => Ok(()),
        },
        Operation::Delete { path, .. } if is_conf(path) && in_cluster && present.is_some() => {
            Err(ConfRefusal::Removed)
        }
        _ => Ok(()),
    }
}

/// Each operation is judged on what the ones before it make: a copy of the tree, needed only when corosync.conf is among
/// the files. What the tree itself refuses is left to it.
fn check_transaction(
    operation: &Operation,
    tree: &Tree,
    identity: &Identity,
    name: &NodeName,
) -> Result<(), ConfRefusal> {
    let touches = |one: &Operation| {
        let to = if let Operation::Rename { to, .. } = one { Some(to) } else { None };
        [Some(one.path()), to].into_iter().flatten().any(|path| path.as_str() == COROSYNC_CONF)
    };
    if !operation.each().iter().any(touches) {
        return Ok(());
    }
    let mut tree = tree.clone();
    for one in operation.each() {
        check(one, &tree, identity, name)?;
        if tree.apply(identity.node.map_or(0, NodeId::get), 0, one).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn content_fits(
    content: &Bytes,
    present: Option<&Entry>,
    identity: &Identity,
    name: &NodeName,
) -> Result<(), ConfRefusal> {
    let new = read(content)?;
    if identity.node.is_none() || present.is_some_and(|present| present.content() == content) {
        return Ok(());
    }
    if new.totem.cluster_name != identity.cluster {
        let (present, new) = (identity.cluster.clone(), new.totem.cluster_name);
        return Err(ConfRefusal::OtherCluster { present, new });
    }
    // A present file that cannot be read has no version that counts: anything better may replace it.
    let present = present.and_then(|present| read(present.content()).ok());
    if let Some(present) = present.map(|present| present.totem.config_version)
        && new.totem.config_version <= present
    {
        return Err(ConfRefusal::VersionNotHigher { present, new: new.totem.config_version });
    }
    if new.node_named(name.as_str()).is_none() {
        return Err(ConfRefusal::NotListed(name.clone()));
    }
    Ok(())
}

fn read(content: &[u8]) -> Result<ClusterConf, ConfRefusal> {
    let text = std::str::from_utf8(content).map_err(|_| ConfRefusal::NotText)?;
    ClusterConf::parse(text).map_err(ConfRefusal::Mistakes)
}

#[cfg(test)]
mod tests {
    use config_store_core::{Input, OperationRequest, Output, Replica, RequestId, Settings, Transaction};
    use std::time::{Duration, Instant};

    use super::*;

    fn text(cluster: &str, version: u64, node: &str) -> String {
        format!(
            "totem {{\n version: 2\n cluster_name: {cluster}\n config_version: {version}\n transport: udpu\n}}\n\
             nodelist {{\n node {{\n name: {node}\n nodeid: 1\n ring0_addr: 127.0.0.1\n }}\n}}\n\
             quorum {{\n provider: corosync_votequorum\n}}\n"
        )
    }

    fn put(path: &str, expect: Expect, content: &str) -> Operation {
        let path = path.parse().expect("a path");
        Operation::Put { path, expect, content: Bytes::copy_from_slice(content.as_bytes()) }
    }

    fn path(text: &str) -> ConfigPath {
        text.parse().expect("a path")
    }

    /// A replica that has performed these writes.
    fn replica(writes: &[Operation]) -> Replica {
        let id = NodeId::new(1).expect("not 0");
        let mut replica =
            Replica::load(Settings::new(id, 7), config_store_core::Loader::new().finish().expect("empty"));
        replica.handle_input(Instant::now(), Input::LocalMode(true));
        for (number, operation) in (1..).zip(writes) {
            let request = OperationRequest {
                id: RequestId([number; 16]),
                mtime: 0,
                trace: None,
                extensions: config_store_core::Extensions::default(),
                operation: operation.clone(),
            };
            let deadline = Instant::now() + Duration::from_secs(5);
            replica.handle_input(Instant::now(), Input::Request { handle: 1, request, deadline });
            while let Some(output) = replica.poll_output() {
                if let Output::Store(batch) = output {
                    replica.handle_input(Instant::now(), Input::Stored { batch: batch.id });
                }
            }
        }
        replica
    }

    fn member() -> Identity {
        Identity { node: NodeId::new(1).ok(), cluster: "lab".to_owned() }
    }

    /// What a member 'hp1' of 'lab', with version 3 in the tree, says to an operation.
    fn judged(operation: &Operation) -> Result<(), String> {
        let replica = replica(&[
            put("corosync.conf", Expect::Any, &text("lab", 3, "hp1")),
            put("other", Expect::Any, "x"),
        ]);
        let name = "hp1".parse().expect("a name");
        check(operation, replica.tree(), &member(), &name).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_newer_file_of_the_same_cluster_is_accepted_and_other_files_are_nobodys_business() {
        assert_eq!(judged(&put("corosync.conf", Expect::Any, &text("lab", 4, "hp1"))), Ok(()));
        assert_eq!(
            judged(&put("corosync.conf", Expect::Any, &text("lab", 3, "hp1"))),
            Ok(()),
            "the same again"
        );
        assert_eq!(judged(&put("other", Expect::Any, "totem {")), Ok(()));
    }

    #[test]
    fn mistakes_are_told_with_line_and_key() {
        let bad = text("lab", 4, "hp1").replace("nodeid: 1", "nodeid: one");
        let why = judged(&put("corosync.conf", Expect::Any, &bad)).unwrap_err();
        assert!(why.contains("line 10: nodelist.node.nodeid: 'one' is no whole number"), "{why}");
        assert!(judged(&put("corosync.conf", Expect::Any, "hi")).unwrap_err().contains("line 1"));
    }

    #[test]
    fn another_name_an_old_version_and_a_list_without_this_node_are_refused() {
        let refused = |text: String| judged(&put("corosync.conf", Expect::Any, &text)).unwrap_err();
        assert!(refused(text("evil", 4, "hp1")).contains("it is 'lab', not 'evil'"));
        assert!(refused(text("lab", 3, "hp1") + "\n").ends_with("set it to 4"));
        assert!(refused(text("lab", 4, "hp2")).contains("does not list this node, 'hp1'"));
    }

    #[test]
    fn the_file_cannot_be_removed_and_a_rename_is_checked_like_a_write() {
        let removed = Err(ConfRefusal::Removed.to_string());
        let rename = |from: &str, to: &str| Operation::Rename {
            from: path(from),
            to: path(to),
            expect: Expect::Any,
            no_replace: false,
        };
        assert_eq!(judged(&Operation::Delete { path: path("corosync.conf"), expect: Expect::Any }), removed);
        assert_eq!(judged(&rename("corosync.conf", "away")), removed);
        assert!(judged(&rename("other", "corosync.conf")).unwrap_err().contains("line 1"));
        assert_eq!(judged(&rename("none", "corosync.conf")), Ok(()), "the tree says that it does not exist");
    }

    #[test]
    fn a_transaction_is_judged_step_by_step() {
        let together = |operations: &[Operation]| {
            judged(&Operation::Transaction(Transaction::new(operations.to_vec()).expect("a few")))
        };
        let rename = |from: &str, to: &str| Operation::Rename {
            from: path(from),
            to: path(to),
            expect: Expect::Any,
            no_replace: false,
        };
        let good = put("new", Expect::Any, &text("lab", 4, "hp1"));
        let bad = put("new", Expect::Any, &text("evil", 4, "hp1"));
        assert_eq!(together(&[good.clone(), rename("new", "corosync.conf")]), Ok(()));
        assert!(together(&[bad, rename("new", "corosync.conf")]).unwrap_err().contains("not 'evil'"));
        let removed = Err(ConfRefusal::Removed.to_string());
        assert_eq!(together(&[rename("corosync.conf", "away"), rename("away", "corosync.conf")]), removed);
        let twice = put("corosync.conf", Expect::Any, &text("lab", 4, "hp1"));
        let again = put("corosync.conf", Expect::Any, &(text("lab", 4, "hp1") + "\n"));
        assert!(together(&[twice, again]).unwrap_err().ends_with("set it to 5"));
        assert_eq!(together(&[good, put("other", Expect::Any, "x")]), Ok(()), "other files are free");
    }

    #[test]
    fn a_write_that_expects_another_version_is_left_to_the_tree() {
        assert_eq!(judged(&put("corosync.conf", Expect::Version(999), &text("lab", 3, "hp2"))), Ok(()));
    }

    #[test]
    fn a_file_in_the_tree_that_is_damaged_can_be_replaced() {
        let replica = replica(&[put("corosync.conf", Expect::Any, "junk")]);
        let name = "hp1".parse().expect("a name");
        let good = put("corosync.conf", Expect::Any, &text("lab", 1, "hp1"));
        assert_eq!(check(&good, replica.tree(), &member(), &name), Ok(()));
    }

    #[test]
    fn a_node_without_a_cluster_has_only_to_give_a_file_that_can_be_read() {
        let replica = replica(&[put("corosync.conf", Expect::Any, &text("lab", 3, "hp1"))]);
        let (name, alone) = ("hp9".parse().expect("a name"), Identity { node: None, cluster: String::new() });
        let judge = |operation: &Operation| check(operation, replica.tree(), &alone, &name);
        assert_eq!(judge(&put("corosync.conf", Expect::Any, &text("new", 1, "hp9"))), Ok(()));
        assert_eq!(judge(&Operation::Delete { path: path("corosync.conf"), expect: Expect::Any }), Ok(()));
        assert!(judge(&put("corosync.conf", Expect::Any, "junk")).is_err());
    }
}
