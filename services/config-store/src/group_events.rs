//! From events of a process group to inputs of the replica or the status store.

use bytes::Bytes;
use config_store_core::{Input, status::StatusInput};
use quorate_proto::membership::v1::{GroupEvent, group_event::Event, watch_configurations_response::Kind};
use quorate_types::{NodeId, RingId};

/// What happened in a group, for whoever is above.
#[derive(Debug)]
pub(crate) enum Happened {
    /// A message was delivered.
    Message { from: NodeId, payload: Bytes },
    /// The group has these members, each node once.
    Members { ring: RingId, members: Vec<NodeId> },
    /// The ring is changing.
    Transitional,
}

/// What an event means, if anything.
pub(crate) fn happened(event: GroupEvent) -> Option<Happened> {
    match event.event? {
        Event::Message(message) => {
            let from = NodeId::new(message.sender?.node_id).ok()?;
            Some(Happened::Message { from, payload: message.payload })
        }
        Event::Members(members) => {
            let mut nodes: Vec<_> =
                members.members.iter().filter_map(|process| NodeId::new(process.node_id).ok()).collect();
            // A daemon that was restarted may be listed twice until its old process has left.
            nodes.dedup();
            Some(Happened::Members { ring: members.ring?.into(), members: nodes })
        }
        Event::Configuration(configuration) => {
            (configuration.kind() == Kind::Transitional).then_some(Happened::Transitional)
        }
    }
}

impl From<Happened> for Input {
    fn from(happened: Happened) -> Self {
        match happened {
            Happened::Message { from, payload } => Self::Message { from, payload },
            Happened::Members { ring, members } => Self::Members { ring, members },
            Happened::Transitional => Self::Transitional,
        }
    }
}

impl From<Happened> for StatusInput {
    fn from(happened: Happened) -> Self {
        match happened {
            Happened::Message { from, payload } => Self::Message { from, payload },
            Happened::Members { members, .. } => Self::Members(members),
            Happened::Transitional => Self::Transitional,
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto::membership::v1::{GroupProcess, group_event};

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
        match happened(event) {
            Some(Happened::Members { members, .. }) => assert_eq!(members.len(), 2),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_without_content_means_nothing() {
        assert!(happened(GroupEvent { event: None }).is_none());
    }
}
