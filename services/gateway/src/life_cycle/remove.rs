//! A member removes a node that is off for good. Source: pvecm specification, 4.5.
//!
//! Everything happens in one transaction of the tree: the node goes out of corosync.conf, its directory to the archive
//! (`remove/record.rs`), its tokens and keys away (`remove/traces.rs`), and the ring's new key comes (`rekey.rs`). So its
//! certificate is worthless, and its packets are not read any more, whatever it does. A node that is removed while it is in
//! the ring would read the new key with the others: there the key follows once the node is out.

pub mod record;
mod traces;

use std::time::SystemTime;

use corosync_conf::{ClusterConf, Node};
use quorate_daemon::status;
use quorate_proto::{
    gateway::v1::{RemoveNodeRequest, RemoveNodeResponse},
    quorum::v1::{QuorumStatus, quorum_node::State},
};
use tonic::{Code, Status};

use self::{
    record::{DIRECTORY, Removed},
    traces::Traces,
};
use super::{
    ThisNode,
    conf::{self, Present},
    counted, journal, online,
    rekey::{self, NotNow},
};
use crate::{
    batch::{BATCH_MAX, Batch},
    ca,
    fingerprint::Fingerprint,
    refusal::Checks,
    token::unix_seconds,
    tree,
};

/// Everything decided before anything is written.
struct Plan {
    present: Present,
    target: Node,
    is_online: bool,
    record: Removed,
    traces: Traces,
    /// Whether the ring gets a new key with the removal.
    key: Result<(), NotNow>,
    /// Directories on the way to the archive that do not exist.
    directories: Vec<&'static str>,
}

/// Removes a node by its name or one of its addresses, on behalf of `caller`.
///
/// # Errors
/// NOT_FOUND, reason `NODE_UNKNOWN`; FAILED_PRECONDITION, reason `NOT_IN_CLUSTER`, `NODE_IS_LOCAL`,
/// `NOT_QUORATE`, `NODE_ONLINE` or `QUORUM_WOULD_BE_LOST`; ABORTED if others change the same all the time; what configd says.
pub async fn remove(
    node: &ThisNode,
    caller: &str,
    request: &RemoveNodeRequest,
) -> Result<RemoveNodeResponse, Status> {
    let what = format!("cannot remove node '{}'", request.node);
    for _ in 0..conf::TRIES {
        let mut plan = make(node, &what, request).await?;
        if request.validate_only {
            return Ok(plan.answer(plan.present.conf.totem.config_version, false));
        }
        let Some(config_version) = plan.write(node, &what).await? else { continue };
        let name = plan.target.name.as_str();
        tracing::info!(name, node_id = %plan.target.id, config_version, caller, "node removed");
        journal::note(
            node,
            caller,
            &format!("node '{name}' (id {}) removed from the cluster", plan.target.id),
        )
        .await;
        plan.move_the_rest(node).await;
        counted::without(node, plan.target.id).await;
        let key_changed = plan.key.is_ok() || plan.is_online && follow_up(node).await;
        return Ok(plan.answer(config_version, key_changed));
    }
    Err(conf::contended(&what))
}

async fn make(node: &ThisNode, what: &str, request: &RemoveNodeRequest) -> Result<Plan, Status> {
    let present = conf::read(&node.tree, what).await?;
    let target = find(&present.conf, &request.node, what)?.clone();
    let votes = node.require_quorum(what).await?;
    let is_online = online(&votes).contains(&target.id.get());
    let mut checks = Checks::default();
    check(node, &present.conf, &target, &votes, request.force, &mut checks);
    checks.finish(what)?;
    let name = target.name.as_str();
    let archive = record::archive(name, present.next_version());
    let addresses: Vec<String> = target.addresses.values().cloned().collect();
    let traces = traces::of(&node.tree, name, &addresses, &archive).await?;
    // With the key in one transaction a node in the ring would read it.
    let possible = rekey::is_possible(&present.conf, &votes, Some(name));
    let key = if is_online { possible.and(Err(NotNow::WouldBeRead)) } else { possible };
    let record = Removed {
        name: name.to_owned(),
        node_id: target.id.get(),
        addresses,
        config_version: present.next_version(),
        removed: unix_seconds(SystemTime::now()),
        removed_by: node.name.to_string(),
        certificate: certificate(node, name).await?,
        key_due: key.as_ref().is_err_and(NotNow::is_due_later),
    };
    let there: Vec<String> = node.tree.list("").await?.into_iter().map(|entry| entry.path).collect();
    let directories =
        ["priv", DIRECTORY].into_iter().filter(|needed| !there.iter().any(|path| path == needed));
    Ok(Plan { target, is_online, record, traces, key, directories: directories.collect(), present })
}

/// Everything that speaks against removing the node.
fn check(
    node: &ThisNode,
    conf: &ClusterConf,
    target: &Node,
    votes: &QuorumStatus,
    force: bool,
    checks: &mut Checks,
) {
    let name = &target.name;
    if *name == node.name {
        let why = "it is the node that you are on; run this on another member";
        return checks.fail("NODE_IS_LOCAL", name, why);
    }
    let is_online = online(votes).contains(&target.id.get());
    if is_online && !force {
        let why = "it is online; switch it off for good first (with its old configuration it should never come back on this \
                   network), or use --force";
        checks.fail("NODE_ONLINE", name, why);
    }
    let stay = |known: &&Node| known.id != target.id;
    let expected: u32 = conf.nodes.iter().filter(stay).map(|known| known.votes).sum();
    let present: u32 = votes
        .nodes
        .iter()
        .filter(|known| known.state() == State::Member && known.node_id != target.id.get())
        .map(|known| known.votes)
        .sum();
    if is_online && present < expected / 2 + 1 {
        let why = format!(
            "the nodes that stay have {expected} votes, of which {present} are present, {} would be needed: the cluster would \
             lose its quorum; bring members back first, or remove those that are off before this one",
            expected / 2 + 1
        );
        checks.fail("QUORUM_WOULD_BE_LOST", name, why);
    }
}

async fn certificate(node: &ThisNode, name: &str) -> Result<String, Status> {
    let file = node.tree.read(&tree::certificate_path(name)).await?;
    let found = file.and_then(|file| ca::certificates(&file.text()).ok());
    Ok(found.map(|found| Fingerprint::of(&found[0]).to_string()).unwrap_or_default())
}

impl Plan {
    /// Writes all in one transaction, but what exceeds it; `None` if the tree has changed since the plan was made.
    async fn write(&mut self, node: &ThisNode, what: &str) -> Result<Option<u64>, Status> {
        let mut batch = Batch::default();
        self.directories.iter().for_each(|path| batch.make_directory(*path));
        let archive = self.record.archive();
        batch.make_directory(&archive);
        batch.put(record::path(&archive), self.record.to_json(), None);
        if self.key.is_ok() {
            rekey::add(&mut batch, &self.present);
        }
        batch.append(self.traces.credentials.clone());
        // One more change is that of corosync.conf.
        let room = BATCH_MAX.saturating_sub(batch.len() + 1);
        let mut moves = self.traces.moves.clone();
        batch.append(moves.take(room));
        let removed = self.present.tree.remove_node(self.target.name.as_str());
        removed.map_err(|mistake| Status::invalid_argument(mistake.to_string()))?;
        let written = conf::write(&node.tree, what, &mut self.present, batch).await?;
        self.traces.moves = moves;
        Ok(written.map(|written| written.config_version))
    }

    /// The part of a large directory that is beyond one transaction. The node is out already: what fails is told.
    async fn move_the_rest(&mut self, node: &ThisNode) {
        while !self.traces.moves.is_empty() {
            let some = self.traces.moves.take(BATCH_MAX);
            if let Err(status) = node.tree.transact(some).await {
                let name = &self.target.name;
                tracing::warn!(%name, reason = status.message(), "part of its directory stays");
                self.traces.steps.push(format!("part of nodes/{name} stays: {}", status.message()));
                return;
            }
        }
    }

    fn answer(&self, config_version: u64, key_changed: bool) -> RemoveNodeResponse {
        RemoveNodeResponse {
            config_version,
            hints: self.hints(key_changed),
            archive: self.record.archive(),
            key_changed,
            steps: self.steps(),
            guests: self.traces.guests.clone(),
        }
    }

    fn steps(&self) -> Vec<String> {
        let name = &self.target.name;
        let mut steps = vec![
            format!(
                "node '{name}' (id {}, {} vote(s)) goes out of corosync.conf",
                self.target.id, self.target.votes
            ),
            format!("nodes/{name} is moved to {}/node; its certificate is worthless", self.record.archive()),
        ];
        steps.extend(self.traces.steps.iter().cloned());
        steps.push(match &self.key {
            Ok(()) => "the ring gets a new key".to_owned(),
            Err(not_now) => not_now.describe(),
        });
        steps
    }

    /// What is left for the operator.
    fn hints(&self, key_changed: bool) -> Vec<String> {
        let (name, archive) = (&self.target.name, self.record.archive());
        let mut hints = vec![format!(
            "'{name}' cannot do harm when it starts again, but takes part in nothing: to use it anew, remove its \
             etc/corosync and var/lib/quorate, or install it anew, and join it with 'pvecm add'"
        )];
        if !key_changed && let Err(not_now) = &self.key {
            hints.push(not_now.describe());
        }
        if let Some(first) = self.traces.guests.first() {
            let vmid = first.split(' ').next().unwrap_or_default();
            hints.push(format!(
                "{} guest(s) were configured on '{name}': {}; their files are below {archive}/node, and come back with 'pvecm cfg \
                 mv {archive}/node/qemu-server/{vmid}.conf nodes/NODE/qemu-server/{vmid}.conf'",
                self.traces.guests.len(),
                self.traces.guests.join(", ")
            ));
        }
        hints.extend(
            self.traces
                .named_in
                .iter()
                .map(|path| format!("{path} still names '{name}'; look whether it should")),
        );
        hints.push(format!("{archive} can be deleted when it is not needed: 'pvecm cfg rm -r {archive}'"));
        hints
    }
}

/// The new key that was put off because the node could have read it; says whether it came.
async fn follow_up(node: &ThisNode) -> bool {
    match rekey::catch_up(node).await {
        Ok(done) => done,
        Err(status) => {
            tracing::warn!(reason = status.message(), "the ring keeps its key until all members are there");
            false
        }
    }
}

fn find<'a>(conf: &'a ClusterConf, named: &str, what: &str) -> Result<&'a Node, Status> {
    let by_address =
        || conf.nodes.iter().find(|node| node.addresses.values().any(|a| same_address(a, named)));
    conf.node_named(named).or_else(by_address).ok_or_else(|| {
        let known: Vec<&str> = conf.nodes.iter().map(|node| node.name.as_str()).collect();
        let message = format!(
            "{what}: no node of this cluster has that name or address; there are {}",
            known.join(", ")
        );
        status::error(Code::NotFound, "NODE_UNKNOWN", message, [("known", known.join(","))])
    })
}

fn same_address(one: &str, other: &str) -> bool {
    let parsed = |text: &str| text.parse::<std::net::IpAddr>().ok();
    one.eq_ignore_ascii_case(other) || parsed(one).is_some_and(|address| parsed(other) == Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "totem {\n version: 2\n cluster_name: demo\n config_version: 2\n}\nnodelist {\n node {\n \
        name: n1\n nodeid: 1\n ring0_addr: 10.0.0.1\n }\n node {\n name: n2\n nodeid: 2\n ring0_addr: fd00::2\n }\n}\n\
        quorum {\n provider: corosync_votequorum\n}\n";

    #[test]
    fn a_node_is_found_by_name_and_by_any_spelling_of_an_address() {
        let conf = ClusterConf::parse(CONF).unwrap();
        for named in ["n2", "fd00::2", "fd00:0:0::2"] {
            assert_eq!(find(&conf, named, "x").unwrap().id.get(), 2, "{named}");
        }
    }

    #[test]
    fn an_unknown_node_is_refused_with_those_that_are_known() {
        let conf = ClusterConf::parse(CONF).unwrap();
        let status = find(&conf, "n9", "cannot remove node 'n9'").unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().ends_with("there are n1, n2"), "{}", status.message());
    }
}
