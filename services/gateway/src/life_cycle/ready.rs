//! Waiting until this node works: its ring has formed, it is quorate, its tree is in sync.
//!
//! Each step follows the daemon's own stream, where it has one, and has an end.

use std::time::Duration;

use quorate_daemon::client::deadline;
use quorate_proto::{
    config::v1::{self as config, get_status_response::State},
    membership::v1::{self as membership, RingState},
    quorum::v1::{self as quorum, QuorumStatus},
};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

use super::progress::Progress;
use crate::{
    absent,
    client::{Daemons, READ},
    refusal::Checks,
};

/// How long to wait for others.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the ring has formed and is quorate: a ring re-forms within a few token timeouts.
    pub ring: Duration,
    /// Until the tree is in sync: one of 128 MiB takes most of it. With [`Patience::ring`] it stays below
    /// the two minutes for which the command line waits, so that the reason of a failure is seen there.
    pub sync: Duration,
    /// Connecting to a member, TLS included.
    pub dial: Duration,
    /// A member's answer to AdmitNode, ConfirmNode or WithdrawNode: two writes to its tree.
    pub member: Duration,
    /// Confirming, with all its tries.
    pub confirm: Duration,
    /// A daemon of this node that is away while it is to reload: its supervisor starts it again.
    pub restart: Duration,
    /// Pause before a stream or a call is tried again.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            ring: Duration::from_secs(30),
            sync: Duration::from_secs(45),
            dial: Duration::from_secs(5),
            member: Duration::from_secs(45),
            confirm: Duration::from_secs(30),
            restart: Duration::from_secs(10),
            pause: Duration::from_millis(100),
        }
    }
}

/// What did not come about in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// Stable name, in UPPER_SNAKE.
    pub reason: &'static str,
    /// What was waited for, how long, and how things stood at the end.
    pub description: String,
}

/// Waits until this node's ring is operational, it is quorate, and its tree is in sync; tells each step.
///
/// # Errors
/// [`NotReady`] for the first step that did not come about in time.
pub async fn wait(
    daemons: &Daemons,
    patience: &Patience,
    progress: Option<&Progress>,
) -> Result<(), NotReady> {
    let Patience { ring: limit, pause, .. } = *patience;
    let end = Instant::now() + limit;
    tell(progress, "waiting for the ring").await;
    if timeout_at(end, ring(daemons, pause)).await.is_err() {
        return Err(NotReady { reason: "RING_TIMEOUT", description: ring_state(daemons, limit).await });
    }
    tell(progress, "waiting for quorum").await;
    if timeout_at(end, quorate(daemons, pause)).await.is_err() {
        return Err(NotReady { reason: "QUORUM_TIMEOUT", description: quorum_state(daemons, limit).await });
    }
    tell(progress, "waiting for the configuration tree").await;
    let limit = patience.sync;
    if timeout(limit, in_sync(daemons, pause)).await.is_err() {
        return Err(NotReady { reason: "SYNC_TIMEOUT", description: tree_state(daemons, limit).await });
    }
    Ok(())
}

async fn tell(progress: Option<&Progress>, step: &str) {
    if let Some(progress) = progress {
        progress.step(step).await;
    }
}

async fn ring(daemons: &Daemons, pause: Duration) {
    loop {
        let request = membership::WatchConfigurationsRequest {};
        if let Ok(stream) = daemons.membership().watch_configurations(request).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(_)) = stream.message().await {
                if ring_now(daemons).await.is_ok_and(|ring| is_operational(&ring)) {
                    return;
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

fn is_operational(ring: &membership::GetStatusResponse) -> bool {
    ring.state() == RingState::Operational && ring.synchronised && ring.node_id != 0
}

async fn quorate(daemons: &Daemons, pause: Duration) {
    loop {
        if let Ok(stream) = daemons.quorum().watch(quorum::WatchRequest {}).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(answer)) = stream.message().await {
                if answer.status.is_some_and(|status| status.quorate) {
                    return;
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// configd has no stream of its state; it is asked again and again.
async fn in_sync(daemons: &Daemons, pause: Duration) {
    while !tree_now(daemons).await.is_ok_and(|tree| tree.state() == State::Synchronised) {
        tokio::time::sleep(pause).await;
    }
}

/// Notes each daemon that does not answer: none of the life cycle works without all of them.
pub async fn all_answer(daemons: &Daemons, checks: &mut Checks) {
    let (ring, votes, tree) = tokio::join!(ring_now(daemons), votes_now(daemons), tree_now(daemons));
    for (daemon, answer) in [("membershipd", ring.err()), ("quorumd", votes.err()), ("configd", tree.err())] {
        if let Some(status) = answer {
            let why = absent::message(daemons.root(), daemon, status.message());
            checks.fail("DAEMON_UNAVAILABLE", daemon, why);
        }
    }
}

/// What membershipd says of the ring.
///
/// # Errors
/// UNAVAILABLE if it does not answer.
pub async fn ring_now(daemons: &Daemons) -> Result<membership::GetStatusResponse, Status> {
    let request = deadline(membership::GetStatusRequest {}, READ);
    Ok(daemons.membership().get_status(request).await?.into_inner())
}

/// What quorumd says of the votes.
///
/// # Errors
/// UNAVAILABLE if it does not answer.
pub async fn votes_now(daemons: &Daemons) -> Result<QuorumStatus, Status> {
    let request = deadline(quorum::GetStatusRequest {}, READ);
    Ok(daemons.quorum().get_status(request).await?.into_inner().status.unwrap_or_default())
}

/// What configd says of the tree.
///
/// # Errors
/// UNAVAILABLE if it does not answer.
pub async fn tree_now(daemons: &Daemons) -> Result<config::GetStatusResponse, Status> {
    let request = deadline(config::GetStatusRequest {}, READ);
    Ok(daemons.config().get_status(request).await?.into_inner())
}

async fn ring_state(daemons: &Daemons, limit: Duration) -> String {
    let now = match ring_now(daemons).await {
        Ok(ring) => {
            let state = ring.state().as_str_name().trim_start_matches("RING_STATE_").to_lowercase();
            format!("it is in state {state} with members {:?}", ring.members)
        }
        Err(status) => format!("membershipd says: {}", status.message()),
    };
    format!("the ring did not form within {} s; {now}", limit.as_secs())
}

/// A ring of one node in a cluster of several: the network between them is the usual reason.
async fn quorum_state(daemons: &Daemons, limit: Duration) -> String {
    let votes = match votes_now(daemons).await {
        Ok(votes) => votes,
        Err(status) => {
            return format!("no quorum within {} s; quorumd says: {}", limit.as_secs(), status.message());
        }
    };
    let numbers = format!(
        "no quorum within {} s: {} of {} expected votes are present, {} are needed",
        limit.as_secs(),
        votes.total_votes,
        votes.expected_votes,
        votes.quorum
    );
    let members = super::online(&votes);
    if members.len() < 2 && votes.nodes.len() > 1 {
        let others: Vec<String> = votes
            .nodes
            .iter()
            .filter(|node| node.node_id != votes.node_id)
            .map(|node| format!("{} ({})", node.name, node.address))
            .collect();
        return format!(
            "{numbers}; this node's ring has no other member: no packets come through from {}. Check that UDP \
             port 5405 is open in both directions",
            others.join(", ")
        );
    }
    format!("{numbers}; {}", votes.reason)
}

async fn tree_state(daemons: &Daemons, limit: Duration) -> String {
    let now = match tree_now(daemons).await {
        Ok(tree) => {
            let state = tree.state().as_str_name().trim_start_matches("STATE_").to_lowercase();
            format!("it is {state} at version {}: {}", tree.version, tree.reason)
        }
        Err(status) => format!("configd says: {}", status.message()),
    };
    format!("the configuration tree was not in sync within {} s; {now}", limit.as_secs())
}
