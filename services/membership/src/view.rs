//! What the ring shows of itself: a small view that is always at hand, and a full snapshot on demand.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use membership_core::srp::StateName;
use quorate_types::{NodeId, RingId};

use crate::transport::LinkCounters;

/// The present configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RingView {
    /// Whether there is a ring at all on this node.
    pub up: bool,
    /// The last regular configuration.
    pub ring: RingId,
    /// Its members, ascending.
    pub members: Vec<NodeId>,
    /// Whether the synchronisation after it is complete.
    pub synchronised: bool,
}

/// A change of configuration, for watchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigurationEvent {
    /// Members of the old ring that move together.
    Transitional {
        /// The ring to come.
        ring: RingId,
        /// Those that come along.
        members: Vec<NodeId>,
        /// Those that do not.
        left: Vec<NodeId>,
    },
    /// The new ring.
    Regular {
        /// Its id.
        ring: RingId,
        /// Its members.
        members: Vec<NodeId>,
        /// Those that are new.
        joined: Vec<NodeId>,
    },
    /// The synchronisation after a regular configuration is complete.
    Synchronised {
        /// The ring.
        ring: RingId,
        /// Its members.
        members: Vec<NodeId>,
    },
    /// The ring is down.
    Down,
}

/// A configured node, as seen from here.
#[derive(Debug, Clone)]
pub struct MemberView {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Whether it is in the ring.
    pub online: bool,
    /// When it came or went, if it was seen at all.
    pub since: Option<SystemTime>,
    /// Whether it said good-bye.
    pub left_cleanly: bool,
    /// Its configuration version, if announced.
    pub config_version: u64,
    /// Its feature level; 0 if it announced none.
    pub feature_level: u32,
}

/// A link to another node.
#[derive(Debug, Clone)]
pub struct LinkView {
    /// The other node.
    pub node: NodeId,
    /// The link's number.
    pub link: u8,
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Whether pings are answered; without pings, whether something arrived within the token timeout.
    pub connected: bool,
    /// Traffic.
    pub counters: LinkCounters,
    /// What pings tell; `None` on transports without.
    pub pings: Option<PingView>,
}

/// What pings tell of a link.
#[derive(Debug, Clone, Copy)]
pub struct PingView {
    /// Time from a ping to its answer: average of the last ones.
    pub latency: Duration,
    /// The shortest since the link is known.
    pub latency_min: Duration,
    /// The longest since the link is known.
    pub latency_max: Duration,
    /// Mean difference between two answers' times in a row.
    pub jitter: Duration,
    /// Pings sent since the link is known.
    pub sent: u64,
    /// Answers received; what is missing was lost on either way, or is on its way.
    pub answered: u64,
    /// Bytes of the largest packet that the path carries, with IP header.
    pub mtu: u32,
    /// Times the link came up.
    pub ups: u64,
    /// Times it went down.
    pub downs: u64,
}

/// Somebody who sends from an address that is not configured.
#[derive(Debug, Clone, Copy)]
pub struct StrangerView {
    /// The address.
    pub address: IpAddr,
    /// Datagrams that were dropped.
    pub packets: u64,
    /// Since the last one.
    pub silence: Duration,
}

/// Everything about a ring that is up.
#[derive(Debug, Clone)]
pub struct UpSnapshot {
    /// Name of the cluster.
    pub cluster_name: String,
    /// Version of corosync.conf in force.
    pub config_version: u64,
    /// How packets travel: knet, udpu or udp.
    pub transport: &'static str,
    /// Whether packets are authenticated.
    pub secure: bool,
    /// This node.
    pub me: NodeId,
    /// State of the Totem machine.
    pub state: StateName,
    /// When the present configuration was installed.
    pub installed: Option<SystemTime>,
    /// Token timeout in force.
    pub token_timeout: Duration,
    /// Longest time to notice a silent death and install the next configuration.
    pub detection_worst_case: Duration,
    /// Feature level of the ring: the lowest of its members; 0 until they have synchronised.
    pub feature_level: u32,
    /// Whether all members have agreed to the fast timers.
    pub fast_detection: bool,
    /// All configured nodes.
    pub members: Vec<MemberView>,
    /// All links.
    pub links: Vec<LinkView>,
    /// The longest time between two tokens of one ring since the daemon started.
    pub token_rotation_max: Duration,
    /// Messages that wait at all members together, as the last token told.
    pub backlog: u32,
    /// Counters by corosync's names.
    pub counters: BTreeMap<String, u64>,
    /// Dropped packets by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Who sends from an address that is not configured.
    pub strangers: Vec<StrangerView>,
}

/// The view, and the rest if the ring is up.
#[derive(Debug, Clone)]
pub struct RingSnapshot {
    /// The present configuration.
    pub view: RingView,
    /// Details of a ring that is up.
    pub up: Option<UpSnapshot>,
    /// Why there is no ring; empty while it is up.
    pub down_reason: String,
}
