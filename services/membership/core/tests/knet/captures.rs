//! What kronosnet recorded: every packet is read and written back to the byte, encrypted ones are
//! opened and sealed again to the byte, and our links take a recorded node's packets for its own.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use membership_core::{
    knet::{
        Config, CryptoConfig, Drop, Input, Links, Output,
        crypto::{Protection, SALT},
        packet::{Body, Packet},
    },
    srp::message,
};
use quorate_types::NodeId;

use crate::pcap::{self, Recorded};

/// Reads a packet in clear, writes it back, and counts its kind.
fn round_trip(clear: &Bytes, kinds: &mut BTreeMap<&'static str, usize>) {
    let packet = Packet::from_wire(clear).unwrap();
    let (head, rest) = packet.to_wire();
    assert_eq!([head.as_slice(), &rest].concat(), clear[..], "{packet:?}");
    let kind = match packet.body {
        Body::Data(header, payload) => {
            if header.fragments == 1 {
                message::decode(&payload).unwrap();
            }
            "data"
        }
        Body::Ping(_) => "ping",
        Body::Pong(_) => "pong",
        Body::Pmtud(..) => "pmtud",
        Body::PmtudReply(_) => "reply",
    };
    *kinds.entry(kind).or_default() += 1;
}

fn counts(
    data: usize,
    ping: usize,
    pmtud: usize,
    reply: usize,
    pong: usize,
) -> BTreeMap<&'static str, usize> {
    [("data", data), ("ping", ping), ("pmtud", pmtud), ("reply", reply), ("pong", pong)].into()
}

#[test]
fn clear_packets_are_written_back_to_the_byte() {
    for (file, expected) in
        [(pcap::PLAIN, counts(623, 170, 18, 18, 128)), (pcap::TWO_LINKS, counts(427, 120, 8, 8, 108))]
    {
        let mut kinds = BTreeMap::new();
        for recorded in pcap::read(file) {
            round_trip(&recorded.datagram, &mut kinds);
        }
        assert_eq!(kinds, expected);
    }
}

/// Opens a datagram, seals what is in it with the same salt, and returns it.
fn open_and_seal(protection: &Protection, datagram: &Bytes) -> Option<Bytes> {
    let clear = protection.open(datagram.clone()).ok()?;
    let salt: [u8; SALT] = datagram[..SALT].try_into().unwrap();
    assert_eq!(protection.seal(salt, &[&clear]), datagram);
    Some(clear)
}

#[test]
fn encrypted_packets_are_opened_and_sealed_again_to_the_byte() {
    let protection = Protection::new(&pcap::aes256_sha256()).unwrap().unwrap();
    for (file, expected) in
        [(pcap::AES_OPENSSL, counts(639, 174, 15, 15, 130)), (pcap::AES_NSS, counts(244, 63, 4, 4, 39))]
    {
        let mut kinds = BTreeMap::new();
        for recorded in pcap::read(file) {
            round_trip(&open_and_seal(&protection, &recorded.datagram).unwrap(), &mut kinds);
        }
        assert_eq!(kinds, expected);
    }
}

#[test]
fn no_damaged_recorded_packet_opens() {
    let protection = Protection::new(&pcap::aes256_sha256()).unwrap().unwrap();
    for recorded in pcap::read(pcap::AES_NSS).iter().take(60) {
        for at in (0..recorded.datagram.len()).step_by(7) {
            let mut damaged = recorded.datagram.to_vec();
            damaged[at] ^= 0x10;
            assert!(protection.open(damaged.into()).is_err());
        }
    }
}

fn id(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

/// Node `me` of the recorded cluster of `nodes` nodes, on one link.
fn links(now: Instant, me: u32, nodes: u32, crypto: &CryptoConfig) -> Links {
    let host = |n: u32| (id(n), [(0, format!("10.77.0.{}:5405", 10 + n).parse().unwrap())].into());
    let hosts = (1..=nodes).filter(|n| *n != me).map(host).collect();
    let config = Config { hosts, ..Config::new(id(me)) }.check().unwrap();
    Links::new(now, config, crypto, [1; 32]).unwrap()
}

/// Feeds what the node received; its own pongs are answered as if the network took no time, since
/// recorded pongs carry the time stamps of the recorded node.
struct Replay {
    start: Instant,
    first: f64,
    links: Links,
    delivered: Vec<Bytes>,
}

impl Replay {
    fn now(&self, recorded: &Recorded) -> Instant {
        self.start + Duration::from_secs_f64(recorded.seconds - self.first)
    }

    fn feed(&mut self, recorded: &Recorded) {
        let now = self.now(recorded);
        let Recorded { from, datagram, .. } = recorded.clone();
        self.links.handle_input(now, Input::Datagram { link: 0, from, datagram });
        self.drain();
    }

    fn drain(&mut self) -> Vec<Output> {
        let outputs: Vec<Output> = std::iter::from_fn(|| self.links.poll_output()).collect();
        let packet = |output: &Output| match output {
            Output::Deliver { packet, .. } => Some(packet.clone()),
            _ => None,
        };
        self.delivered.extend(outputs.iter().filter_map(packet));
        outputs
    }

    /// Brings up the links to all hosts by sending the links' own pings back as pongs.
    fn bring_up(&mut self, crypto: &CryptoConfig, nodes: &[u32]) {
        let protection = Protection::new(crypto).unwrap();
        for turn in 0..3 {
            let now = self.start + Duration::from_millis(750 * turn);
            self.links.handle_input(now, Input::Timer);
            for output in self.drain() {
                let Output::Send { to, datagram, .. } = output else { continue };
                let clear = match &protection {
                    Some(protection) => protection.open(datagram).unwrap(),
                    None => datagram,
                };
                let Body::Ping(ping) = Packet::from_wire(&clear).unwrap().body else { continue };
                for from in to.as_slice() {
                    let node = nodes.iter().find(|n| from.to_string().contains(&format!(".{}:", 10 + **n)));
                    let node = u16::try_from(*node.unwrap()).unwrap();
                    let (head, _) = Packet { node, max_version: 0, body: Body::Pong(ping) }.to_wire();
                    let datagram = match &protection {
                        Some(protection) => protection.seal([0; SALT], &[head.as_slice()]),
                        None => Bytes::copy_from_slice(head.as_slice()),
                    };
                    self.links.handle_input(now, Input::Datagram { link: 0, from: *from, datagram });
                    self.drain();
                }
            }
        }
        assert_eq!(self.links.reachable().count(), nodes.len());
    }
}

fn replay(file: &'static [u8], me: u32, nodes: u32, crypto: &CryptoConfig) -> (Vec<Recorded>, Replay) {
    let all = pcap::read(file);
    let start = Instant::now();
    let links = links(start, me, nodes, crypto);
    let mut replay = Replay { start, first: all[0].seconds, links, delivered: Vec::new() };
    let others: Vec<u32> = (1..=nodes).filter(|n| *n != me).collect();
    replay.bring_up(crypto, &others);
    (all, replay)
}

#[test]
fn our_links_take_everything_that_a_recorded_node_received() {
    for (file, nodes, crypto) in [
        (pcap::PLAIN, 3, CryptoConfig::default()),
        (pcap::AES_OPENSSL, 3, pcap::aes256_sha256()),
        (pcap::AES_NSS, 2, pcap::aes256_sha256()),
    ] {
        let (all, mut replay) = replay(file, 2, nodes, &crypto);
        let received: Vec<&Recorded> = all.iter().filter(|r| r.to.to_string() == "10.77.0.12:5405").collect();

        for recorded in &received {
            replay.feed(recorded);
        }

        // The only packets dropped are those that answer what the recorded node asked.
        let stats = replay.links.stats();
        for reason in Drop::ALL {
            let expected = matches!(reason, Drop::BadTime | Drop::UnexpectedReply);
            assert_eq!(stats.dropped(reason) > 0, expected, "{}: {}", reason.name(), stats.dropped(reason));
        }
        for packet in &replay.delivered {
            message::decode(packet).unwrap();
        }
        assert!(replay.delivered.len() > 80, "{}", replay.delivered.len());
        assert!(replay.delivered.iter().any(|packet| packet.len() > 20_000), "cut into 14 fragments");
    }
}

#[test]
fn a_recorded_change_of_keys_is_followed() {
    // given a node in clear, which is told of the new key before the first encrypted packet comes
    let clear = CryptoConfig::default();
    let (all, mut replay) = replay(pcap::CRYPTO_RELOAD, 1, 2, &clear);
    let protection = Protection::new(&pcap::aes256_sha256()).unwrap().unwrap();
    let mut kinds = BTreeMap::new();
    let (mut in_clear, mut encrypted) = (0, 0);
    replay.links.load_new_crypto(&pcap::aes256_sha256()).unwrap();
    // when everything that was recorded arrives
    for recorded in &all {
        if let Some(packet) = open_and_seal(&protection, &recorded.datagram) {
            round_trip(&packet, &mut kinds);
            encrypted += 1;
            if encrypted == 1 {
                replay.links.switch_sending(replay.now(recorded)).unwrap();
            }
        } else {
            round_trip(&recorded.datagram, &mut kinds);
            in_clear += 1;
        }
        if recorded.to.to_string() == "10.77.0.11:5405" {
            replay.feed(recorded);
        }
    }
    // then nothing was refused
    assert_eq!((in_clear, encrypted), (110, 62));
    assert_eq!(kinds, counts(106, 30, 4, 4, 28));
    let stats = replay.links.stats();
    assert_eq!((stats.dropped(Drop::NotAuthentic), stats.dropped(Drop::TooShort)), (0, 0));
    // and in the end clear packets are
    replay.links.drop_old();
    let last_clear = all.iter().find(|r| r.to.to_string() == "10.77.0.11:5405").unwrap();
    let refused =
        |links: &Links| links.stats().dropped(Drop::NotAuthentic) + links.stats().dropped(Drop::TooShort);
    replay.feed(last_clear);
    assert_eq!(refused(&replay.links), 1);
}
