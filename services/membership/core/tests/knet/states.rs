//! Links and hosts that come up, go down, take over for each other, and begin again.

use std::time::Duration;

use membership_core::{
    knet::{Config, Drop, Input, LinkMode, LinkSettings, Output},
    srp::Destination,
};

use crate::network::{Network, Template, address, id, packet, to};

fn two_links(mode: LinkMode) -> Template {
    Template { links: 2, mode, ..Template::default() }
}

#[test]
fn links_come_up_after_three_pings_and_data_flows_at_once() {
    // given two nodes that start together; pings are 750 ms apart
    let mut network = Network::new(Template::default());
    network.run(1400);
    assert_eq!(network.nodes[&1].reachable().count(), 0);
    // when the third pong has come
    network.run(200);
    // then both are reachable
    assert_eq!(network.nodes[&1].reachable().collect::<Vec<_>>(), [id(2)]);
    let up = Output::LinkChanged { node: id(2), link: 0, up: true };
    let reachable = Output::HostChanged { node: id(2), reachable: true };
    let of_1 = network.changes.iter().filter(|(_, node, _)| *node == 1).map(|(_, _, change)| change.clone());
    assert_eq!(of_1.take(2).collect::<Vec<_>>(), [up, reachable]);
    network.send(1, Destination::All, &packet(100, 1));
    network.run(1);
    assert_eq!(network.take_delivered(2), [(1, to(0, &packet(100, 1)))]);
}

#[test]
fn a_silent_link_goes_down_after_the_timeout_and_comes_up_again() {
    let mut network = Network::new(Template::default());
    network.settle();
    network.cut_link(1, 2, 0);
    network.run(3000);
    let down: Vec<Duration> = network
        .changes
        .iter()
        .filter(|(_, _, change)| matches!(change, Output::LinkChanged { up: false, .. }))
        .map(|(at, _, _)| *at - Duration::from_secs(15))
        .collect();
    assert_eq!(down.len(), 2);
    // the last pong was up to 750 ms before the cut; the timeout is 1500 ms
    assert!(down.iter().all(|at| (750..=1510).contains(&at.as_millis())), "{down:?}");
    assert_eq!(network.nodes[&1].reachable().count(), 0);
    network.cut.clear();
    network.run(3000);
    assert_eq!(network.nodes[&1].reachable().count(), 1);
    let stats = network.nodes[&1].link_stats().next().unwrap().2;
    assert_eq!((stats.up_count, stats.down_count), (2, 1));
}

#[test]
fn data_to_and_from_an_unreachable_host_is_dropped() {
    let mut network = Network::new(Template::default());
    network.send(1, Destination::Node(id(2)), &packet(50, 1));
    network.send(1, Destination::All, &packet(50, 1));
    assert_eq!(network.nodes[&1].stats().dropped(Drop::UnreachableTarget), 2);
    network.settle();
    // when only node 2 does not hear pongs any more
    network.cut.insert((1, 2, 0));
    network.run(3000);
    network.cut.clear();
    network.send(1, Destination::All, &packet(50, 1));
    network.run(1);
    assert_eq!(network.take_delivered(2), []);
    assert_eq!(network.nodes[&1].stats().sent, 0, "node 1 heard no pongs either: they answer its pings");
}

#[test]
fn one_sided_links_drop_what_arrives_too_early() {
    // given node 1 up towards node 2, but not yet the other way round
    let mut network = Network::new(Template::default());
    network.start(2);
    network.run(1600);
    assert_eq!(network.nodes[&1].reachable().count(), 1);
    network.start(2);
    network.send(1, Destination::All, &packet(50, 1));
    network.run(1);
    assert_eq!(network.nodes[&2].stats().dropped(Drop::UnreachableSource), 1);
}

#[test]
fn passive_moves_to_the_other_link_and_back() {
    let mut network = Network::new(two_links(LinkMode::Passive));
    network.settle();
    network.send(1, Destination::All, &packet(50, 1));
    network.run(1);
    assert_eq!((network.data.get(&(1, 2, 0)), network.data.get(&(1, 2, 1))), (Some(&1), None));
    // when link 0 fails
    network.cut_link(1, 2, 0);
    network.run(2500);
    network.send(1, Destination::All, &packet(50, 2));
    network.run(1);
    // then link 1 carries on, and the host was never unreachable
    assert_eq!(network.data.get(&(1, 2, 1)), Some(&1));
    assert_eq!(network.take_delivered(2).len(), 2);
    assert!(!network.changes.iter().any(|(_, _, change)| matches!(change, Output::HostChanged { .. })));
    let (first, second) = (network.status(1, 2, 0), network.status(1, 2, 1));
    assert_eq!((first.connected, first.active, second.connected, second.active), (false, false, true, true));
    assert_eq!((first.local, first.remote), (Some(address(1, 0)), address(2, 0)));
    network.cut.clear();
    network.run(5000);
    network.send(1, Destination::All, &packet(50, 3));
    assert_eq!(network.data.get(&(1, 2, 0)), Some(&2));
}

#[test]
fn passive_prefers_the_link_of_the_higher_priority() {
    let settings = [(1, LinkSettings { priority: 9, ..LinkSettings::default() })].into();
    let mut network = Network::new(Template { settings, ..two_links(LinkMode::Passive) });
    network.settle();
    network.send(1, Destination::All, &packet(50, 1));

    assert_eq!((network.data.get(&(1, 2, 0)), network.data.get(&(1, 2, 1))), (None, Some(&1)));
}

#[test]
fn a_node_that_begins_again_is_heard_at_once() {
    // given a node that has sent some packets, and dies
    let mut network = Network::new(Template::default());
    network.settle();
    for mark in 0..100 {
        network.send(1, Destination::All, &packet(50, mark));
    }
    network.run(100);
    assert_eq!(network.take_delivered(2).len(), 100);
    // when it is back within the timeout of its peers
    network.start(1);
    network.run(1600);
    let went_down =
        network.changes.iter().any(|(_, _, c)| matches!(c, Output::LinkChanged { up: false, .. }));
    assert!(!went_down, "node 2 has not noticed");
    for mark in 0..3 {
        network.send(1, Destination::All, &packet(50, mark));
    }
    network.run(1);
    // then its numbers, from 1 again, are no duplicates
    assert_eq!(network.take_delivered(2).len(), 3);
    assert_eq!(network.nodes[&2].stats().dropped(Drop::Duplicate), 0);
}

#[test]
fn forced_pings_keep_idle_hosts_up_to_date() {
    // given node 1 that talks to node 2 only, for longer than a window
    let mut network = Network::new(Template { nodes: 3, ..Template::default() });
    network.settle();
    network.send(1, Destination::All, &packet(20, 0));
    network.run(1);
    network.take_delivered(3);
    let pings = |network: &Network| network.nodes[&3].link_stats().next().unwrap().2.rx.ping.packets;
    let before = pings(&network);
    for _ in 0..32_768 - 2 {
        network.send(1, Destination::Node(id(2)), &packet(20, 1));
    }
    network.run(1);
    assert_eq!(pings(&network) - before, 4, "at 8191 and its multiples");
    // when node 3 is spoken to again, half the numbers later
    network.send(1, Destination::All, &packet(20, 2));
    network.run(1);
    // then it is no old packet
    assert_eq!(network.take_delivered(3).len(), 1);
}

#[test]
fn reconfiguration_leaves_links_that_stay_alone() {
    let mut network = Network::new(Template { nodes: 3, ..Template::default() });
    network.settle();
    let before = *network.nodes[&1].link_stats().next().unwrap().2;
    // when node 3 goes and node 2 is given a second link
    network.config = Template { nodes: 2, links: 2, ..Template::default() };
    for node in [1, 2] {
        let config = Box::new(network.config.checked(node));
        network.input(node, Input::Reconfigure(config));
    }
    network.nodes.remove(&3);
    // then the link that stays has not noticed, and the new one comes up
    assert_eq!(*network.nodes[&1].link_stats().next().unwrap().2, before);
    let gone = (
        Output::LinkChanged { node: id(3), link: 0, up: false },
        Output::HostChanged { node: id(3), reachable: false },
    );
    let changes: Vec<&Output> =
        network.changes.iter().filter(|(_, n, _)| *n == 1).map(|(_, _, c)| c).collect();
    assert_eq!(changes, [&gone.0, &gone.1]);
    network.run(3000);
    assert!(network.status(1, 2, 1).connected && network.status(1, 2, 0).connected);
    network.send(1, Destination::All, &packet(50, 1));
    network.run(1);
    assert_eq!(network.take_delivered(2).len(), 1);
}

#[test]
fn another_address_is_another_link_and_other_timers_are_not() {
    let mut network = Network::new(Template::default());
    network.settle();
    let settings = LinkSettings::derive(Duration::from_secs(1), 2);
    let changed = Config { links: [(0, settings)].into(), ..network.config.config(1) };
    network.input(1, Input::Reconfigure(Box::new(changed.clone().check().unwrap())));
    assert!(network.status(1, 2, 0).connected);
    let mut moved = changed;
    moved.hosts = [(id(2), [(0, address(2, 3))].into())].into();
    network.input(1, Input::Reconfigure(Box::new(moved.check().unwrap())));
    assert!(!network.status(1, 2, 0).connected);
    assert_eq!(network.nodes[&1].reachable().count(), 0);
}
