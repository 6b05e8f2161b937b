//! Packets that nobody should send: counted by reason, dropped, and without any other effect.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use membership_core::{
    knet::{
        Config, CryptoConfig, Drop, Input, Output,
        packet::{Body, DataHeader, Packet, Ping, Pmtud},
    },
    srp::Destination,
};
use proptest::prelude::*;

use crate::network::{Network, Template, address, id, packet, to};

fn wire(node: u16, body: Body) -> Bytes {
    let (head, rest) = Packet { node, max_version: 0, body }.to_wire();
    [head.as_slice(), &rest].concat().into()
}

fn header(seq: u16) -> DataHeader {
    DataHeader { seq, compression: 0, to_all: 1, fragments: 1, fragment: 0, channel: 0 }
}

fn data(header: DataHeader) -> Bytes {
    wire(2, Body::Data(header, to(0, &packet(60, 1))))
}

fn ping(link: u8) -> Ping {
    Ping { link, time: [0; 16], seq: 9, timed: 1 }
}

fn settled() -> Network {
    let mut network = Network::new(Template { nodes: 3, links: 2, ..Template::default() });
    network.settle();
    network.run(100);
    network
}

/// What node 1 says to a datagram on link 0.
fn feed(network: &mut Network, from: SocketAddr, datagram: Bytes) -> Vec<Output> {
    let now = network.now;
    let links = network.nodes.get_mut(&1).unwrap();
    links.handle_input(now, Input::Datagram { link: 0, from, datagram });
    std::iter::from_fn(|| links.poll_output()).collect()
}

fn refuses(network: &mut Network, reason: Drop, from: SocketAddr, datagram: Bytes) {
    let before = network.nodes[&1].stats();
    assert_eq!(feed(network, from, datagram), [], "{}", reason.name());
    let after = network.nodes[&1].stats();
    assert_eq!(after.dropped(reason), before.dropped(reason) + 1, "{}", reason.name());
    assert_eq!(after.dropped_total(), before.dropped_total() + 1);
}

#[test]
fn everything_that_does_not_fit_is_dropped_by_name() {
    let mut network = settled();
    let network = &mut network;
    let peer = address(2, 0);
    let other_port = SocketAddr::new(peer.ip(), 9);
    let totem = |bytes: &[u8]| wire(2, Body::Data(header(5), Bytes::copy_from_slice(bytes)));

    refuses(network, Drop::UnlistedAddress, "10.99.0.1:5405".parse().unwrap(), data(header(1)));
    refuses(network, Drop::UnlistedAddress, address(2, 1), data(header(1)));
    refuses(network, Drop::TooShort, peer, Bytes::new());
    refuses(network, Drop::TooShort, peer, data(header(1)).slice(..13));
    refuses(network, Drop::BadVersion, peer, Bytes::from_static(b"\x02\0\0\x02\0\0\0"));
    refuses(network, Drop::UnknownType, peer, Bytes::from_static(b"\x01\x42\0\x02\0\0\0"));
    refuses(network, Drop::NoSuchHost, peer, wire(9, Body::Ping(ping(0))));
    refuses(network, Drop::NoSuchHost, peer, wire(1, Body::Ping(ping(0))));
    refuses(network, Drop::NoSuchHost, peer, Bytes::from_static(b"\x01\x84\0\0\0\0\0\0\0"));
    refuses(network, Drop::WrongAddress, address(3, 0), data(header(1)));
    refuses(network, Drop::WrongAddress, other_port, data(header(1)));
    refuses(network, Drop::WrongAddress, address(3, 0), wire(2, Body::Ping(ping(0))));
    for link in [1, 7, 8, 255] {
        refuses(network, Drop::WrongLink, peer, wire(2, Body::Ping(ping(link))));
        refuses(network, Drop::WrongLink, peer, wire(2, Body::Pong(ping(link))));
        refuses(
            network,
            Drop::WrongLink,
            peer,
            wire(2, Body::Pmtud(Pmtud { link, size: 100 }, Bytes::new())),
        );
        refuses(network, Drop::WrongLink, peer, wire(2, Body::PmtudReply(Pmtud { link, size: 100 })));
    }
    refuses(network, Drop::UnexpectedReply, peer, wire(2, Body::PmtudReply(Pmtud { link: 0, size: 1500 })));
    refuses(network, Drop::BadTime, peer, wire(2, Body::Pong(ping(0))));
    refuses(network, Drop::BadTime, peer, wire(2, Body::Pong(Ping { time: [0xff; 16], ..ping(0) })));
    refuses(network, Drop::BadChannel, peer, data(DataHeader { channel: -1, ..header(1) }));
    refuses(network, Drop::Compressed, peer, data(DataHeader { compression: 7, ..header(1) }));
    for (fragments, fragment) in [(0, 0), (0, 1), (2, 0), (2, 3), (255, 0)] {
        refuses(network, Drop::BadFragment, peer, data(DataHeader { fragments, fragment, ..header(1) }));
    }
    refuses(network, Drop::NotTotem, peer, totem(b"too short"));
    refuses(network, Drop::Duplicate, peer, totem(b"no ring packet, and the number of the one before"));
    let foreign = wire(2, Body::Data(header(6), to(3, &packet(60, 1))));
    refuses(network, Drop::ForeignTarget, peer, foreign);
    // and a good one still passes
    assert!(matches!(feed(network, peer, data(header(7)))[..], [Output::Deliver { .. }]));
    refuses(network, Drop::Duplicate, peer, data(header(7)));
}

#[test]
fn fragments_from_before_a_jump_do_not_complete_a_packet_after_it() {
    let mut network = settled();
    let fragment = |number| data(DataHeader { fragments: 2, fragment: number, ..header(5) });
    assert_eq!(feed(&mut network, address(2, 0), fragment(1)), []);
    assert_eq!(feed(&mut network, address(2, 0), data(header(30_000))).len(), 1);

    assert_eq!(feed(&mut network, address(2, 0), fragment(2)), []);
    assert_eq!(network.nodes[&1].stats().incomplete, 1);
}

#[test]
fn what_was_received_is_forgotten_when_the_last_link_goes() {
    let mut network = settled();
    for _ in 0..7 {
        network.send(2, Destination::All, &packet(60, 1));
    }
    network.run(1);
    network.cut_link(1, 2, 0);
    network.run(3000);
    refuses(&mut network, Drop::Duplicate, address(2, 0), data(header(7)));
    network.cut_link(1, 2, 1);
    network.run(3000);
    refuses(&mut network, Drop::UnreachableSource, address(2, 0), data(header(7)));
    network.cut.clear();
    network.run(5000);
    assert_eq!(feed(&mut network, address(2, 0), data(header(7))).len(), 1);
}

#[test]
fn a_ping_is_answered_to_the_configured_address_whoever_sent_it() {
    // given a node without access list
    let mut network = settled();
    let config = Config { block_unlisted_ips: false, ..network.config.config(1) };
    network.input(1, Input::Reconfigure(Box::new(config.check().unwrap())));
    // when a ping comes from a strange address
    let outputs = feed(&mut network, "10.99.0.1:9".parse().unwrap(), wire(2, Body::Ping(ping(0))));
    // then the pong does not go there
    let [Output::Send { link: 0, to, datagram, probe: false }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(to.as_slice(), [address(2, 0)]);
    assert_eq!(*datagram, wire(1, Body::Pong(ping(0))));
    // and data from there is dropped all the same
    refuses(&mut network, Drop::WrongAddress, "10.99.0.1:9".parse().unwrap(), data(header(1)));
}

#[test]
fn encrypted_nodes_take_nothing_that_is_not_authentic() {
    // given two nodes with a key
    let crypto = crate::pcap::aes256_sha256();
    let mut network = Network::new(Template { crypto, ..Template::default() });
    network.settle();
    let peer = address(2, 0);
    // then clear packets, and damaged ones, are refused
    refuses(&mut network, Drop::TooShort, peer, wire(2, Body::Ping(ping(0))));
    refuses(&mut network, Drop::NotAuthentic, peer, data(DataHeader { fragments: 1, ..header(1) }));
    let now = network.now;
    let sender = network.nodes.get_mut(&2).unwrap();
    sender.handle_input(now, Input::Send { to: Destination::All, packet: packet(60, 1) });
    let Some(Output::Send { datagram, .. }) = sender.poll_output() else { panic!("a datagram") };
    for at in 0..datagram.len() {
        let mut damaged = datagram.to_vec();
        damaged[at] ^= 1;
        refuses(&mut network, Drop::NotAuthentic, peer, damaged.into());
    }
    assert!(matches!(feed(&mut network, peer, datagram)[..], [Output::Deliver { .. }]));
}

#[test]
fn errors_of_the_kernel_for_unknown_addresses_are_ignored() {
    let mut network = settled();
    let to: SocketAddr = "10.99.0.1:9".parse().unwrap();
    for input in [
        Input::SendFailed { link: 0, to },
        Input::SendFailed { link: 9, to: address(2, 0) },
        Input::TooLong { link: 0, to, datagram_len: 9, interface_mtu: None },
    ] {
        network.input(1, input);
    }
    network.input(1, Input::SendFailed { link: 0, to: address(2, 0) });
    assert_eq!(network.nodes[&1].link_stats().next().unwrap().2.tx_errors, 1);
    assert_eq!(network.nodes[&1].data_mtu(), 1446);
}

fn body() -> impl Strategy<Value = Body> {
    let small = prop_oneof![0u8..4, any::<u8>()];
    let payload = prop::collection::vec(any::<u8>(), 0..100).prop_map(|mut bytes| {
        if bytes.len() > 20 {
            bytes[..2].copy_from_slice(&[0x70, 0xc0]);
            bytes[9..13].fill(0);
        }
        Bytes::from(bytes)
    });
    let seq = prop_oneof![0u16..40, any::<u16>()];
    let ping = (small.clone(), any::<[u8; 16]>(), seq.clone(), 0u8..2)
        .prop_map(|(link, time, seq, timed)| Ping { link, time, seq, timed });
    let pmtud = (small.clone(), any::<u16>()).prop_map(|(link, size)| Pmtud { link, size });
    prop_oneof![
        4 => (seq, small.clone(), small, 0i8..2, payload.clone()).prop_map(|(seq, fragments, fragment, channel, payload)| {
            Body::Data(DataHeader { seq, compression: 0, to_all: 0, fragments, fragment, channel }, payload)
        }),
        1 => ping.clone().prop_map(Body::Ping),
        1 => ping.prop_map(Body::Pong),
        1 => (pmtud.clone(), payload).prop_map(|(pmtud, padding)| Body::Pmtud(pmtud, padding)),
        1 => pmtud.prop_map(Body::PmtudReply),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_packets_from_a_peer_make_the_links_panic_or_answer_more_than_once(
        bodies in prop::collection::vec((1u16..4, 0u8..3, body()), 1..60),
        garbage in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut network = Network::new(Template { links: 2, crypto: CryptoConfig::default(), ..Template::default() });
        network.run(1600);
        let datagrams = bodies.into_iter().map(|(node, link, body)| (link, wire(node, body)));
        for (link, datagram) in datagrams.chain([(0, garbage.into())]) {
            let now = network.now;
            let links = network.nodes.get_mut(&1).unwrap();
            links.handle_input(now, Input::Datagram { link, from: address(2, link), datagram });
            let outputs = std::iter::from_fn(|| links.poll_output()).count();
            prop_assert!(outputs <= 4, "{}", outputs);
            links.handle_input(now, Input::Timer);
            while links.poll_output().is_some() {}
            prop_assert!(links.next_deadline() > Some(now));
            network.now += Duration::from_millis(1);
        }
        prop_assert_eq!(network.nodes[&1].reachable().collect::<Vec<_>>(), [id(2)]);
    }
}
