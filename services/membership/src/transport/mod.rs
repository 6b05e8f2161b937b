//! How the ring's packets travel: one of corosync's three transports, chosen by `totem.transport`.
//!
//! | transport | to all | protection | links |
//! |---|---|---|---|
//! | `knet` | one datagram per member and link | `secauth`, `crypto_cipher`, `crypto_hash` | 8 |
//! | `udpu` | one datagram per member | none | 1 |
//! | `udp` | one datagram | none | 1 |
//!
//! All of them lose packets without a word: the ring asks for them again.

mod knet;
mod multicast;
mod peers;
mod socket;
mod udpu;

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use membership_core::{srp::Destination, strangers::Strangers};
use quorate_types::NodeId;

use self::{knet::Knet, multicast::Multicast, peers::Peers, udpu::Udpu};
pub use self::{knet::KnetConfig, multicast::Group, peers::LinkCounters};
use crate::{
    config::{RingConfig, TransportConfig},
    error::Error,
    view::LinkView,
};

const WAY_OUT: &str = "another program may use the port, or the address may not be on this machine: see ringX_addr \
     and totem.interface.mcastport in corosync.conf";

/// Why packets of this transport are not safe on a network that others use, too.
const UNPROTECTED: &str = "packets of the ring are neither authenticated nor encrypted: use a trusted network, or knet with secauth: on";

/// The sockets of the ring.
pub(crate) struct Transport {
    wire: Wire,
    local: SocketAddr,
}

enum Wire {
    Knet(Box<Knet>),
    Udpu(Udpu),
    Multicast(Multicast),
}

impl Transport {
    /// Opens the sockets; nothing is sent yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Bind`] names the address; [`Error::Crypto`] a key that cannot be used.
    pub(crate) fn open(now: Instant, config: &RingConfig) -> Result<Self, Error> {
        let local = config.local_address();
        let failed = |source| bind_failed(local, source);
        let wire = match &config.transport {
            TransportConfig::Knet(knet) => Wire::Knet(Box::new(Knet::open(now, config, knet)?)),
            TransportConfig::Udpu => {
                let mut udpu = Udpu::open(local).map_err(failed)?;
                udpu.set_peers(&config.peer_addresses());
                Wire::Udpu(udpu)
            }
            TransportConfig::Udp(group) => {
                let mut multicast = Multicast::open(local, *group).map_err(failed)?;
                multicast.set_peers(&config.peer_addresses());
                Wire::Multicast(multicast)
            }
        };
        if !config.transport.is_protected() {
            tracing::warn!(transport = config.transport.name(), UNPROTECTED);
        }
        Ok(Self { wire, local })
    }

    /// Waits until a datagram may be there.
    ///
    /// # Errors
    /// Only if the runtime is shutting down.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_readable(context)).await
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.wire {
            Wire::Knet(knet) => knet.poll_readable(context),
            Wire::Udpu(udpu) => udpu.poll_readable(context),
            Wire::Multicast(multicast) => multicast.poll_readable(context),
        }
    }

    /// The next packet of the ring with the node it came from, or `None` if nothing is waiting.
    pub(crate) fn receive(&mut self, now: Instant) -> Option<(NodeId, Bytes)> {
        match &mut self.wire {
            Wire::Knet(knet) => knet.receive(now),
            Wire::Udpu(udpu) => udpu.receive(now),
            Wire::Multicast(multicast) => multicast.receive(now),
        }
    }

    /// Sends a packet; what cannot be sent is lost.
    pub(crate) fn send(&mut self, now: Instant, to: Destination, packet: Bytes) {
        match (&mut self.wire, to) {
            (Wire::Knet(knet), to) => knet.send(now, to, packet),
            (Wire::Udpu(udpu), Destination::Node(node)) => udpu.send_to(node, &packet),
            (Wire::Udpu(udpu), Destination::All) => udpu.send_to_all(&packet),
            (Wire::Multicast(multicast), Destination::Node(node)) => multicast.send_to(node, &packet),
            (Wire::Multicast(multicast), Destination::All) => multicast.send_to_all(&packet),
        }
    }

    /// When [`handle_timer`](Self::handle_timer) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match &self.wire {
            Wire::Knet(knet) => knet.next_deadline(),
            Wire::Udpu(_) | Wire::Multicast(_) => None,
        }
    }

    /// Pings, and finds out which links are down.
    pub(crate) fn handle_timer(&mut self, now: Instant) {
        if let Wire::Knet(knet) = &mut self.wire {
            knet.handle_timer(now);
        }
    }

    /// Takes over other members, and what else changes while the ring runs. Says whether a change of keys has
    /// begun, whose steps are to be told with [`crypto_phase`](Self::crypto_phase).
    ///
    /// # Errors
    /// As [`open`](Self::open); everything is as before then.
    pub(crate) fn reconfigure(&mut self, now: Instant, config: &RingConfig) -> Result<bool, Error> {
        let begins = match (&mut self.wire, &config.transport) {
            (Wire::Knet(knet), TransportConfig::Knet(settings)) => knet.reconfigure(now, config, settings)?,
            (Wire::Udpu(udpu), _) => {
                udpu.set_peers(&config.peer_addresses());
                false
            }
            (Wire::Multicast(multicast), _) => {
                multicast.set_peers(&config.peer_addresses());
                false
            }
            (Wire::Knet(_), _) => {
                unreachable!("another transport is another ring: see RingConfig::fits_in_place")
            }
        };
        self.local = config.local_address();
        Ok(begins)
    }

    /// The ring runs with another token timeout: links are found down sooner or later, too.
    pub(crate) fn set_token_timeout(&mut self, now: Instant, config: &RingConfig, token: Duration) {
        if let (Wire::Knet(knet), TransportConfig::Knet(settings)) = (&mut self.wire, &config.transport) {
            knet.set_token_timeout(now, config, settings, token);
        }
    }

    /// A step of a change of keys came back in the order of the ring. Source: spec `knet.md`, 7.5.
    pub(crate) fn crypto_phase(&mut self, now: Instant, phase: u32) {
        if let Wire::Knet(knet) = &mut self.wire {
            knet.crypto_phase(now, phase);
        }
    }

    /// All links to other nodes, by node and link. One without pings counts as connected while packets arrive.
    pub(crate) fn links(&self, now: Instant, silence: Duration) -> Vec<LinkView> {
        match &self.wire {
            Wire::Knet(knet) => knet.links(),
            Wire::Udpu(udpu) => self.single_links(udpu.peers(), now, silence),
            Wire::Multicast(multicast) => self.single_links(multicast.peers(), now, silence),
        }
    }

    fn single_links(&self, peers: &Peers, now: Instant, silence: Duration) -> Vec<LinkView> {
        let connected = |counters: &LinkCounters| {
            counters.last_rx.is_some_and(|last| now.saturating_duration_since(last) < silence)
        };
        peers
            .iter()
            .map(|(node, peer)| LinkView {
                node,
                link: 0,
                local: self.local,
                remote: peer.address,
                connected: connected(&peer.counters),
                counters: peer.counters,
                pings: None,
            })
            .collect()
    }

    /// Who sends from an address that is not configured.
    pub(crate) fn strangers(&self) -> &Strangers {
        match &self.wire {
            Wire::Knet(knet) => knet.strangers(),
            Wire::Udpu(udpu) => udpu.peers().strangers(),
            Wire::Multicast(multicast) => multicast.peers().strangers(),
        }
    }

    /// Datagrams dropped before the ring saw them, by reason.
    pub(crate) fn dropped(&self) -> Vec<(&'static str, u64)> {
        match &self.wire {
            Wire::Knet(knet) => knet.dropped(),
            Wire::Udpu(udpu) => vec![("unlisted_address", udpu.peers().unlisted())],
            Wire::Multicast(multicast) => vec![("unlisted_address", multicast.peers().unlisted())],
        }
    }
}

fn bind_failed(address: SocketAddr, source: io::Error) -> Error {
    Error::Bind { address, way_out: WAY_OUT, source }
}
