//! Data: to one, to all, over several links, in pieces, encrypted, with loss.

use bytes::Bytes;
use membership_core::{
    knet::{Cipher, CryptoConfig, Drop, Hash, Input, LinkMode, Output},
    srp::Destination,
};

use crate::network::{Network, Template, id, packet, to};

fn crypto(fill: u8) -> CryptoConfig {
    CryptoConfig { cipher: Cipher::Aes256, hash: Hash::Sha256, key: vec![fill; 256].into() }
}

#[test]
fn a_packet_to_one_node_carries_its_target_and_reaches_it_alone() {
    let mut network = Network::new(Template { nodes: 3, ..Template::default() });
    network.settle();

    network.send(1, Destination::Node(id(3)), &packet(80, 1));
    network.send(3, Destination::All, &packet(80, 2));
    network.run(1);

    assert_eq!(network.take_delivered(1), [(3, to(0, &packet(80, 2)))]);
    assert_eq!(network.take_delivered(2), [(3, to(0, &packet(80, 2)))]);
    assert_eq!(network.take_delivered(3), [(1, to(3, &packet(80, 1)))]);
}

#[test]
fn a_packet_to_all_is_sealed_once_for_all_hosts_of_a_link() {
    let mut network = Network::new(Template { nodes: 5, crypto: crypto(1), ..Template::default() });
    network.settle();
    let links = network.nodes.get_mut(&1).unwrap();

    links.handle_input(network.now, Input::Send { to: Destination::All, packet: packet(500, 1) });

    let outputs: Vec<Output> = std::iter::from_fn(|| links.poll_output()).collect();
    assert_eq!(outputs.len(), 1);
    let Output::Send { link: 0, to, probe: false, .. } = &outputs[0] else { panic!("{outputs:?}") };
    assert_eq!(to.as_slice().len(), 4);
    let tx: Vec<u64> = links.link_stats().map(|(_, _, stats)| stats.tx.data.packets).collect();
    assert_eq!(tx, [1, 1, 1, 1]);
}

#[test]
fn active_sends_over_all_links_and_the_copy_is_dropped() {
    let mut network = Network::new(Template { links: 2, mode: LinkMode::Active, ..Template::default() });
    network.settle();
    for mark in 0..10 {
        network.send(1, Destination::All, &packet(5000, mark));
        network.run(1);
    }
    let expected: Vec<(u32, Bytes)> = (0..10).map(|mark| (1, to(0, &packet(5000, mark)))).collect();
    assert_eq!(network.take_delivered(2), expected);
    assert_eq!(network.data[&(1, 2, 0)], 40);
    assert_eq!(network.data[&(1, 2, 1)], 40);
    // and nothing is lost while one of them is
    network.cut_link(1, 2, 0);
    for mark in 0..10 {
        network.send(1, Destination::All, &packet(5000, mark));
        network.run(300);
    }
    assert_eq!(network.take_delivered(2), expected);
    let stats = network.nodes[&2].stats();
    assert_eq!(stats.dropped(Drop::Duplicate) + stats.dropped(Drop::DuplicateFragment), 40);
}

#[test]
fn round_robin_takes_turns() {
    let mut network = Network::new(Template { links: 3, mode: LinkMode::RoundRobin, ..Template::default() });
    network.settle();
    for mark in 0..30 {
        let to = if mark < 15 { Destination::All } else { Destination::Node(id(2)) };
        network.send(1, to, &packet(100, mark));
    }
    network.run(1);
    for link in 0..3 {
        assert_eq!(network.data[&(1, 2, link)], 10);
    }
    assert_eq!(network.take_delivered(2).len(), 30);
    // and the two that are left take turns when one fails
    network.cut_link(1, 2, 1);
    network.run(3000);
    network.data.clear();
    for mark in 0..10 {
        network.send(1, Destination::All, &packet(100, mark));
    }
    assert_eq!((network.data[&(1, 2, 0)], network.data[&(1, 2, 2)]), (5, 5));
}

#[test]
fn long_packets_arrive_in_clear_and_encrypted() {
    for crypto in [CryptoConfig::default(), crypto(1)] {
        let mut network = Network::new(Template { crypto, ..Template::default() });
        network.settle();
        for (mark, length) in (1..).zip([13, 1397, 1398, 1446, 1447, 60_000, 65_446]) {
            network.send(1, Destination::All, &packet(length, mark));
            network.run(1);
            assert_eq!(network.take_delivered(2), [(1, to(0, &packet(length, mark)))], "{length}");
        }
        // beyond what the format allows
        network.send(1, Destination::All, &packet(65_537, 1));
        network.send(1, Destination::All, &Bytes::from_static(b"short"));
        let stats = network.nodes[&1].stats();
        assert_eq!((stats.dropped(Drop::TooLong), stats.dropped(Drop::NotTotem)), (1, 1));
    }
}

#[test]
fn what_is_lost_is_lost_and_everything_else_arrives_whole() {
    let mut network = Network::new(Template { crypto: crypto(1), ..Template::default() });
    network.settle();
    network.lose_every = 41;
    for mark in 0..200 {
        network.send(1, Destination::All, &packet(6000, mark));
        network.run(1);
    }
    let delivered = network.take_delivered(2);
    assert!((150..200).contains(&delivered.len()), "{}", delivered.len());
    assert!(delivered.iter().all(|(_, p)| (0..200).any(|mark| *p == to(0, &packet(6000, mark)))));
    assert!(network.nodes[&2].stats().incomplete >= 1);
}

#[test]
fn nodes_with_different_keys_never_reach_each_other() {
    let mut network = Network::new(Template { crypto: crypto(1), ..Template::default() });
    network.config.crypto = crypto(2);
    network.start(2);
    network.run(20_000);

    assert_eq!(network.nodes[&1].reachable().count(), 0);
    let stats = network.nodes[&1].stats();
    assert!(stats.dropped(Drop::NotAuthentic) > 20);
    assert_eq!(stats.dropped(Drop::NotAuthentic), stats.dropped_total());
    // and a node in clear neither
    network.config.crypto = CryptoConfig::default();
    network.start(2);
    network.run(20_000);
    assert_eq!(network.nodes[&1].reachable().count(), 0);
}

/// Both nodes change their crypto, step by step and not at the same time, while they talk.
fn change(from: CryptoConfig, into: &CryptoConfig) {
    let mut network = Network::new(Template { crypto: from, ..Template::default() });
    network.settle();
    let mut mark = 0;
    let mut talk = |network: &mut Network| {
        mark += 1;
        for (node, other) in [(1, 2), (2, 1)] {
            network.send(node, Destination::All, &packet(3000, mark));
            network.run(1);
            assert_eq!(network.take_delivered(other), [(node, to(0, &packet(3000, mark)))]);
        }
        network.run(500);
    };
    for node in [1, 2] {
        network.nodes.get_mut(&node).unwrap().load_new_crypto(into).unwrap();
        talk(&mut network);
    }
    for node in [1, 2] {
        let now = network.now;
        network.nodes.get_mut(&node).unwrap().switch_sending(now).unwrap();
        network.drain(node);
        talk(&mut network);
    }
    for node in [1, 2] {
        network.nodes.get_mut(&node).unwrap().drop_old();
        talk(&mut network);
    }
    assert!(!network.changes.iter().any(|(_, _, c)| matches!(c, Output::LinkChanged { .. })));
    for links in network.nodes.values() {
        assert_eq!(links.stats().dropped_total(), 0);
    }
}

#[test]
fn keys_change_while_nodes_talk() {
    change(crypto(1), &crypto(2));
}

#[test]
fn crypto_is_switched_on_and_off_while_nodes_talk() {
    change(CryptoConfig::default(), &crypto(1));
    change(crypto(1), &CryptoConfig::default());
    let hash_only = CryptoConfig { cipher: Cipher::None, hash: Hash::Sha512, key: vec![3; 128].into() };
    change(crypto(1), &hash_only);
}
