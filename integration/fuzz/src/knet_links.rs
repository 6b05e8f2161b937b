//! All links of node 1 to nodes 2 and 3: whatever arrives, from any address, answers and memory stay bounded and the
//! timers go on.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use membership_core::{
    knet::{
        Config, CryptoConfig, Input, LinkMode, Links, Output,
        crypto::{Protection, SALT},
        packet::{Body, Packet},
    },
    srp::Destination,
};
use quorate_types::NodeId;

use crate::{feed::Feed, heap, knet_crypto::settings};

const HOSTS: u8 = 2;
const LINKS: u8 = 2;
/// Incomplete packets of one host, and what each may take: its limit, twice for the growth of a buffer.
const REASSEMBLY_MAX: usize = 32 * 2 * 65_536;
/// Answers to one datagram: a pong or a reply, a probe, and what changed.
const OUTPUTS_MAX: usize = 8;
/// Fragments of the longest packet, over all links, and what changed.
const OUTPUTS_OF_SEND_MAX: usize = 255 * HOSTS as usize * LINKS as usize + OUTPUTS_MAX;

/// See the module.
pub fn check(input: &[u8]) {
    let most = (1 << 20) + HOSTS as usize * REASSEMBLY_MAX + 64 * input.len() + OUTPUTS_OF_SEND_MAX * 2048;
    heap::within(most, || Harness::new(&mut Feed(input)).map(|harness| harness.run()));
}

struct Harness<'a, 'b> {
    feed: &'a mut Feed<'b>,
    links: Links,
    now: Instant,
    /// What others seal with.
    crypto: CryptoConfig,
    /// Pings and probes of this node are answered by the others.
    answers: bool,
}

fn address(host: u8, link: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, link, host], 5405 + u16::from(link)))
}

fn config(bits: u8) -> Config {
    let hosts = (2..2 + HOSTS).filter_map(|host| {
        let links = (0..LINKS).map(|link| (link, address(host, link))).collect();
        Some((NodeId::new(host.into()).ok()?, links))
    });
    Config {
        hosts: hosts.collect(),
        link_mode: [LinkMode::Passive, LinkMode::Active, LinkMode::RoundRobin][usize::from(bits % 3)],
        mtu: (bits & 64 != 0).then_some(1500),
        block_unlisted_ips: bits & 128 == 0,
        ..Config::new(NodeId::new(1).expect("not 0"))
    }
}

impl<'a, 'b> Harness<'a, 'b> {
    fn new(feed: &'a mut Feed<'b>) -> Option<Self> {
        let bits = feed.byte();
        let crypto = if bits & 16 == 0 { CryptoConfig::default() } else { settings(feed.byte(), 1) };
        let now = Instant::now();
        let config = config(bits).check().expect("the configuration holds");
        let links = Links::new(now, config, &crypto, [7; 32]).ok()?;
        Some(Self { feed, links, now, crypto, answers: bits & 32 == 0 })
    }

    fn run(mut self) {
        if self.answers {
            for _ in 0..12 {
                self.timer();
            }
        }
        while !self.feed.is_empty() {
            self.step();
            let stats = self.links.stats();
            assert!(
                stats.reassembly_bytes <= usize::from(HOSTS) * REASSEMBLY_MAX,
                "{}",
                stats.reassembly_bytes
            );
            assert!(self.links.reachable().count() <= usize::from(HOSTS));
            assert!(self.links.data_mtu() > 0);
        }
    }

    fn step(&mut self) {
        let op = self.feed.byte();
        let (host, link) = (2 + (op >> 4) % HOSTS, (op >> 5) % LINKS);
        match op % 16 {
            0 => self.timer(),
            1 => self.now += Duration::from_millis(u64::from(self.feed.short())),
            2 => {
                let to = if op & 128 == 0 { Destination::All } else { Destination::Node(self.feed.node(4)) };
                let packet = vec![op; usize::from(self.feed.short())].into();
                self.input(Input::Send { to, packet }, OUTPUTS_OF_SEND_MAX);
            }
            3 => {
                let (to, datagram_len) = (address(host, link), usize::from(self.feed.short()));
                let interface_mtu = (op & 128 == 0).then(|| usize::from(self.feed.short()));
                self.input(Input::TooLong { link, to, datagram_len, interface_mtu }, OUTPUTS_MAX);
            }
            4 => self.input(Input::SendFailed { link, to: address(host, link) }, OUTPUTS_MAX),
            5 => self.change_keys(),
            6 => {
                let config = config(self.feed.byte()).check().expect("the configuration holds");
                self.input(Input::Reconfigure(Box::new(config)), OUTPUTS_MAX * 4);
            }
            7 | 8 => {
                // From anywhere, as it is.
                let from = SocketAddr::from(([10, 0, self.feed.byte(), self.feed.byte()], self.feed.short()));
                let (link, datagram) = (self.feed.byte(), self.feed.piece());
                self.input(Input::Datagram { link, from, datagram }, OUTPUTS_MAX);
            }
            9 => {
                // From a peer, not sealed.
                let datagram = self.feed.piece();
                self.input(Input::Datagram { link, from: address(host, link), datagram }, OUTPUTS_MAX);
            }
            10 => {
                // A fragment, without its header in the input.
                let [seq_high, seq_low, count, number] = [0; 4].map(|_| self.feed.byte());
                let piece = vec![op; usize::from(self.feed.short())];
                let head = [1, 0, 0, host, 0, 0, seq_high & 1, seq_low, 0, 0, 1, count, number, 0];
                self.datagram(host, link, [&head[..], &piece].concat().into());
            }
            _ => {
                let clear = self.feed.piece();
                self.datagram(host, link, clear);
            }
        }
    }

    /// A packet of a peer, sealed as it should be.
    fn datagram(&mut self, host: u8, link: u8, clear: Bytes) {
        let sealed = match Protection::new(&self.crypto) {
            Ok(Some(protection)) => protection.seal([host; SALT], &[&clear]),
            _ => clear,
        };
        self.input(Input::Datagram { link, from: address(host, link), datagram: sealed }, OUTPUTS_MAX);
    }

    fn change_keys(&mut self) {
        let next = settings(self.feed.byte(), 2);
        match self.feed.byte() % 3 {
            0 => {
                if self.links.load_new_crypto(&next).is_ok() && self.links.switch_sending(self.now).is_ok() {
                    self.crypto = next;
                }
            }
            1 => drop(self.links.switch_sending(self.now)),
            _ => self.links.drop_old(),
        }
        while self.links.poll_output().is_some() {}
    }

    fn timer(&mut self) {
        if let Some(deadline) = self.links.next_deadline() {
            self.now = self.now.max(deadline);
        }
        // The answers to what this sends take time.
        let (now, all) = (self.now, usize::from(HOSTS) * usize::from(LINKS));
        self.input(Input::Timer, all * 4 + OUTPUTS_MAX);
        assert!(self.links.next_deadline() > Some(now), "a timer that is never done");
    }

    fn input(&mut self, input: Input, most: usize) {
        self.links.handle_input(self.now, input);
        let mut outputs = Vec::new();
        while let Some(output) = self.links.poll_output() {
            outputs.push(output);
            assert!(outputs.len() <= most, "{} outputs", outputs.len());
        }
        for output in outputs {
            match output {
                Output::Send { link, to, datagram, .. } => self.answer(link, to.as_slice(), datagram),
                Output::Deliver { from, .. } => assert!((2..2 + u32::from(HOSTS)).contains(&from.get())),
                Output::LinkChanged { .. } | Output::HostChanged { .. } | Output::MtuChanged { .. } => {}
            }
        }
    }

    /// A pong or a reply of the node that was pinged or probed.
    fn answer(&mut self, link: u8, to: &[SocketAddr], datagram: Bytes) {
        assert!(datagram.len() <= 65_507, "longer than a datagram can be");
        if !self.answers {
            return;
        }
        let clear = match Protection::new(&self.crypto) {
            Ok(Some(protection)) => protection.open(datagram).ok(),
            _ => Some(datagram),
        };
        let Some(packet) = clear.and_then(|clear| Packet::from_wire(&clear).ok()) else { return };
        let body = match packet.body {
            Body::Ping(ping) => Body::Pong(ping),
            Body::Pmtud(probe, _) => Body::PmtudReply(probe),
            _ => return,
        };
        for &from in to {
            let SocketAddr::V4(v4) = from else { continue };
            let host = v4.ip().octets()[3];
            let (head, rest) = Packet { node: host.into(), max_version: 0, body: body.clone() }.to_wire();
            self.now += Duration::from_micros(300);
            self.datagram(host, link, [head.as_slice(), &rest].concat().into());
        }
    }
}
