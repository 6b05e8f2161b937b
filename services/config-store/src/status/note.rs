//! What this daemon itself writes into the cluster log.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use config_store_core::status::LogDraft;
use quorate_types::NodeId;

use super::Status;

/// Something that operators of the cluster should read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notable {
    /// This daemon started.
    Started,
    /// This node has quorum from now on.
    QuorumGained,
    /// This node has no quorum any more.
    QuorumLost,
    /// Nodes came or went: their names, and all that are online now.
    NodesChanged {
        /// Who came.
        joined: Vec<String>,
        /// Who went.
        left: Vec<String>,
        /// Who is online now.
        online: Vec<String>,
    },
    /// The cluster's tree replaced this node's.
    TreeTakenOver {
        /// The version before.
        from: u64,
        /// The version now.
        version: u64,
    },
    /// This node's store could not be read and was moved away; the cluster fills a new one.
    StoreDamaged {
        /// Where the damaged one lies.
        path: PathBuf,
    },
    /// What this node wrote without the cluster was put aside.
    ConflictKept {
        /// How many entries.
        entries: usize,
    },
    /// A corosync.conf is not used, and the one before comes back.
    ConfTakenBack {
        /// `config_version` of the one that is not used.
        version: u64,
        /// Why.
        reason: String,
    },
}

impl Notable {
    /// Syslog's priority: notice for what somebody should look at, else information.
    fn priority(&self) -> u32 {
        match self {
            Self::StoreDamaged { .. } => 3,
            Self::ConflictKept { .. } | Self::ConfTakenBack { .. } => 4,
            Self::QuorumLost => 5,
            Self::NodesChanged { left, .. } if !left.is_empty() => 5,
            _ => 6,
        }
    }
}

impl fmt::Display for Notable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("starting cluster log"),
            Self::QuorumGained => f.write_str("node has quorum"),
            Self::QuorumLost => f.write_str("node lost quorum"),
            Self::NodesChanged { joined, left, online } => {
                for (names, what) in [(joined, "joined"), (left, "left")] {
                    if !names.is_empty() {
                        write!(f, "{what}: {}; ", names.join(", "))?;
                    }
                }
                write!(f, "online: {}", online.join(", "))
            }
            Self::TreeTakenOver { from, version } => {
                write!(f, "tree of version {version} taken over from the cluster, version {from} before")
            }
            Self::StoreDamaged { path } => {
                write!(
                    f,
                    "the store was damaged, is kept as {}, and is filled anew from the cluster",
                    path.display()
                )
            }
            Self::ConfTakenBack { version, reason } => {
                let back = version.saturating_add(1);
                write!(
                    f,
                    "corosync.conf of config_version {version} is not used: {reason}; the one before comes back as {back}"
                )
            }
            Self::ConflictKept { entries } => {
                write!(
                    f,
                    "{entries} entries that were written without the cluster are kept as a conflict copy"
                )
            }
        }
    }
}

impl Status {
    /// Writes into the cluster log.
    pub(crate) fn note(&self, notable: &Notable) {
        let draft = LogDraft {
            ident: "root".to_owned(),
            tag: "cluster".to_owned(),
            pid: std::process::id(),
            priority: notable.priority(),
            message: notable.to_string(),
        };
        if let Err(error) = self.log(draft) {
            tracing::warn!(%error, "not in the cluster log");
        }
    }

    /// Writes who came and went. Of those who knew each other before, the lowest one does so for all.
    pub(super) fn note_members(&self, own: Option<NodeId>, before: &[NodeId], now: &[NodeId]) {
        if !is_speaker(own, before, now) {
            return;
        }
        let name = |id: &NodeId| self.name_of(*id);
        let beyond = |these: &[NodeId], those: &[NodeId]| -> Vec<String> {
            these.iter().filter(|id| !those.contains(id)).map(name).collect()
        };
        self.note(&Notable::NodesChanged {
            joined: beyond(now, before),
            left: beyond(before, now),
            online: now.iter().map(name).collect(),
        });
    }
}

fn is_speaker(own: Option<NodeId>, before: &[NodeId], now: &[NodeId]) -> bool {
    let stayed: BTreeSet<NodeId> = before.iter().filter(|id| now.contains(id)).copied().collect();
    own.is_some() && stayed.first().copied() == own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u32]) -> Vec<NodeId> {
        ids.iter().map(|id| NodeId::new(*id).expect("not 0")).collect()
    }

    #[test]
    fn one_of_those_who_stayed_together_speaks_for_all() {
        let speaks = |own, before: &[u32], now: &[u32]| {
            is_speaker(ids(&[own]).first().copied(), &ids(before), &ids(now))
        };
        assert!(speaks(2, &[2, 3], &[1, 2, 3]));
        assert!(!speaks(3, &[2, 3], &[1, 2, 3]));
        assert!(!speaks(1, &[], &[1, 2, 3]), "a newcomer has seen nobody come");
        assert!(speaks(2, &[1, 2, 3], &[2, 3]));
        assert!(!speaks(1, &[1, 2], &[]), "this node itself left");
    }

    #[test]
    fn who_came_and_went_is_named() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let changed =
            Notable::NodesChanged { joined: names(&["c"]), left: names(&["b"]), online: names(&["a", "c"]) };
        assert_eq!(changed.to_string(), "joined: c; left: b; online: a, c");
    }
}
