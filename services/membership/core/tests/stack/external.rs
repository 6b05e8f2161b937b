//! votequorum in another process: attached, late, silent, gone.

use std::time::Duration;

use membership_core::stack::{EXTERNAL_SYNC_WAIT, Input, ServiceEvent};

use crate::network::{Network, VOTEQUORUM, Votes, node, nodeinfo};

/// Who said what in the messages that a service was told last, since the last start.
fn heard(network: &Network, id: u32) -> Vec<(u32, u8)> {
    let events = network.service_events(id);
    let started = events.iter().rposition(|event| matches!(event, ServiceEvent::SyncStarted { .. }));
    let message = |event: &ServiceEvent| match event {
        ServiceEvent::Message { from, message } => Some((from.get(), message[16])),
        _ => None,
    };
    events[started.expect("a synchronisation began")..].iter().filter_map(message).collect()
}

#[test]
fn every_service_hears_the_records_of_all_members_before_it_is_activated() {
    let network = Network::formed(3);
    for id in 1..=3 {
        let mut records = heard(&network, id);
        records.sort_unstable();
        assert_eq!(records, [(1, 0), (1, 1), (2, 0), (2, 2), (3, 0), (3, 3)]);
        let activated = ServiceEvent::SyncActivated { ring: network.ring(id) };
        assert_eq!(network.service_events(id).last(), Some(&activated));
    }
}

#[test]
fn messages_of_a_service_come_back_in_the_same_order_everywhere() {
    let mut network = Network::formed(3);
    let before = heard(&network, 1).len();
    for id in 1..=3 {
        let message = nodeinfo(id, 1);
        network.input(id, Input::ServiceMulticast { service: VOTEQUORUM, message });
    }
    network.run_until("heard", |network| (1..=3).all(|id| heard(network, id).len() == before + 3));
    let tails: Vec<_> = (1..=3).map(|id| heard(&network, id).split_off(before)).collect();
    assert!(tails.iter().all(|tail| *tail == tails[0]), "{tails:?}");
}

#[test]
fn a_silent_service_delays_the_ring_by_half_a_second_only() {
    let mut network = Network::new(2);
    network.start(1, Votes::Answers);
    network.form(&[1]);
    network.start(2, Votes::Silent);
    network.form(&[1, 2]);
    // two rounds: node 2 alone or not, then with node 1
    assert!(network.nodes[&2].stack.stats().external_timeouts >= 1);
    let mut records = heard(&network, 1);
    records.sort_unstable();
    assert_eq!(records, [(1, 0), (1, 1)]);
    assert!(EXTERNAL_SYNC_WAIT <= Duration::from_millis(500));
}

#[test]
fn a_service_that_detaches_while_it_is_awaited_is_not_awaited_any_more() {
    let mut network = Network::new(1);
    network.start(1, Votes::Silent);
    network.run_until("awaited", |network| {
        network.nodes[&1].stack.status().sync.is_some_and(|sync| sync.service == Some(5))
    });
    network.run_for(Duration::from_millis(20));
    assert!(!network.nodes[&1].stack.status().synchronised);
    let before = network.now;
    network.input(1, Input::ServiceDetach { service: VOTEQUORUM });
    network.form(&[1]);
    assert!(network.now - before < Duration::from_millis(100));
    assert_eq!(network.nodes[&1].stack.stats().external_timeouts, 0);
}

#[test]
fn a_node_without_the_service_synchronises_with_nodes_that_have_it() {
    let mut network = Network::new(2);
    network.start(1, Votes::Answers);
    network.start(2, Votes::Absent);
    network.form(&[1, 2]);
    assert_eq!(network.service_events(2), []);
    assert_eq!(heard(&network, 1), [(1, 1), (1, 0)]);
}

#[test]
fn a_service_that_attaches_late_is_told_what_it_missed() {
    // given a ring that is synchronised, where node 1 changed its record since
    let mut network = Network::new(2);
    network.start(1, Votes::Answers);
    network.start(2, Votes::Absent);
    network.form(&[1, 2]);
    network.input(1, Input::ServiceMulticast { service: VOTEQUORUM, message: nodeinfo(1, 1) });
    network.run_for(Duration::from_secs(1));
    // when the service of node 2 comes and answers
    network.nodes.get_mut(&2).unwrap().votes = Votes::Answers;
    network.input(2, Input::ServiceAttach { service: VOTEQUORUM });
    // then it is told the compacted past at once
    let members = vec![node(1), node(2)];
    let events = network.service_events(2);
    assert!(matches!(&events[0], ServiceEvent::SyncStarted { members: told, .. } if *told == members));
    let message = |message| ServiceEvent::Message { from: node(1), message };
    assert_eq!(events[1..3], [message(nodeinfo(0, 0)), message(nodeinfo(1, 1))]);
    assert_eq!(events[3], ServiceEvent::SyncActivated { ring: network.ring(2) });
    // and its own answer reaches the others as ordinary messages
    network.run_until("heard", |network| heard(network, 1).contains(&(2, 2)));
}

#[test]
fn a_service_of_our_own_takes_part_once_it_is_attached_everywhere() {
    // given service 41 on one of two nodes
    let mut network = Network::new(2);
    network.start(1, Votes::Answers);
    network.input(1, Input::ServiceAttach { service: 41 });
    network.start(2, Votes::Answers);
    // then the ring is synchronised all the same; nobody answers for it, so it is awaited
    network.form(&[1, 2]);
    let told = network.nodes[&2]
        .log
        .iter()
        .any(|output| matches!(output, membership_core::stack::Output::Service { service: 41, .. }));
    assert!(!told);
}

#[test]
fn a_lost_node_aborts_the_synchronisation_that_it_was_part_of() {
    // given a synchronisation held up by the silent service of node 3
    let mut network = Network::formed(2);
    network.start(3, Votes::Silent);
    network.run_until("awaited", |network| {
        let status = network.nodes[&3].stack.status();
        status.ring.members.len() <= 1 && network.nodes[&3].stack.status().sync.is_some()
    });
    network.run_until("together", |network| {
        let status = network.nodes[&1].stack.status();
        status.ring.members.len() == 3 && status.sync.is_some_and(|sync| sync.service == Some(5))
    });
    // when node 3 dies
    network.crash(3);
    network.form(&[1, 2]);
    // then the service hears of the end of that round before the next begins
    let events = network.service_events(1);
    let aborted = events.iter().rposition(|event| *event == ServiceEvent::SyncAborted);
    let aborted = aborted.expect("the round was given up");
    assert!(matches!(events[aborted + 1], ServiceEvent::SyncStarted { .. }), "{events:?}");
    assert!(matches!(events.last(), Some(ServiceEvent::SyncActivated { .. })));
}
