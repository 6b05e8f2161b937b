//! The links between nodes: kronosnet's wire protocol, as corosync's `transport: knet` uses it.
//!
//! [`Links`] stands between the ring and the sockets. It keeps up to eight links to every host,
//! learns which of them work, encrypts, cuts what is too long, and drops what arrives twice. The
//! ring sees hosts; the sockets see datagrams. It never opens a socket and never reads a clock.
//!
//! The contract is that of all cores: [`Links::handle_input`], or one of the three calls for a
//! change of keys, then [`Links::poll_output`] until it returns `None`, then wait for the next input
//! or for [`Links::next_deadline`], which is [`Input::Timer`].
//!
//! ```text
//!   ring ---Send--->  send.rs     routes, fragments, crypto  ---Output::Send--->  sockets
//!   ring <-Deliver--  receive.rs  crypto, window, fragments  <---Datagram-------  sockets
//!                     link.rs     pings, pongs, MTU probes   <---Timer----------  clock
//! ```
//!
//! - `packet.rs`, `crypto.rs`, `slots.rs` the wire: packets, protection, change of keys
//! - `window.rs`, `fragments.rs` what was received from a host
//! - `link.rs`, `mtu.rs` one link: its state and its MTU
//! - `host.rs`, `routes.rs` which links are used
//! - `reconfigure.rs` hosts and links that come, go or change
//! - `io.rs`, `config.rs`, `stats.rs` what crosses the border
//!
//! ```
//! use std::time::Instant;
//! use membership_core::knet::{Config, CryptoConfig, Input, Links, Output};
//! use quorate_types::NodeId;
//!
//! let me = NodeId::new(1)?;
//! let other = [(0, "10.0.0.2:5405".parse()?)].into();
//! let hosts = [(NodeId::new(2)?, other)].into();
//! let config = Config { hosts, ..Config::new(me) }.check()?;
//! let now = Instant::now();
//! let mut links = Links::new(now, config, &CryptoConfig::default(), [7; 32])?;
//! assert_eq!(links.next_deadline(), Some(now));
//! links.handle_input(now, Input::Timer);
//! assert!(matches!(links.poll_output(), Some(Output::Send { link: 0, .. })), "a ping");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Sources: knet specification (`docs/protocols/knet.md`); corosync.conf(5).

mod config;
pub mod crypto;
mod fragments;
mod host;
mod io;
mod link;
mod mtu;
pub mod packet;
mod receive;
mod reconfigure;
mod routes;
mod send;
mod slots;
mod stats;
mod window;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Instant,
};

use quorate_types::NodeId;

pub use self::{
    config::{CheckedConfig, Config, ConfigError, FIXED_MTU_MIN, LINKS_MAX, LinkMode, LinkSettings},
    crypto::{Cipher, CryptoConfig, CryptoError, Hash, Key},
    io::{Input, LinkStatus, Output, Recipients},
    stats::{Direction, Drop, Latency, LinkStats, Stats, Traffic},
};
use self::{host::Host, link::Link, routes::Routes, slots::Slots};
use crate::strangers::Strangers;

/// This node's links to all others: one input, then drain all outputs, in order.
#[derive(Debug)]
pub struct Links {
    config: CheckedConfig,
    crypto: Slots,
    hosts: BTreeMap<NodeId, Host>,
    routes: Routes,
    /// Time stamps of pings count from here.
    epoch: Instant,
    /// The number of the last data packet; 0 before the first.
    seq: u16,
    /// Longer packets are cut into pieces of this size.
    data_mtu: usize,
    outputs: VecDeque<Output>,
    stats: Stats,
    strangers: Strangers,
    deadline: Option<Instant>,
    /// The deadline must be reckoned anew.
    deadline_moved: bool,
}

impl Links {
    /// All links down; the first pings are due at once.
    ///
    /// `seed` feeds the salts of encrypted packets: 32 random bytes that nobody else knows, new in
    /// every process.
    ///
    /// # Errors
    /// [`CryptoError`] when the crypto settings do not hold.
    pub fn new(
        now: Instant,
        config: CheckedConfig,
        crypto: &CryptoConfig,
        seed: [u8; 32],
    ) -> Result<Self, CryptoError> {
        let mut links = Self {
            crypto: Slots::new(crypto, seed)?,
            hosts: BTreeMap::new(),
            routes: Routes::default(),
            epoch: now,
            seq: 0,
            data_mtu: 1,
            outputs: VecDeque::new(),
            stats: Stats::default(),
            strangers: Strangers::default(),
            deadline: None,
            deadline_moved: true,
            config: config.clone(),
        };
        links.reconfigure(now, config);
        links.outputs.clear();
        links.find_deadline(now);
        Ok(links)
    }

    /// What happened. `now` is the only clock that the links have; it never goes back.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Datagram { link, from, datagram } => self.handle_datagram(now, link, from, datagram),
            Input::Send { to, packet } => self.send(now, to, &packet),
            Input::Timer => self.handle_timers(now),
            Input::TooLong { link, to, datagram_len, interface_mtu } => {
                self.handle_too_long(now, (link, to), datagram_len, interface_mtu);
            }
            Input::SendFailed { link, to } => {
                if let Some((_, link)) = self.link_to(link, to) {
                    link.stats.tx_errors += 1;
                }
            }
            Input::Reconfigure(config) => self.reconfigure(now, *config),
        }
        self.find_deadline(now);
    }

    /// What must be done. Call until it returns `None`, then wait for the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] is due at the latest; `None` without any link.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// First step of a change of keys: accepts packets of the new settings, too. When crypto is
    /// switched on or off, clear packets are accepted from now on until [`Links::drop_old`].
    ///
    /// # Errors
    /// [`CryptoError`] when the settings do not hold; nothing is changed then.
    pub fn load_new_crypto(&mut self, config: &CryptoConfig) -> Result<(), CryptoError> {
        self.crypto.load(config)
    }

    /// Second step, when this node's own phase 1 message was delivered: sends with the new settings,
    /// in pieces of the least size until each link's MTU is found anew.
    ///
    /// # Errors
    /// [`CryptoError::NothingLoaded`]; nothing is changed then.
    pub fn switch_sending(&mut self, now: Instant) -> Result<(), CryptoError> {
        self.crypto.switch()?;
        tracing::info!(protected = self.crypto.is_protected(), "knet crypto switched");
        let links: Vec<(NodeId, u8)> = self.all_links().map(|(node, number, _)| (node, number)).collect();
        for (node, number) in links {
            let link = self.hosts.get_mut(&node).and_then(|host| host.links.get_mut(&number));
            let probe = link.and_then(|link| link.restart_discovery(now));
            self.send_probe(node, number, probe);
        }
        self.deadline_moved = true;
        self.refresh();
        self.find_deadline(now);
        Ok(())
    }

    /// Third step, when this node's own phase 2 message was delivered: the old settings are refused.
    pub fn drop_old(&mut self) {
        self.crypto.drop_old();
    }

    /// Packets longer than this are cut into pieces, in bytes.
    #[must_use]
    pub fn data_mtu(&self) -> usize {
        self.data_mtu
    }

    /// Hosts with a usable link, ascending.
    pub fn reachable(&self) -> impl Iterator<Item = NodeId> {
        self.hosts.iter().filter(|(_, host)| host.reachable).map(|(&node, _)| node)
    }

    /// The counters of all links together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let incomplete = self.hosts.values().map(|host| host.reassembly.given_up()).sum::<u64>();
        let reassembly_bytes = self.hosts.values().map(|host| host.reassembly.bytes()).sum();
        Stats { incomplete: self.stats.incomplete + incomplete, reassembly_bytes, ..self.stats.clone() }
    }

    /// Who sends from an address that is not configured.
    #[must_use]
    pub fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    /// The counters of each link, by host and link.
    pub fn link_stats(&self) -> impl Iterator<Item = (NodeId, u8, &LinkStats)> {
        self.all_links().map(|(node, number, link)| (node, number, &link.stats))
    }

    /// What each link looks like, by host and link.
    pub fn link_status(&self) -> impl Iterator<Item = LinkStatus> {
        self.all_links().map(|(node, number, link)| {
            let local = self.config.config.local.get(&number).copied();
            LinkStatus {
                node,
                link: number,
                local,
                remote: link.remote,
                enabled: local.is_some(),
                connected: link.is_up(),
                active: self.routes.is_active(node, number),
                mtu: link.mtu(),
                latency: link.stats.latency.average,
            }
        })
    }

    fn all_links(&self) -> impl Iterator<Item = (NodeId, u8, &Link)> {
        let of_host = |(&node, host)| {
            let Host { links, .. }: &Host = host;
            links.iter().map(move |(&number, link)| (node, number, link))
        };
        self.hosts.iter().flat_map(of_host)
    }

    fn link_to(&mut self, number: u8, to: SocketAddr) -> Option<(NodeId, &mut Link)> {
        let with_number = |(&node, host)| {
            let Host { links, .. }: &mut Host = host;
            links.get_mut(&number).map(|link| (node, link))
        };
        self.hosts.iter_mut().filter_map(with_number).find(|(_, link)| link.remote == to)
    }

    fn handle_timers(&mut self, now: Instant) {
        let is_due = |link: &Link| link.deadline(now) <= now;
        let due = self.all_links().filter(|(_, _, link)| is_due(link));
        let due: Vec<(NodeId, u8)> = due.map(|(node, number, _)| (node, number)).collect();
        let mut has_changed = false;
        for (node, number) in due {
            let Some(link) = self.hosts.get_mut(&node).and_then(|host| host.links.get_mut(&number)) else {
                continue;
            };
            let before = (link.is_usable(), link.assumed_mtu());
            let went_down = link.take_silence(now);
            let probe = link.take_probe_due(now);
            let pings = link.take_ping_due(now);
            has_changed |= before != (link.is_usable(), link.assumed_mtu());
            if went_down {
                self.link_changed(node, number, false);
            }
            if pings {
                self.ping(now, node, number, true);
            }
            self.send_probe(node, number, probe);
        }
        self.deadline_moved = true;
        if has_changed {
            self.refresh();
        }
    }

    /// A probe that the kernel refuses is an answer; data that it refuses means that the MTU is wrong.
    fn handle_too_long(
        &mut self,
        now: Instant,
        (number, to): (u8, SocketAddr),
        length: usize,
        interface_mtu: Option<usize>,
    ) {
        let overhead = self.crypto.overhead();
        let Some((node, link)) = self.link_to(number, to) else {
            return;
        };
        let remote = link.remote;
        let probe = link.probing().map(|size| mtu::packet_max(size, &remote, overhead));
        let next = if probe.is_some_and(|packet| mtu::sealed_length(packet, overhead) == length) {
            link.take_probe_refused(now, interface_mtu)
        } else {
            link.stats.tx_errors += 1;
            link.take_data_refused(now, interface_mtu)
        };
        self.send_probe(node, number, next);
        self.deadline_moved = true;
        self.refresh();
    }

    fn link_changed(&mut self, node: NodeId, link: u8, up: bool) {
        tracing::info!(%node, link, up, "knet link");
        self.outputs.push_back(Output::LinkChanged { node, link, up });
    }

    /// Reckons anew what follows from the state of the links: who is reachable, the routes, and the
    /// size of pieces.
    fn refresh(&mut self) {
        for (&node, host) in &mut self.hosts {
            let reachable = host.links.values().any(Link::is_usable);
            if std::mem::replace(&mut host.reachable, reachable) != reachable {
                if !reachable {
                    host.forget_received();
                }
                tracing::info!(%node, reachable, "knet host");
                self.outputs.push_back(Output::HostChanged { node, reachable });
            }
        }
        self.routes.rebuild(self.config.config.link_mode, &self.hosts);
        let overhead = self.crypto.overhead();
        let mtu = |link: &Link| mtu::data_mtu(link.assumed_mtu(), &link.remote, overhead);
        let up = self.all_links().filter(|(_, _, link)| link.is_up()).map(|(_, _, link)| mtu(link));
        let data_mtu = up.min().unwrap_or_else(|| mtu::data_mtu_min(overhead));
        if std::mem::replace(&mut self.data_mtu, data_mtu) != data_mtu {
            tracing::info!(data_mtu, "knet data MTU");
            self.outputs.push_back(Output::MtuChanged { data_mtu });
        }
    }

    fn find_deadline(&mut self, now: Instant) {
        if std::mem::take(&mut self.deadline_moved) {
            self.deadline = self.all_links().map(|(_, _, link)| link.deadline(now)).min();
        }
    }
}
