//! The generated files' content, from the status store and the index.

use std::{sync::atomic::Ordering, time::Instant};

use bytes::Bytes;

use super::{Status, cluster::Cluster};
use crate::generated::{
    self, Generated, GeneratedFile, LOG_ENTRIES, Member, Members, Version, clusterlog, members, rrd, vmlist,
};

impl Generated for Status {
    fn content(&self, file: GeneratedFile) -> Bytes {
        match file {
            GeneratedFile::Version => self.version_text().into(),
            GeneratedFile::Members => self.members_text().into(),
            GeneratedFile::Vmlist => {
                let (version, guests) = self.guests();
                vmlist(version, &guests).into()
            }
            GeneratedFile::Clusterlog => {
                clusterlog(self.store().log().newest_first().take(LOG_ENTRIES)).into()
            }
            GeneratedFile::Rrd => rrd(self.store().figures(Instant::now())).into(),
            GeneratedFile::Debug => Bytes::from_static(if self.debug() { b"1\n" } else { b"0\n" }),
        }
    }

    fn set_debug(&self, on: bool) {
        self.0.debug.store(on, Ordering::Relaxed);
        quorate_daemon::telemetry::set_debug(on);
        tracing::info!(on, "debug messages, as .debug says");
    }
}

impl Status {
    /// Whether debug messages are asked for.
    pub(crate) fn debug(&self) -> bool {
        self.0.debug.load(Ordering::Relaxed)
    }

    /// Version of `.members`. It is a sum of counters that only rise, so it rises with each of them.
    fn cluster_version(&self, cluster_changes: u64) -> u64 {
        self.store().changes() + cluster_changes + self.0.quorum_changes.load(Ordering::Acquire)
    }

    fn version_text(&self) -> String {
        let index = self.index();
        let cluster = self.cluster_version(index.cluster_changes());
        let (guests, paths) = (index.list_version(), index.paths());
        let values = self.values(index.cluster());
        generated::version(&Version { start: self.0.start, cluster, guests, paths, values })
    }

    /// Keys and counters of each node that has told anything, this one first. Nodes that corosync.conf does not list
    /// are left out.
    fn values(&self, cluster: Option<&Cluster>) -> Vec<(String, Vec<(String, u64)>)> {
        let store = self.store();
        let keys =
            |node| store.versions(node).map(|(key, version)| (key.to_owned(), version)).collect::<Vec<_>>();
        let nodes = cluster.map(Cluster::nodes).unwrap_or_default();
        let own = self.0.identities.name();
        let others = nodes.iter().filter(|node| node.name != *own);
        let told = others
            .map(|node| (node.name.to_string(), keys(Some(node.id))))
            .filter(|(_, keys)| !keys.is_empty());
        std::iter::once((own.to_string(), keys(None))).chain(told).collect()
    }

    fn members_text(&self) -> String {
        let index = self.index();
        let version = self.cluster_version(index.cluster_changes());
        let store = self.store();
        let cluster = index.cluster().map(|cluster| Members {
            name: cluster.name.clone(),
            config_version: cluster.config_version,
            quorate: self.0.quorate.load(Ordering::Acquire),
            nodes: cluster
                .nodes()
                .iter()
                .map(|node| Member {
                    name: node.name.to_string(),
                    id: node.id.get(),
                    online: store.members().contains(&node.id),
                    ip: store.address(node.id).map(str::to_owned),
                })
                .collect(),
        });
        members(self.0.identities.name().as_str(), version, cluster.as_ref())
    }
}
