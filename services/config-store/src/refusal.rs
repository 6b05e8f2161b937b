//! Why a write was refused, in words that say what is missing and what to do, and the same for programs.

use config_store_core::{Replica, RequestError, Shortfall, State};
use quorate_proto::quorum::v1::QuorumStatus;
use quorate_types::NodeId;

use crate::error::Error;

/// The error for a caller.
pub(crate) fn explain(error: RequestError, votes: Option<&QuorumStatus>, store: Option<&str>) -> Error {
    let (context, metadata) = match &error {
        RequestError::NotQuorate(shortfall) => (not_quorate(shortfall, votes), numbers(shortfall, votes)),
        RequestError::Refused(_) => ("nothing was changed".to_owned(), Vec::new()),
        RequestError::OutcomeUnknown if store.is_some() => {
            let why = store.unwrap_or_default();
            let text = format!(
                "this node's store failed while the write was under way, and whether it happened is not known; look \
                 again when the store works: {why}"
            );
            (text, Vec::new())
        }
        RequestError::OutcomeUnknown => {
            let text = "the cluster changed while the write was under way, and whether it happened is not known; \
                        read the file again, or repeat the write with the same request id";
            (text.to_owned(), Vec::new())
        }
        RequestError::DeadlineExceeded => {
            let text =
                "the replicas are still comparing their trees; nothing was changed, try again in a moment";
            (text.to_owned(), Vec::new())
        }
        RequestError::Overloaded => {
            ("too many writes are waiting; nothing was changed, try again in a moment".to_owned(), Vec::new())
        }
        RequestError::StoreFailed => {
            let why = store.unwrap_or("the disk refused a write");
            (
                format!(
                    "this node cannot write its copy of the tree and is read-only: {why}; free space or replace the disk, the daemon tries again by itself"
                ),
                Vec::new(),
            )
        }
    };
    match error {
        RequestError::Refused(operation) => Error::Entry(operation),
        error => Error::Request { context, error: Box::new(error), metadata },
    }
}

/// Votes present, votes needed, who is missing and since when.
fn not_quorate(shortfall: &Shortfall, votes: Option<&QuorumStatus>) -> String {
    let Some(votes) = votes else {
        return "the cluster's votes are not known (quorumd does not answer), so the configuration is read-only".to_owned();
    };
    if !votes.reason.is_empty() {
        return format!("no quorum, the configuration is read-only: {}", votes.reason);
    }
    if !shortfall.forgot.is_empty() {
        return forgot(shortfall, votes);
    }
    if shortfall.without_replica.is_empty() {
        return "the configuration is read-only until this node's replica has joined the others".to_owned();
    }
    let silent: Vec<_> = shortfall.without_replica.iter().map(|node| name(node.get(), votes)).collect();
    format!(
        "the ring is quorate, but replicas with {} of {} votes are there, {} are needed; configd is missing on {}",
        shortfall.votes_present,
        shortfall.expected_votes,
        shortfall.votes_needed,
        silent.join(", ")
    )
}

/// Members came back with a new disk, and those that are away may have the only copy of what they acknowledged.
fn forgot(shortfall: &Shortfall, votes: &QuorumStatus) -> String {
    let names =
        |nodes: &[NodeId]| -> Vec<String> { nodes.iter().map(|node| name(node.get(), votes)).collect() };
    let away =
        if shortfall.absent.is_empty() { "a backup".to_owned() } else { names(&shortfall.absent).join(", ") };
    format!(
        "the configuration is read-only: the store of {} is new and what it once acknowledged may be nowhere else but on {away}; \
         start {away}, or, if nothing else is left, lower the expected votes (pvecm expected) to go on with what there is",
        names(&shortfall.forgot).join(", ")
    )
}

fn name(node: u32, votes: &QuorumStatus) -> String {
    let known = votes.nodes.iter().find(|known| known.node_id == node).filter(|known| !known.name.is_empty());
    known.map_or_else(|| format!("node {node}"), |known| known.name.clone())
}

fn numbers(shortfall: &Shortfall, votes: Option<&QuorumStatus>) -> Vec<(&'static str, String)> {
    let (present, needed, expected) = match votes {
        Some(votes) if !votes.quorate => (votes.total_votes, votes.quorum, votes.expected_votes),
        _ => (shortfall.votes_present, shortfall.votes_needed, shortfall.expected_votes),
    };
    let missing: Vec<_> = votes
        .map(|votes| {
            shortfall
                .absent
                .iter()
                .chain(&shortfall.without_replica)
                .map(|node| name(node.get(), votes))
                .collect()
        })
        .unwrap_or_default();
    vec![
        ("votes_present", present.to_string()),
        ("votes_needed", needed.to_string()),
        ("votes_expected", expected.to_string()),
        ("missing", missing.join(",")),
    ]
}

/// Why the replica is not writable, in one sentence; empty if it is.
pub(crate) fn state_reason(replica: &Replica, votes: Option<&QuorumStatus>, store: Option<&str>) -> String {
    match replica.state() {
        State::Local | State::Synced => String::new(),
        State::Synchronising => "the replicas are comparing their trees".to_owned(),
        State::Failed => store.unwrap_or("the disk refused a write").to_owned(),
        State::Alone | State::NotQuorate => not_quorate(&replica.shortfall(), votes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::quorum::v1::QuorumNode;

    #[test]
    fn no_quorum_names_the_votes_and_the_missing() {
        let votes = QuorumStatus {
            total_votes: 1,
            quorum: 2,
            expected_votes: 3,
            reason: "2 of 3 votes needed, 1 present; missing: hp2 (since 12:30:13 UTC, lost)".to_owned(),
            nodes: vec![QuorumNode { node_id: 2, name: "hp2".to_owned(), ..QuorumNode::default() }],
            ..QuorumStatus::default()
        };
        let shortfall = Shortfall { absent: vec![NodeId::new(2).expect("not 0")], ..Shortfall::default() };

        let error = explain(RequestError::NotQuorate(shortfall), Some(&votes), None);

        assert!(error.to_string().contains("missing: hp2 (since 12:30:13 UTC, lost)"), "{error}");
        match error {
            Error::Request { metadata, .. } => {
                assert!(metadata.contains(&("missing", "hp2".to_owned())), "{metadata:?}")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_write_that_was_under_way_when_the_store_failed_says_so() {
        let why = Some("No space left on device");
        let error = explain(RequestError::OutcomeUnknown, None, why).to_string();
        assert!(error.contains("store failed") && error.contains("No space left on device"), "{error}");
        let error = explain(RequestError::OutcomeUnknown, None, None).to_string();
        assert!(error.contains("the cluster changed"), "{error}");
    }

    #[test]
    fn a_failed_store_says_what_the_disk_said() {
        let error = explain(RequestError::StoreFailed, None, Some("No space left on device"));
        assert!(error.to_string().contains("No space left on device"), "{error}");
    }
}
