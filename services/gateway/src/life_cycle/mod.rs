//! The life cycle of the cluster: create it, let nodes join, remove them.
//!
//! | file | holds |
//! |---|---|
//! | `create.rs` | this node becomes the first of a cluster, or everything is as before |
//! | `join.rs`, `join/*.rs` | this node becomes a member of a cluster, or everything is as before |
//! | `admit.rs`, `confirm.rs`, `withdraw.rs` | what a member does for a joining node |
//! | `remove.rs`, `remove/*.rs` | a member removes another one |
//! | `removed.rs` | whether nodes that were removed still send |
//! | `rekey.rs` | a new key for the ring |
//! | `expected.rs` | the override of the expected votes |
//! | `token.rs` | join tokens: issue, list, revoke |
//! | `conf.rs` | corosync.conf: the first one, and changes of it in the tree |
//! | `counted.rs` | waiting until new votes are counted |
//! | `ready.rs` | waiting until ring, votes and tree of this node work |
//! | `local.rs` | this node's own files and the reloads that follow |
//! | `address.rs`, `guests.rs`, `space.rs` | preconditions |
//! | `journal.rs` | what the cluster log is told |
//! | `progress.rs` | what a join tells while it runs |
//! | `view.rs` | the cluster and this node as they are |
//!
//! Every operation makes all its checks first and reports what fails together. What is changed is
//! noted, and taken back if a later step fails; the error says what was undone.

pub mod address;
pub mod admit;
pub mod conf;
pub mod confirm;
mod counted;
pub mod create;
pub mod expected;
pub mod guests;
pub mod join;
mod journal;
pub mod local;
pub mod progress;
pub mod ready;
pub mod rekey;
pub mod remove;
pub mod removed;
pub mod space;
pub mod token;
pub mod view;
pub mod withdraw;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use quorate_daemon::{Root, client::deadline, status};
use quorate_proto::quorum::v1::{GetStatusRequest, QuorumStatus, quorum_node::State};
use quorate_types::NodeName;
use tokio::sync::{Mutex, MutexGuard};
use tonic::{Code, Status};

use crate::{
    ca::Subject,
    client::{Daemons, READ},
    identity::IdentityStore,
    refusal::{NOTHING_CHANGED, prefixed},
    tree::Tree,
};

/// This node: who it is, and its hands.
pub struct ThisNode {
    /// Where its files are.
    pub root: Root,
    /// Its name.
    pub name: NodeName,
    /// Its address on link 0.
    pub address: IpAddr,
    /// Port of its gateway.
    pub gateway_port: u16,
    /// Its other daemons.
    pub daemons: Daemons,
    /// The tree, through its configd.
    pub tree: Tree,
    /// Its key and certificate.
    pub identity: Arc<IdentityStore>,
    /// How long to wait for others.
    pub patience: ready::Patience,
    busy: Mutex<()>,
}

impl ThisNode {
    /// This node, with nothing under way; `gateway` is where its gateway listens.
    #[must_use]
    pub fn new(
        root: Root,
        name: NodeName,
        gateway: SocketAddr,
        identity: Arc<IdentityStore>,
        patience: ready::Patience,
    ) -> Self {
        let daemons = Daemons::new(&root);
        let tree = Tree::new(&daemons);
        let (address, gateway_port) = (gateway.ip(), gateway.port());
        let busy = Mutex::new(());
        Self { root, name, address, gateway_port, daemons, tree, identity, patience, busy }
    }

    /// Whom a certificate of this node is for.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject { name: self.name.clone(), addresses: vec![self.address] }
    }

    /// Where this node's gateway listens, as `address:port`.
    #[must_use]
    pub fn gateway(&self) -> String {
        SocketAddr::new(self.address, self.gateway_port).to_string()
    }

    /// Begins a change of this node's own membership; only one may be under way.
    ///
    /// # Errors
    /// ABORTED, reason `LIFE_CYCLE_BUSY`.
    pub fn begin(&self, what: &str) -> Result<MutexGuard<'_, ()>, Status> {
        self.busy.try_lock().map_err(|_| {
            let message = format!(
                "{what}: another create or join is under way on this node; wait for it to end and try again"
            );
            status::error(Code::Aborted, "LIFE_CYCLE_BUSY", message, [("node", &self.name)])
        })
    }

    /// The votes, if this node is quorate.
    ///
    /// # Errors
    /// FAILED_PRECONDITION, reason `NOT_QUORATE`, with the numbers; UNAVAILABLE if quorumd does not answer.
    pub async fn require_quorum(&self, what: &str) -> Result<QuorumStatus, Status> {
        let answer = self.daemons.quorum().get_status(deadline(GetStatusRequest {}, READ)).await;
        let answer =
            answer.map_err(|status| prefixed(&format!("{what}: quorumd does not answer"), &status))?;
        let votes = answer.into_inner().status.unwrap_or_default();
        if votes.quorate { Ok(votes) } else { Err(not_quorate(what, &votes)) }
    }
}

fn not_quorate(what: &str, votes: &QuorumStatus) -> Status {
    if !votes.ring_present && !votes.reason.is_empty() {
        // Nothing is known of the others: no override of votes would be of any use, or safe.
        let message = format!("{what}: no quorum: {}; {NOTHING_CHANGED}", votes.reason);
        return status::error(Code::FailedPrecondition, "NOT_QUORATE", message, [("", ""); 0]);
    }
    let missing: Vec<&str> = votes
        .nodes
        .iter()
        .filter(|node| node.state() != State::Member)
        .map(|node| node.name.as_str())
        .collect();
    let absent =
        if missing.is_empty() { String::new() } else { format!("; missing: {}", missing.join(", ")) };
    let message = format!(
        "{what}: no quorum: {} of {} expected votes are present, {} are needed{absent}; {NOTHING_CHANGED}. \
         Bring missing nodes back, or, if they are certainly powered off, run 'pvecm expected {}'",
        votes.total_votes,
        votes.expected_votes,
        votes.quorum,
        votes.total_votes.max(1),
    );
    let metadata = [
        ("votes", votes.total_votes.to_string()),
        ("expected_votes", votes.expected_votes.to_string()),
        ("quorum", votes.quorum.to_string()),
        ("missing", missing.join(",")),
    ];
    status::error(Code::FailedPrecondition, "NOT_QUORATE", message, metadata)
}

/// The ids of the nodes that are in the ring.
#[must_use]
pub fn online(votes: &QuorumStatus) -> BTreeSet<u32> {
    let members = votes.nodes.iter().filter(|node| node.state() == State::Member);
    members.map(|node| node.node_id).collect()
}

#[cfg(test)]
mod tests {
    use quorate_proto::quorum::v1::QuorumNode;

    use super::*;

    #[test]
    fn a_node_without_a_ring_is_told_why_and_never_to_override_votes() {
        let reason = "membershipd is not reachable: Connection refused".to_owned();
        let votes = QuorumStatus { expected_votes: 3, quorum: 2, reason, ..QuorumStatus::default() };
        let status = not_quorate("cannot issue a join token", &votes);
        assert!(status.message().contains("membershipd is not reachable"), "{}", status.message());
        assert!(!status.message().contains("expected"), "{}", status.message());
    }

    #[test]
    fn a_missing_quorum_is_told_with_votes_and_missing_nodes() {
        let node = |name: &str, state: State| QuorumNode {
            name: name.into(),
            state: state.into(),
            ..QuorumNode::default()
        };
        let votes = QuorumStatus {
            total_votes: 1,
            expected_votes: 3,
            quorum: 2,
            nodes: vec![node("n1", State::Member), node("n2", State::Dead), node("n3", State::Unseen)],
            ring_present: true,
            ..QuorumStatus::default()
        };

        let status = not_quorate("cannot remove node 'n2'", &votes);

        let read = quorate_daemon::status::reason(&status).unwrap();
        assert_eq!(read.reason, "NOT_QUORATE");
        assert_eq!(read.metadata["missing"], "n2,n3");
        assert!(status.message().contains("1 of 3 expected votes are present, 2 are needed"));
    }
}
