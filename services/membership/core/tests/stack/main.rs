//! Whole stacks on a network in memory: groups, ordered messages of all sizes, membership changes,
//! safe delivery.

mod external;
mod network;
mod random;

use std::time::Duration;

use bytes::Bytes;
use membership_core::{
    cpg::ChangeReason,
    srp::{Guarantee, Pace, Params, TotemSettings},
    stack::{ConfigurationKind, GROUP_PAYLOAD_MAX, GroupEvent, Input, LeaveReason, Output, RefuseReason},
};
use network::{Network, Votes, group, member, messages, node};

fn payload(length: usize) -> Bytes {
    (0..length).map(|index| (index / 251 + index) as u8).collect()
}

/// Runs until every node's client has `count` messages, then checks that all saw the same.
#[track_caller]
fn same_messages(network: &mut Network, count: usize) -> Vec<(u32, Bytes)> {
    network.run_until("all messages everywhere", |network| {
        network.nodes.keys().all(|id| network.messages(*id).len() >= count)
    });
    let seen: Vec<_> = network.nodes.keys().map(|id| network.messages(*id)).collect();
    assert!(seen.iter().all(|messages| *messages == seen[0]), "orders differ");
    assert_eq!(seen[0].len(), count);
    seen.into_iter().next().expect("there are nodes")
}

/// Nodes that joined or left, and how.
type Changed = Vec<(u32, ChangeReason)>;

/// Joined and left of every change that a client was told.
fn changes(network: &Network, id: u32) -> Vec<(Changed, Changed)> {
    let nodes = |list: Vec<(membership_core::cpg::Member, ChangeReason)>| {
        list.into_iter().map(|(member, reason)| (member.node.get(), reason)).collect()
    };
    let change = |event| match event {
        GroupEvent::Members { joined, left, .. } => Some((nodes(joined), nodes(left))),
        _ => None,
    };
    network.events(id, u64::from(id)).into_iter().filter_map(change).collect()
}

#[test]
fn three_nodes_form_a_synchronised_ring() {
    let network = Network::formed(3);
    for (id, node) in &network.nodes {
        let completed = node.log.iter().filter_map(|output| match output {
            Output::SyncCompleted { ring, members } => Some((*ring, members.len())),
            _ => None,
        });
        assert_eq!(completed.last(), Some((network.ring(*id), 3)));
        let versions = node.stack.status().config_versions;
        assert_eq!(versions.into_values().collect::<Vec<_>>(), [Some(7); 3]);
        assert_eq!(node.stack.stats().malformed + node.stack.stats().unknown, 0);
    }
}

#[test]
fn three_nodes_agree_on_a_feature_level_and_on_fast_timers_before_they_are_synchronised() {
    let network = Network::formed(3);
    for (id, node) in &network.nodes {
        let status = node.stack.status();
        assert!(status.features.level == 1 && status.features.has_fast_detection(), "node {id}");
        assert_eq!(status.feature_levels.into_values().collect::<Vec<_>>(), [1; 3]);
        let params = Params::derive(&TotemSettings::default(), 3).expect("the defaults are valid");
        assert_eq!(status.ring.pace, Pace::fast(&params));
        let last = node.log.iter().rev().find_map(|output| match output {
            Output::FeaturesAgreed { .. } => Some(true),
            Output::Configuration(_) => Some(false),
            _ => None,
        });
        assert_eq!(last, Some(true));
    }
}

#[test]
fn no_other_process_can_announce_features() {
    let mut network = Network::formed(2);
    let service = membership_core::service::FEATURES;
    let mut forged = vec![0; 56];
    (forged[2], forged[8], forged[40]) = (40, 56, 9);
    network.input(1, Input::ServiceAttach { service });
    network.input(1, Input::ServiceMulticast { service, message: forged.into() });
    network.run_for(Duration::from_secs(1));
    let node = &network.nodes[&1];
    assert_eq!(node.stack.stats().service_dropped, 1);
    assert_eq!(node.stack.status().features.level, 1);
}

#[test]
fn all_clients_see_the_same_members_and_their_own_join() {
    let mut network = Network::formed(3);
    network.join_all("g", Guarantee::Agreed);
    for id in 1..=3 {
        let events = network.events(id, u64::from(id));
        assert!(matches!(events[0], GroupEvent::Joined { .. }), "node {id}: {events:?}");
        let own = |event: &GroupEvent| match event {
            GroupEvent::Members { joined, .. } => joined.contains(&(member(id, id * 10), ChangeReason::Join)),
            _ => false,
        };
        assert!(own(&events[1]), "node {id}: {events:?}");
    }
}

#[test]
fn messages_of_all_sizes_arrive_in_one_order() {
    let mut network = Network::formed(3);
    network.join_all("g", Guarantee::Agreed);
    let sizes = [0, 1, 100, 1401, 1402, 1410, 5000, 65_536, 0, 1_047_552, 1_048_576, 7];
    for (index, size) in sizes.iter().enumerate() {
        network.multicast(index as u32 % 3 + 1, payload(*size));
        network.run_for(Duration::from_millis(if index < 6 { 0 } else { 20 }));
    }
    let mut arrived: Vec<_> = same_messages(&mut network, sizes.len());
    arrived.sort_by_key(|(_, payload)| payload.len());
    let mut sent: Vec<_> = sizes.into_iter().map(payload).collect();
    sent.sort_by_key(Bytes::len);
    assert_eq!(arrived.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>(), sent);
}

#[test]
fn large_packets_carry_the_same_messages() {
    let mut network = Network::new(2).with_net_mtu(65_446);
    network.start(1, Votes::Answers);
    network.start(2, Votes::Answers);
    network.form(&[1, 2]);
    network.join_all("g", Guarantee::Agreed);
    for size in [10, 60_000, 70_000, 1_048_576] {
        network.multicast(1, payload(size));
    }
    same_messages(&mut network, 4);
}

#[test]
fn many_small_messages_share_packets() {
    let mut network = Network::formed(2);
    network.join_all("g", Guarantee::Agreed);
    let before = network.nodes[&1].stack.ring_stats().mcast.tx;
    for _ in 0..300 {
        network.multicast(1, payload(16));
    }
    same_messages(&mut network, 300);
    // 300 times 207 bytes in packets with room for 1402
    assert_eq!(network.nodes[&1].stack.ring_stats().mcast.tx - before, 45);
}

#[test]
fn a_message_does_not_wait_for_the_held_token_of_an_idle_ring() {
    let mut network = Network::formed(3);
    network.join_all("g", Guarantee::Agreed);
    for id in 1..=3 {
        network.run_for(Duration::from_secs(2));
        let before = network.now;
        network.multicast(id, payload(10));
        same_messages(&mut network, id as usize);
        assert!(network.now - before < Duration::from_millis(5), "node {id}: {:?}", network.now - before);
    }
}

#[test]
fn a_single_node_orders_its_own_messages() {
    let mut network = Network::formed(1);
    network.join_all("g", Guarantee::Agreed);
    for size in [3, 65_536, 1_048_576] {
        network.multicast(1, payload(size));
    }
    same_messages(&mut network, 3);
}

#[test]
fn a_client_that_leaves_sees_its_own_leave_and_others_see_why() {
    let mut network = Network::formed(2);
    network.join_all("g", Guarantee::Agreed);
    network.input(1, Input::GroupLeave { client: 1, reason: LeaveReason::Leave });
    network.run_until("left", |network| network.nodes[&2].stack.groups().members(&group("g")).len() == 1);
    assert_eq!(changes(&network, 2).last(), Some(&(vec![], vec![(1, ChangeReason::Leave)])));
    assert_eq!(changes(&network, 1).last(), Some(&(vec![], vec![(1, ChangeReason::Leave)])));
    // and a process that vanishes is told with its own reason
    network.join(1, 9, 90, "g", Guarantee::Agreed);
    network.input(1, Input::GroupLeave { client: 9, reason: LeaveReason::ProcessDown });
    network.run_for(Duration::from_secs(1));
    assert_eq!(changes(&network, 2).last(), Some(&(vec![], vec![(1, ChangeReason::ProcessDown)])));
}

#[test]
fn requests_that_cannot_be_served_are_refused() {
    let mut network = Network::formed(1);
    network.multicast(1, payload(1));
    network.join(1, 1, 10, "g", Guarantee::Agreed);
    network.join(1, 2, 10, "g", Guarantee::Agreed);
    network.multicast(1, payload(GROUP_PAYLOAD_MAX + 1));
    for _ in 0..5 {
        network.multicast(1, payload(1_000_000));
    }
    let refused = network.nodes[&1].log.iter().filter_map(|output| match output {
        Output::GroupRefused { client, reason } => Some((*client, *reason)),
        _ => None,
    });
    let expected = [
        (1, RefuseReason::NotJoined),
        (2, RefuseReason::AlreadyJoined),
        (1, RefuseReason::TooLarge),
        (1, RefuseReason::QueueFull),
    ];
    assert_eq!(refused.collect::<Vec<_>>(), expected);
}

#[test]
fn flow_closes_when_much_waits_and_opens_again() {
    let mut network = Network::formed(2);
    network.join_all("g", Guarantee::Agreed);
    for _ in 0..4 {
        network.multicast(1, payload(1_000_000));
    }
    same_messages(&mut network, 4);
    let flow = network.nodes[&1].log.iter().filter_map(|output| match output {
        Output::Flow { open } => Some(*open),
        _ => None,
    });
    assert_eq!(flow.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_lost_node_is_one_change_and_its_return_another() {
    // given three members
    let mut network = Network::formed(3);
    network.join_all("g", Guarantee::Agreed);
    // when node 3 is cut off and comes back with its process
    network.partition(&[&[1, 2], &[3]]);
    network.form(&[1, 2]);
    network.form(&[3]);
    network.heal();
    network.form(&[1, 2, 3]);
    // then the majority lost and regained one process
    let (down, up) = (ChangeReason::NodeDown, ChangeReason::NodeUp);
    let seen = changes(&network, 1);
    assert_eq!(seen[seen.len() - 2..], [(vec![], vec![(3, down)]), (vec![(3, up)], vec![])]);
    // and node 3 lost and regained two, in one change each
    let seen = changes(&network, 3);
    let expected = [(vec![], vec![(1, down), (2, down)]), (vec![(1, up), (2, up)], vec![])];
    assert_eq!(seen[seen.len() - 2..], expected);
}

#[test]
fn a_large_message_survives_a_membership_change() {
    // given node 1 in the middle of a message of 1 MiB, and small ones behind it
    let mut network = Network::formed(3);
    network.join_all("g", Guarantee::Agreed);
    network.multicast(1, payload(1_048_576));
    for size in [10, 20, 30] {
        network.multicast(1, payload(size));
    }
    network.run_for(Duration::from_millis(3));
    assert!(network.messages(2).is_empty());
    // when node 3 crashes and comes back
    network.crash(3);
    network.form(&[1, 2]);
    network.start(3, Votes::Answers);
    network.form(&[1, 2, 3]);
    // then the others get it whole, once
    network.run_until("all arrived", |network| [1, 2].iter().all(|id| network.messages(*id).len() == 4));
    assert_eq!(network.messages(1), network.messages(2));
    assert_eq!(network.messages(1)[0].1, payload(1_048_576));
}

#[test]
fn messages_sent_during_synchronisation_follow_it() {
    // given a ring that has just lost a node
    let mut network = Network::formed(3);
    network.join_all("g", Guarantee::Agreed);
    network.partition(&[&[1, 2], &[3]]);
    network.run_until("sync began", |network| network.nodes[&1].stack.status().sync.is_some());
    // when a client sends and another joins before the end of the synchronisation
    network.multicast(1, payload(5));
    network.join(1, 9, 90, "g", Guarantee::Agreed);
    network
        .run_until("arrived", |network| network.messages(2).len() == 1 && !network.events(1, 9).is_empty());
    // then both come after it
    let log = &network.nodes[&1].log;
    let last = |matches: fn(&Output) -> bool| log.iter().rposition(matches);
    let completed = last(|output| matches!(output, Output::SyncCompleted { .. }));
    let message =
        last(|output| matches!(output, Output::Group { client: 1, event: GroupEvent::Message { .. } }));
    let joined =
        last(|output| matches!(output, Output::Group { client: 9, event: GroupEvent::Joined { .. } }));
    assert!(completed < message && message < joined);
}

#[test]
fn a_member_that_dies_in_the_middle_of_a_synchronisation_leaves_no_ghost() {
    let mut was_seen = Vec::new();
    for moment in 0..40 {
        // given node 3 coming back from a partition with a process
        let mut network = Network::formed(3);
        network.join_all("g", Guarantee::Agreed);
        network.partition(&[&[1, 2], &[3]]);
        network.form(&[1, 2]);
        network.form(&[3]);
        network.heal();
        network.run_until("synchronisation of three", |network| {
            let status = network.nodes[&1].stack.status();
            status.ring.members.len() == 3 && status.sync.is_some()
        });
        // when it dies at this moment of the synchronisation
        network.run_for(Duration::from_micros(100 * moment));
        network.crash(3);
        network.run_until("noticed", |network| network.nodes[&1].stack.status().ring.members.len() == 2);
        network.form(&[1, 2]);
        // then nobody believes that its process is there
        for id in [1, 2] {
            let members = network.nodes[&id].stack.groups().members(&group("g"));
            assert_eq!(members, [member(1, 10), member(2, 20)], "node {id}, moment {moment}");
        }
        // and both tell the same, whether it was seen to come back or not
        let told = |id| changes(&network, id).split_off(changes(&network, id).len() - 3);
        assert_eq!(told(1), told(2), "moment {moment}");
        was_seen.push(told(1)[1] == (vec![(3, ChangeReason::NodeUp)], vec![]));
    }
    assert!(was_seen.contains(&true) && was_seen.contains(&false), "the moments cover both sides");
}

#[test]
fn safe_delivery_waits_until_every_member_has_the_message() {
    // given one client that wants safe delivery and one that does not, on every node
    let mut network = Network::formed(3);
    network.join_all("g", Guarantee::Safe);
    network.join(1, 9, 90, "g", Guarantee::Agreed);
    network.run_until("joined", |network| !network.events(1, 9).is_empty());
    // when a message is delivered in agreed order
    network.multicast(2, payload(10));
    network.run_until("agreed", |network| messages(&network.nodes[&1], 9).len() == 1);
    // then the safe client gets it later
    assert!(network.messages(1).is_empty());
    same_messages(&mut network, 1);
}

#[test]
fn a_message_that_never_became_safe_follows_the_transitional_configuration() {
    let mut network = Network::formed(3);
    network.join_all("g", Guarantee::Safe);
    network.join(1, 9, 90, "g", Guarantee::Agreed);
    network.run_until("joined", |network| !network.events(1, 9).is_empty());
    network.multicast(2, payload(10));
    network.run_until("agreed", |network| messages(&network.nodes[&1], 9).len() == 1);
    // when a node is lost before the message is known to be everywhere
    network.crash(3);
    network.form(&[1, 2]);
    // then the safe client learns of the smaller configuration first
    let events = network.events(1, 1);
    let position = |matches: fn(&GroupEvent) -> bool| events.iter().position(matches);
    let transitional = position(|event| {
        let GroupEvent::Configuration { kind, members, .. } = event else { return false };
        *kind == ConfigurationKind::Transitional && members.len() == 2
    });
    let message = position(|event| matches!(event, GroupEvent::Message { .. }));
    let regular =
        position(|event| matches!(event, GroupEvent::Configuration { kind: ConfigurationKind::Regular, .. }));
    assert!(transitional.is_some() && transitional < message && message < regular, "{events:?}");
}

#[test]
fn administration_reaches_the_nodes_that_it_is_for() {
    let mut network = Network::formed(3);
    network.input(1, Input::ReloadConfig);
    network.input(2, Input::KillNode { node: node(3), reason: "wrong version".to_owned() });
    let killed = Output::Killed { by: node(2), reason: "wrong version".to_owned() };
    network.run_until("killed", |network| network.nodes[&3].log.contains(&killed));
    for id in 1..=3 {
        let log = &network.nodes[&id].log;
        assert!(log.contains(&Output::ReloadRequested { by: node(1) }));
        assert_eq!(log.contains(&killed), id == 3);
    }
}

#[test]
fn a_leaving_node_is_gone_without_a_timeout() {
    let mut network = Network::formed(3);
    network.join_all("g", Guarantee::Agreed);
    let before = network.now;
    network.input(3, Input::Leave);
    network.form(&[1, 2]);
    assert!(network.now - before < Duration::from_secs(1));
    assert_eq!(changes(&network, 1).last(), Some(&(vec![], vec![(3, ChangeReason::NodeDown)])));
}
