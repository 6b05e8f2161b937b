//! Why a node is not quorate, in one sentence that names numbers, nodes and times.

use std::{fmt::Write as _, time::SystemTime};

use prost_types::Timestamp;
use quorate_proto::quorum::v1::{QuorumNode, QuorumStatus, quorum_node::State};

/// The sentence of a node that has a synchronised ring, but too few votes.
pub(crate) fn too_few_votes(status: &QuorumStatus, waits_for_all: bool, now: SystemTime) -> String {
    let QuorumStatus { quorum, total_votes, highest_expected, .. } = status;
    let mut text = if waits_for_all {
        format!(
            "all {highest_expected} votes must be seen once after a start (wait_for_all), {total_votes} present"
        )
    } else {
        format!("{quorum} of {highest_expected} votes needed, {total_votes} present")
    };
    let is_missing = |node: &&QuorumNode| node.state() != State::Member && node.votes > 0;
    for (index, node) in status.nodes.iter().filter(is_missing).enumerate() {
        text.push_str(if index == 0 { "; missing: " } else { ", " });
        write_missing(&mut text, node, now);
    }
    text
}

fn write_missing(text: &mut String, node: &QuorumNode, now: SystemTime) {
    if node.name.is_empty() {
        let _ = write!(text, "node {}", node.node_id);
    } else {
        text.push_str(&node.name);
    }
    let how = match node.state() {
        State::Leaving => "left cleanly",
        State::Dead => "lost",
        State::Unseen | State::Member | State::Unspecified => {
            text.push_str(" (not seen since quorumd started)");
            return;
        }
    };
    match node.since {
        Some(since) => _ = write!(text, " (since {}, {how})", time_of(since, now)),
        None => _ = write!(text, " ({how})"),
    }
}

/// `12:30:13 UTC`; with the date if that was not today.
fn time_of(since: Timestamp, now: SystemTime) -> String {
    let whole = |timestamp: Timestamp| Timestamp { nanos: 0, ..timestamp }.to_string();
    let (since, now) = (whole(since), whole(Timestamp::from(now)));
    match (since.split_once('T'), now.split_once('T')) {
        (Some((date, time)), Some((today, _))) => {
            let time = time.trim_end_matches('Z');
            if date == today { format!("{time} UTC") } else { format!("{date} {time} UTC") }
        }
        _ => since,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2026-11-23 12:30:00 UTC.
    const NOON: i64 = 1_795_437_000;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 5 })
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOON.unsigned_abs() + 60)
    }

    fn node(node_id: u32, name: &str, state: State, since: Option<Timestamp>) -> QuorumNode {
        QuorumNode {
            node_id,
            name: name.to_owned(),
            votes: 1,
            state: state.into(),
            since,
            ..Default::default()
        }
    }

    fn status(nodes: Vec<QuorumNode>) -> QuorumStatus {
        QuorumStatus { quorum: 2, total_votes: 1, highest_expected: 3, nodes, ..Default::default() }
    }

    #[test]
    fn missing_nodes_are_named_with_time_and_manner() {
        let status = status(vec![
            node(1, "hp1", State::Member, at(NOON)),
            node(2, "hp2", State::Dead, at(NOON + 13)),
            node(3, "hp3", State::Leaving, at(NOON + 11)),
        ]);

        assert_eq!(
            too_few_votes(&status, false, now()),
            "2 of 3 votes needed, 1 present; missing: hp2 (since 12:30:13 UTC, lost), \
             hp3 (since 12:30:11 UTC, left cleanly)"
        );
    }

    #[test]
    fn a_node_that_was_never_seen_says_so() {
        let status = status(vec![node(2, "hp2", State::Unseen, None), node(9, "", State::Unseen, None)]);

        assert_eq!(
            too_few_votes(&status, false, now()),
            "2 of 3 votes needed, 1 present; missing: hp2 (not seen since quorumd started), \
             node 9 (not seen since quorumd started)"
        );
    }

    #[test]
    fn a_loss_of_another_day_has_its_date() {
        let status = status(vec![node(2, "hp2", State::Dead, at(NOON - 86_400))]);

        assert!(too_few_votes(&status, false, now()).ends_with("hp2 (since 2026-11-22 12:30:00 UTC, lost)"));
    }

    #[test]
    fn wait_for_all_is_named() {
        let status = status(vec![node(2, "hp2", State::Unseen, None)]);

        let text = too_few_votes(&status, true, now());

        assert!(text.starts_with("all 3 votes must be seen once after a start (wait_for_all), 1 present; "));
    }

    #[test]
    fn nodes_without_votes_are_not_missed() {
        let mut joining = node(4, "hp4", State::Unseen, None);
        joining.votes = 0;

        assert_eq!(too_few_votes(&status(vec![joining]), false, now()), "2 of 3 votes needed, 1 present");
    }
}
