//! From the ring's own types to messages.

use std::time::SystemTime;

use membership_core::{
    cpg,
    srp::StateName,
    stack::{self, ConfigurationKind},
};
use quorate_proto::membership::v1::{
    self as proto, GetStatusResponse, GroupProcess, Link, Member, RingState, group_event, service_event,
    watch_configurations_response::Kind,
};
use quorate_types::NodeId;

use crate::{
    handle::ServiceEvent,
    view::{LinkView, RingSnapshot, StrangerView, UpSnapshot},
};

pub(super) fn status(snapshot: RingSnapshot, node_name: &str) -> GetStatusResponse {
    let view = snapshot.view;
    let mut response = GetStatusResponse {
        node_name: node_name.to_owned(),
        state: RingState::Down.into(),
        ring: Some(view.ring.into()),
        members: view.members.iter().map(|node| node.get()).collect(),
        synchronised: view.synchronised,
        down_reason: snapshot.down_reason,
        ..GetStatusResponse::default()
    };
    if let Some(up) = snapshot.up {
        response.cluster_name = up.cluster_name;
        response.config_version = up.config_version;
        response.transport = up.transport.to_owned();
        response.secure = up.secure;
        response.node_id = up.me.get();
        response.state = state(up.state).into();
        response.installed = up.installed.map(timestamp);
        response.token_timeout = up.token_timeout.try_into().ok();
        response.detection_worst_case = up.detection_worst_case.try_into().ok();
        response.feature_level = up.feature_level;
        response.fast_detection = up.fast_detection;
        response.counters = up.counters.into_iter().collect();
        response.dropped = up.dropped.into_iter().collect();
        response.strangers = up.strangers.into_iter().map(stranger).collect();
    }
    response
}

fn state(state: StateName) -> RingState {
    match state {
        StateName::Stopped => RingState::Down,
        StateName::Operational => RingState::Operational,
        StateName::Gather => RingState::Gather,
        StateName::Commit => RingState::Commit,
        StateName::Recovery => RingState::Recovery,
    }
}

fn stranger(stranger: StrangerView) -> proto::Stranger {
    proto::Stranger {
        address: stranger.address.to_string(),
        packets: stranger.packets,
        silence: stranger.silence.try_into().ok(),
    }
}

fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}

pub(super) fn members(up: UpSnapshot) -> Vec<Member> {
    let me = up.me;
    up.members
        .into_iter()
        .map(|member| Member {
            node_id: member.node.get(),
            name: member.name,
            addresses: member.addresses,
            online: member.online,
            local: member.node == me,
            since: member.since.map(timestamp),
            left_cleanly: member.left_cleanly,
            config_version: member.config_version,
            feature_level: member.feature_level,
        })
        .collect()
}

pub(super) fn link(view: LinkView) -> Link {
    let mut link = Link {
        node_id: view.node.get(),
        link: view.link.into(),
        local_address: view.local.to_string(),
        remote_address: view.remote.to_string(),
        connected: view.connected,
        tx_packets: view.counters.tx_packets,
        tx_bytes: view.counters.tx_bytes,
        rx_packets: view.counters.rx_packets,
        rx_bytes: view.counters.rx_bytes,
        tx_errors: view.counters.tx_errors,
        ..Link::default()
    };
    if let Some(pings) = view.pings {
        link.latency = pings.latency.try_into().ok();
        link.latency_min = pings.latency_min.try_into().ok();
        link.latency_max = pings.latency_max.try_into().ok();
        link.mtu = pings.mtu;
        link.ups = pings.ups;
        link.downs = pings.downs;
    }
    link
}

pub(super) fn ids(nodes: &[NodeId]) -> Vec<u32> {
    nodes.iter().map(|node| node.get()).collect()
}

fn process(member: cpg::Member) -> GroupProcess {
    GroupProcess { node_id: member.node.get(), pid: member.pid }
}

/// An event of a group; `None` for the join itself, which the first `Members` tells as well.
pub(super) fn group_event(event: stack::GroupEvent) -> Option<proto::GroupEvent> {
    let event = match event {
        stack::GroupEvent::Joined { .. } => return None,
        stack::GroupEvent::Message { ring, seq, origin, pid, payload, .. } => {
            let sender = Some(GroupProcess { node_id: origin.get(), pid });
            group_event::Event::Message(group_event::Message {
                sender,
                payload,
                ring: Some(ring.into()),
                sequence: seq,
            })
        }
        stack::GroupEvent::Members { ring, members, joined, left, .. } => {
            group_event::Event::Members(group_event::Members {
                members: members.into_iter().map(process).collect(),
                joined: joined.into_iter().map(|(member, _)| process(member)).collect(),
                left: left.into_iter().map(|(member, _)| process(member)).collect(),
                ring: Some(ring.into()),
            })
        }
        stack::GroupEvent::Configuration { ring, kind, members } => {
            let kind = match kind {
                ConfigurationKind::Transitional => Kind::Transitional,
                ConfigurationKind::Regular => Kind::Regular,
            };
            let (ring, members) = (Some(ring.into()), ids(&members));
            group_event::Event::Configuration(group_event::Configuration { kind: kind.into(), ring, members })
        }
    };
    Some(proto::GroupEvent { event: Some(event) })
}

pub(super) fn service_event(event: ServiceEvent) -> proto::ServiceEvent {
    use service_event as wire;
    let event = match event {
        ServiceEvent::RingDown(reason) => wire::Event::RingDown(wire::RingDown { reason }),
        ServiceEvent::ConfigurationReloaded { config_version } => {
            wire::Event::ConfigurationReloaded(wire::ConfigurationReloaded { config_version })
        }
        ServiceEvent::Stack(stack::ServiceEvent::SyncStarted { ring, members, transitional }) => {
            let (members, transitional) = (ids(&members), ids(&transitional));
            wire::Event::SyncStarted(wire::SyncStarted { ring: Some(ring.into()), members, transitional })
        }
        ServiceEvent::Stack(stack::ServiceEvent::Message { from, message }) => {
            wire::Event::Message(wire::Message { from: from.get(), message })
        }
        ServiceEvent::Stack(stack::ServiceEvent::SyncActivated { ring }) => {
            wire::Event::SyncActivated(wire::SyncActivated { ring: Some(ring.into()) })
        }
        ServiceEvent::Stack(stack::ServiceEvent::SyncAborted) => {
            wire::Event::SyncAborted(wire::SyncAborted {})
        }
    };
    proto::ServiceEvent { event: Some(event) }
}
