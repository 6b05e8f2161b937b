//! Discovery of the MTU through networks that are narrower than they look.

use membership_core::{
    knet::{Cipher, CryptoConfig, Hash},
    srp::Destination,
};

use crate::network::{Network, Template, packet, to};

fn encrypted() -> CryptoConfig {
    CryptoConfig { cipher: Cipher::Aes256, hash: Hash::Sha256, key: vec![1; 256].into() }
}

fn delivers(network: &mut Network, length: usize) {
    network.send(1, Destination::All, &packet(length, 1));
    network.run(1);
    assert_eq!(network.take_delivered(2), [(1, to(0, &packet(length, 1)))]);
}

#[test]
fn the_mtu_is_least_at_link_up_and_that_of_the_interface_a_round_trip_later() {
    for (crypto, least, usual) in [(CryptoConfig::default(), 482, 1446), (encrypted(), 421, 1397)] {
        let mut network = Network::new(Template { crypto, ..Template::default() });
        assert_eq!(network.nodes[&1].data_mtu(), least);
        network.run(1600);
        assert_eq!(network.nodes[&1].data_mtu(), usual);
        assert_eq!(network.status(1, 2, 0).mtu, Some(1500));
    }
}

#[test]
fn a_path_that_is_narrower_than_the_interface_is_found_out() {
    for crypto in [CryptoConfig::default(), encrypted()] {
        let mut network = Network::new(Template { crypto, ..Template::default() });
        network.path_mtu.insert(0, 1280);
        // data flows at once, in small pieces
        network.run(1600);
        delivers(&mut network, 20_000);
        network.run(40_000);
        // and then in greater ones
        let found = usize::from(network.status(1, 2, 0).mtu.unwrap());
        // (encrypted, sizes that differ by less than a block are the same datagram)
        assert!((1280 - 15..1280 + 16).contains(&found), "{found}");
        delivers(&mut network, 20_000);
    }
}

#[test]
fn a_path_that_becomes_narrower_is_noticed() {
    let mut network = Network::new(Template::default());
    network.settle();
    network.path_mtu.insert(0, 1000);
    network.run(60_000);

    let found = usize::from(network.status(1, 2, 0).mtu.unwrap());
    assert_eq!(found, 1000);
    delivers(&mut network, 20_000);
}

#[test]
fn jumbo_frames_are_used() {
    let mut network = Network::new(Template::default());
    network.interface_mtu = 9000;
    network.settle();

    assert_eq!(network.nodes[&1].data_mtu(), 9000 - 28 - 26);
    network.data.clear();
    delivers(&mut network, 8946);
    assert_eq!(network.data[&(1, 2, 0)], 1);
    // when the interface shrinks, the first packet is lost and the next ones are not
    network.interface_mtu = 1500;
    network.send(1, Destination::All, &packet(8946, 1));
    network.drain(1);
    network.run(1);
    assert_eq!(network.nodes[&1].data_mtu(), 1446);
    delivers(&mut network, 8946);
}

#[test]
fn the_narrowest_link_decides() {
    let mut network = Network::new(Template { links: 2, ..Template::default() });
    network.path_mtu.insert(1, 1200);
    network.run(60_000);

    assert_eq!((network.status(1, 2, 0).mtu, network.status(1, 2, 1).mtu), (Some(1500), Some(1200)));
    assert_eq!(network.nodes[&1].data_mtu(), 1200 - 54);
}

#[test]
fn a_fixed_mtu_is_used_without_probes() {
    let mut network = Network::new(Template { mtu: Some(1100), ..Template::default() });
    network.settle();

    assert_eq!(network.nodes[&1].data_mtu(), 1100 - 54);
    let probes = network.nodes[&1].link_stats().map(|(_, _, stats)| stats.tx.pmtud.packets).sum::<u64>();
    assert_eq!(probes, 0);
    delivers(&mut network, 20_000);
}

#[test]
fn a_host_that_does_not_answer_probes_becomes_unreachable() {
    // given a path that carries pings but nothing longer
    let mut network = Network::new(Template::default());
    network.path_mtu.insert(0, 200);
    network.run(5000);
    assert_eq!(network.nodes[&1].reachable().count(), 1);
    network.run(40_000);
    assert_eq!(network.nodes[&1].reachable().count(), 0);
    assert_eq!((network.status(1, 2, 0).connected, network.status(1, 2, 0).mtu), (true, None));
    // when the path is as it should be
    network.path_mtu.clear();
    network.run(31_000);
    assert_eq!(network.nodes[&1].reachable().count(), 1);
}
