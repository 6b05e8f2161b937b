//! From events of the process group to inputs of the replica.

use config_store_core::Input;
use quorate_proto::membership::v1::{GroupEvent, group_event::Event, watch_configurations_response::Kind};
use quorate_types::NodeId;

/// The input that an event means, if any.
pub(crate) fn input(event: GroupEvent) -> Option<Input> {
    match event.event? {
        Event::Message(message) => {
            let from = NodeId::new(message.sender?.node_id).ok()?;
            Some(Input::Message { from, payload: message.payload })
        }
        Event::Members(members) => {
            let mut nodes: Vec<_> =
                members.members.iter().filter_map(|process| NodeId::new(process.node_id).ok()).collect();
            // A daemon that was restarted may be listed twice until its old process has left.
            nodes.dedup();
            Some(Input::Members { ring: members.ring?.into(), members: nodes })
        }
        Event::Configuration(configuration) => {
            (configuration.kind() == Kind::Transitional).then_some(Input::Transitional)
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto::membership::v1::{GroupProcess, group_event};
    use quorate_types::RingId;

    use super::*;

    #[test]
    fn a_node_with_two_processes_counts_once() {
        let process = |node_id, pid| GroupProcess { node_id, pid };
        let members = group_event::Members {
            members: vec![process(1, 10), process(1, 11), process(2, 20)],
            ring: Some(RingId { rep: 1, seq: 4 }.into()),
            ..group_event::Members::default()
        };
        let event = GroupEvent { event: Some(Event::Members(members)) };
        match input(event) {
            Some(Input::Members { members, .. }) => assert_eq!(members.len(), 2),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_without_content_means_nothing() {
        assert!(input(GroupEvent { event: None }).is_none());
    }
}
