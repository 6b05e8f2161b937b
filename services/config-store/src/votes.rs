//! From quorumd's state to what the replica needs to know of it.

use config_store_core::QuorumView;
use quorate_proto::quorum::v1::{QuorumNode, QuorumStatus, quorum_node::State};
use quorate_types::NodeId;

/// The votes of the present ring; `None` while there is no ring that was counted.
pub(crate) fn view(status: &QuorumStatus) -> Option<QuorumView> {
    if !status.ring_present {
        return None;
    }
    let is_member = |node: &&QuorumNode| node.state() == State::Member;
    let id = |node: &QuorumNode| NodeId::new(node.node_id).ok();
    let votes = status.nodes.iter().filter(is_member).filter_map(|node| Some((id(node)?, node.votes)));
    let absent = status.nodes.iter().filter(|node| !is_member(node) && !node.name.is_empty()).filter_map(id);
    Some(QuorumView {
        ring: status.ring?.into(),
        quorate: status.quorate,
        expected_votes: status.expected_votes,
        quorum: status.quorum,
        votes: votes.collect(),
        absent: absent.collect(),
    })
}

#[cfg(test)]
mod tests {
    use quorate_types::RingId;

    use super::*;

    fn node(id: u32, state: State) -> QuorumNode {
        QuorumNode {
            node_id: id,
            name: format!("hp{id}"),
            votes: 1,
            state: state.into(),
            ..QuorumNode::default()
        }
    }

    #[test]
    fn only_members_count_and_the_others_are_absent() {
        let status = QuorumStatus {
            quorate: true,
            ring: Some(RingId { rep: 1, seq: 8 }.into()),
            expected_votes: 3,
            quorum: 2,
            nodes: vec![node(1, State::Member), node(2, State::Member), node(3, State::Dead)],
            ring_present: true,
            ..QuorumStatus::default()
        };
        let view = view(&status).expect("there is a ring");
        assert_eq!(view.votes.len(), 2);
        assert_eq!(view.absent.iter().map(|node| node.get()).collect::<Vec<_>>(), [3]);
        assert_eq!(view.votes_needed(), 2);
    }

    #[test]
    fn without_a_ring_nothing_is_known() {
        assert_eq!(view(&QuorumStatus::default()), None);
    }
}
