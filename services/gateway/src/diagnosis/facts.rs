//! What this node finds out about itself.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use nix::sys::statvfs::statvfs;
use quorate_daemon::client::deadline;
use quorate_proto::{
    config::v1::get_status_response::State,
    gateway::v1::{LinkFacts, NodeFacts},
    membership::v1::ListLinksRequest,
};
use sha2::{Digest as _, Sha256};

use crate::{
    NAME,
    ca::CertificateFacts,
    client::READ,
    files,
    health::NodeHealth,
    life_cycle::{ThisNode, ready, view},
    tree::COROSYNC_CONF,
};

/// How often the disk is tried.
const TRIES: usize = 5;
/// What is written each time: a block of a file system.
const BLOCK: [u8; 4096] = [0; 4096];

/// All that this node knows of itself. What cannot be found out is left out.
pub(super) async fn collect(node: &ThisNode, health: &NodeHealth) -> NodeFacts {
    let received = SystemTime::now();
    let state_dir = node.root.state_dir(NAME);
    let (votes, tree, conf, links, daemons, sync_time) = tokio::join!(
        ready::votes_now(&node.daemons),
        ready::tree_now(&node.daemons),
        node.tree.read(COROSYNC_CONF),
        links(node),
        view::node(node, health),
        sync_time(state_dir.clone()),
    );
    let tree = tree.unwrap_or_default();
    let local = files::read(&node.root.corosync_conf()).ok().flatten();
    let identity = node.identity.current();
    let authority = identity.ca().and_then(|ca| CertificateFacts::from_der(ca).ok());
    NodeFacts {
        name: node.name.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        received: Some(received.into()),
        address: node.address.to_string(),
        local_conf: local.map(|text| digest(&String::from_utf8_lossy(&text))).unwrap_or_default(),
        cluster_conf: conf.ok().flatten().map(|file| digest(&file.text())).unwrap_or_default(),
        tree_synchronised: tree.state() == State::Synchronised,
        tree_version: tree.version,
        tree_checksum: tree.checksum,
        free_bytes: free_bytes(&state_dir),
        sync_time: sync_time.and_then(|time| time.try_into().ok()),
        certificate_ends: Some(identity.facts.not_after.into()),
        authority_ends: authority.map(|authority| authority.not_after.into()),
        daemons: daemons.daemons,
        links,
        quorate: votes.is_ok_and(|votes| votes.quorate),
        answered: Some(SystemTime::now().into()),
    }
}

/// SHA-256 of what a configuration says: how its lines are indented does not matter.
fn digest(text: &str) -> String {
    let mut hash = Sha256::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn links(node: &ThisNode) -> Vec<LinkFacts> {
    let answer = node.daemons.membership().list_links(deadline(ListLinksRequest {}, READ)).await;
    let links = answer.map(|answer| answer.into_inner().links).unwrap_or_default();
    let facts = links.into_iter().map(|link| LinkFacts {
        node_id: link.node_id,
        link: link.link,
        connected: link.connected,
        latency: link.latency,
        mtu: link.mtu,
    });
    facts.collect()
}

fn free_bytes(place: &Path) -> Option<u64> {
    let disk = statvfs(place).ok()?;
    Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// The median time until a block is on the disk; `None` if the disk takes none.
async fn sync_time(place: PathBuf) -> Option<Duration> {
    let path = place.join("disk-check");
    let tried = tokio::task::spawn_blocking(move || {
        let mut times = (0..TRIES).map(|_| sync_once(&path)).collect::<io::Result<Vec<Duration>>>();
        let _ = std::fs::remove_file(&path);
        if let Ok(times) = &mut times {
            times.sort_unstable();
        }
        times
    });
    tried.await.ok()?.ok()?.get(TRIES / 2).copied()
}

fn sync_once(path: &Path) -> io::Result<Duration> {
    let begun = Instant::now();
    let mut file = File::create(path)?;
    file.write_all(&BLOCK)?;
    file.sync_all()?;
    Ok(begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_configuration_is_indented_does_not_matter() {
        assert_eq!(digest("totem {\n  version: 2\n}\n"), digest("totem {\nversion: 2\n\n}"));
        assert_ne!(digest("totem {\n  version: 2\n}\n"), digest("totem {\n  version: 3\n}\n"));
    }

    #[tokio::test]
    async fn the_disk_is_tried_and_nothing_stays_on_it() {
        let place = tempfile::tempdir().unwrap();
        assert!(sync_time(place.path().to_owned()).await.is_some());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        assert_eq!(sync_time(place.path().join("nowhere")).await, None);
    }
}
