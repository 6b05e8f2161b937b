//! What the engine tells its clients.

use quorate_types::{NodeId, RingId};

use crate::{DeviceVote, NodeState, Votequorum, message::NodeFlags, nodes::Record, votequorum::Phase};

/// The state of quorum on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The ring this is about; `None` without a ring.
    pub ring: Option<RingId>,
    /// Whether this node may act.
    pub quorate: bool,
    /// Votes that this node expects in the cluster.
    pub expected_votes: u32,
    /// The highest that a member expects.
    pub highest_expected: u32,
    /// Votes of the members.
    pub total_votes: u32,
    /// Votes needed.
    pub quorum: u32,
    /// Options in force, and whether quorate.
    pub flags: Flags,
    /// Every node ever seen, by id.
    pub nodes: Vec<NodeVotes>,
    /// The quorum device, if one is configured.
    pub device: Option<DeviceStatus>,
    /// Not quorate because not all nodes were seen at once yet.
    pub waiting_for_all: bool,
}

/// The quorum device as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceStatus {
    /// Its votes.
    pub votes: u32,
    /// What it says; granted, they count here.
    pub vote: DeviceVote,
}

/// The flags of `pvecm status`, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// `2Node`
    pub two_node: bool,
    /// `Quorate`
    pub quorate: bool,
    /// `WaitForAll`
    pub wait_for_all: bool,
    /// `LastManStanding`
    pub last_man_standing: bool,
    /// `AutoTieBreaker`
    pub auto_tie_breaker: bool,
    /// `AllowDownscale`
    pub allow_downscale: bool,
    /// `Qdevice`: a member has a quorum device registered.
    pub qdevice: bool,
}

/// A node with its votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeVotes {
    /// The node.
    pub node: NodeId,
    /// Its votes, as it last said.
    pub votes: u32,
    /// Where it is.
    pub state: NodeState,
    /// Votes that it expects.
    pub expected_votes: u32,
    /// What it last said about itself.
    pub flags: NodeFlags,
}

impl Flags {
    /// The names as `pvecm status` prints them, in its order.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let flags = [
            (self.two_node, "2Node"),
            (self.quorate, "Quorate"),
            (self.wait_for_all, "WaitForAll"),
            (self.last_man_standing, "LastManStanding"),
            (self.auto_tie_breaker, "AutoTieBreaker"),
            (self.allow_downscale, "AllowDownscale"),
            (self.qdevice, "Qdevice"),
        ];
        flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect()
    }
}

impl Votequorum {
    /// The state as it is now, published or not.
    pub(crate) fn compute_status(&self) -> Status {
        let present = self.tally();
        let ring = match self.phase {
            Phase::NoRing => None,
            Phase::Syncing { ring, .. } | Phase::Active(ring) => Some(ring),
        };
        let nodes = self.nodes.iter().map(|(node, record)| {
            let Record { state, votes, expected_votes, flags } = *record;
            NodeVotes { node, votes, state, expected_votes, flags }
        });
        Status {
            ring,
            quorate: self.quorate,
            expected_votes: self.nodes.own().expected_votes,
            highest_expected: present.highest_expected,
            total_votes: present.votes,
            quorum: self.quorum,
            flags: self.flags(),
            nodes: nodes.collect(),
            device: self
                .config
                .device
                .map(|device| DeviceStatus { votes: device.votes, vote: self.device.vote }),
            waiting_for_all: self.waiting_for_all,
        }
    }

    fn flags(&self) -> Flags {
        let has_device = |record: &Record| record.flags.has(NodeFlags::QDEVICE_REGISTERED);
        Flags {
            two_node: self.config.is_two_node(),
            quorate: self.quorate,
            wait_for_all: self.config.wait_for_all,
            last_man_standing: self.config.last_man_standing,
            auto_tie_breaker: self.config.auto_tie_breaker.is_some(),
            allow_downscale: self.config.allow_downscale,
            qdevice: self.nodes.members().any(|(_, record)| has_device(record)),
        }
    }
}
