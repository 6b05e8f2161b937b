//! Waiting for conditions, with a deadline and a word on what was seen.

use std::{fmt::Display, time::Duration};

use playground::{
    Node,
    votes::{Votes, members},
};
use quorate_proto::quorum::v1::QuorumStatus;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::PATIENCE;

/// How often something is looked at that has no stream.
const EVERY: Duration = Duration::from_millis(50);

/// Looks until it sees what is wanted (`Ok`), which it gives; panics with what it saw last (`Err`) after
/// [`PATIENCE`].
pub async fn until<T, S: Display>(what: &str, mut look: impl AsyncFnMut() -> Result<T, S>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = "nothing".to_owned();
    loop {
        every.tick().await;
        match timeout_at(deadline, look()).await {
            Ok(Ok(seen)) => return seen,
            Ok(Err(seen)) => last = seen.to_string(),
            Err(_) => {}
        }
        assert!(
            Instant::now() < deadline,
            "gave up after {PATIENCE:?} waiting for {what}; last seen: {last}"
        );
    }
}

/// Opens the stream of a node's votes; while its gateway is away, tries again.
pub async fn votes(node: &Node) -> Votes {
    until("the stream of votes", async || Votes::of(node).await.map_err(|status| status.message().to_owned()))
        .await
}

/// Waits until a node's votes are as wanted; a stream that breaks is opened again.
pub async fn votes_until(node: &Node, what: &str, wanted: impl Fn(&QuorumStatus) -> bool) -> QuorumStatus {
    until(what, async || votes(node).await.until(what, PATIENCE, &wanted).await).await
}

/// Waits until each of these nodes is quorate with exactly these members.
pub async fn quorate_with(nodes: &[&Node], expected: &[u32]) {
    for node in nodes {
        let what = format!("{} is quorate with members {expected:?}", node.name());
        votes_until(node, &what, |status| status.quorate && members(status) == expected).await;
    }
}
