//! The operator's override of the expected votes: told to quorumd, noted in the cluster log and in the tree.
//!
//! quorumd decides; here stands what is around it. An override may be what makes this node quorate, so its note in the tree
//! is written after it, as soon as the tree takes it.

use std::time::{Duration, SystemTime};

use quorate_daemon::{client::deadline, status};
use quorate_proto::{
    gateway::v1::{OverrideVotesRequest, OverrideVotesResponse},
    quorum::v1::{GetStatusRequest, QuorumStatus, SetExpectedRequest, quorum_node::State},
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::{ThisNode, journal, ready::tree_now};
use crate::{
    client::{READ, WRITE},
    refusal::{NOTHING_CHANGED, prefixed},
    token::unix_seconds,
};

/// How long an override counts unless told otherwise: long enough to remove nodes or to bring them back.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// Where the tree keeps what was overridden: a line each, with their history.
pub const NOTES: &str = "priv/quorate/overrides.log";
/// Lines that are kept.
const NOTES_MAX: usize = 200;

/// Overrides the expected votes on behalf of `caller`.
///
/// # Errors
/// INVALID_ARGUMENT, reason `TOO_FEW_EXPECTED_VOTES` and others of quorumd; FAILED_PRECONDITION, reason `NO_RING`.
pub async fn expect(
    node: &ThisNode,
    caller: &str,
    request: &OverrideVotesRequest,
) -> Result<OverrideVotesResponse, Status> {
    let votes = request.expected_votes;
    let what = format!("cannot expect {votes} votes");
    let lifetime = request.lifetime.map_or(LIFETIME_DEFAULT, |it| Duration::try_from(it).unwrap_or_default());
    let answer = node.daemons.quorum().get_status(deadline(GetStatusRequest {}, READ)).await;
    let before = answer.map_err(|status| prefixed(&what, &status))?.into_inner().status.unwrap_or_default();
    if request.validate_only {
        return judged(&what, votes, lifetime, &before);
    }
    let lifetime = prost_types::Duration::try_from(lifetime).ok();
    let message = SetExpectedRequest { expected_votes: votes, lifetime };
    let answer = node.daemons.quorum().set_expected(deadline(message, WRITE)).await;
    let after = answer.map_err(|status| prefixed(&what, &status))?.into_inner().status.unwrap_or_default();
    let missing = missing(&before);
    let note = note(node, caller, votes, &missing, &after);
    journal::note(node, caller, &note).await;
    if after.quorate && !keep(node, &note).await {
        tracing::warn!(path = NOTES, "the override is not noted in the tree");
    }
    Ok(answer_of(&after, expires(&after), missing))
}

fn expires(status: &QuorumStatus) -> Option<prost_types::Timestamp> {
    status.expected_override?.expires
}

fn answer_of(
    status: &QuorumStatus,
    expires: Option<prost_types::Timestamp>,
    missing: Vec<String>,
) -> OverrideVotesResponse {
    OverrideVotesResponse {
        expected_votes: status.expected_votes,
        total_votes: status.total_votes,
        quorum: status.quorum,
        quorate: status.quorate,
        expires,
        missing,
    }
}

/// What would come of it. Source of the rules: pvecm specification, 4.8.
fn judged(
    what: &str,
    votes: u32,
    lifetime: Duration,
    now: &QuorumStatus,
) -> Result<OverrideVotesResponse, Status> {
    let present = now.total_votes;
    let quorum = votes.max(present) / 2 + 1;
    let refused = |code, reason, why: String| {
        let metadata = [("expected_votes", votes), ("present_votes", present)];
        Err(status::error(code, reason, format!("{what}: {why}; {NOTHING_CHANGED}"), metadata))
    };
    if !now.ring_present {
        let why = format!("the votes present are not known: {}", now.reason);
        return refused(Code::FailedPrecondition, "NO_RING", why);
    }
    if votes < present.max(1) {
        let why = format!("that is less than the {present} votes present; give {present} or more");
        return refused(Code::InvalidArgument, "TOO_FEW_EXPECTED_VOTES", why);
    }
    if now.quorate && quorum > present {
        let why = format!("the quorum would be {quorum}, more than the {present} votes present; give fewer");
        return refused(Code::InvalidArgument, "TOO_MANY_EXPECTED_VOTES", why);
    }
    let after = QuorumStatus {
        expected_votes: votes,
        total_votes: present,
        quorum,
        quorate: present >= quorum,
        ..QuorumStatus::default()
    };
    let expires = (!lifetime.is_zero()).then(|| SystemTime::now().checked_add(lifetime)).flatten();
    Ok(answer_of(&after, expires.map(Into::into), missing(now)))
}

/// Names of the nodes that are configured and not there.
fn missing(status: &QuorumStatus) -> Vec<String> {
    let missing = status.nodes.iter().filter(|node| node.state() != State::Member && !node.name.is_empty());
    missing.map(|node| node.name.clone()).collect()
}

fn note(node: &ThisNode, caller: &str, votes: u32, missing: &[String], after: &QuorumStatus) -> String {
    let until = match expires(after) {
        Some(end) => format!("until {} (Unix seconds)", end.seconds),
        None => "until the next restart or configuration change".to_owned(),
    };
    let missing = if missing.is_empty() { "nobody".to_owned() } else { missing.join(", ") };
    format!("expected votes set to {votes} on '{}' by {caller}, {until}; missing: {missing}", node.name)
}

/// Adds a line to the notes once the tree can be written; whether it did.
async fn keep(node: &ThisNode, note: &str) -> bool {
    let written = async {
        loop {
            let writable = tree_now(&node.daemons).await.is_ok_and(|tree| tree.reason.is_empty());
            if writable && add(node, note).await.is_ok() {
                return;
            }
            sleep(node.patience.pause).await;
        }
    };
    timeout(node.patience.confirm, written).await.is_ok()
}

async fn add(node: &ThisNode, note: &str) -> Result<(), Status> {
    let present = node.tree.read(NOTES).await?;
    let (text, version) = present.map_or((String::new(), 0), |file| (file.text(), file.version));
    let line = format!("{} {note}", unix_seconds(SystemTime::now()));
    let lines: Vec<&str> = text.lines().chain([line.as_str()]).collect();
    let kept = &lines[lines.len().saturating_sub(NOTES_MAX)..];
    node.tree.write(NOTES, kept.join("\n") + "\n", Some(version)).await
}

#[cfg(test)]
mod tests {
    use quorate_proto::quorum::v1::QuorumNode;

    use super::*;

    fn status(total_votes: u32, quorate: bool) -> QuorumStatus {
        let node = |name: &str, state: State| QuorumNode {
            name: name.into(),
            state: state.into(),
            ..QuorumNode::default()
        };
        let nodes = vec![node("n1", State::Member), node("n2", State::Dead)];
        QuorumStatus { total_votes, quorate, ring_present: true, nodes, ..QuorumStatus::default() }
    }

    #[test]
    fn a_dry_run_judges_as_quorumd_does() {
        let judged = |votes, status: &QuorumStatus| judged("x", votes, Duration::from_secs(60), status);
        let reason = |result: Result<_, Status>| status::reason(&result.err().unwrap()).unwrap().reason;
        let blocked = status(1, false);
        let answer = judged(1, &blocked).unwrap();
        assert_eq!((answer.quorate, answer.quorum, answer.missing), (true, 1, vec!["n2".to_owned()]));
        assert!(answer.expires.is_some());
        assert_eq!(reason(judged(1, &status(2, true))), "TOO_FEW_EXPECTED_VOTES");
        assert_eq!(reason(judged(4, &status(2, true))), "TOO_MANY_EXPECTED_VOTES");
        assert!(!judged(4, &status(2, false)).unwrap().quorate, "it is not quorate before, either");
        assert_eq!(reason(judged(1, &QuorumStatus::default())), "NO_RING");
    }
}
