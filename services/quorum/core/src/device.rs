//! The quorum device: votes that an arbiter outside of the cluster gives to one part of it.
//!
//! The votes count on the nodes to which the arbiter gave them, not in their whole ring; each node asks for itself.
//! What the arbiter said about an earlier ring does not count in the next one. Where it answers quickly, a node
//! tells its own votes only then, so that a ring is synchronised with the arbiter's word and quorum does not go and
//! come. Differs: corosync lets the ring wait for up to `sync_timeout` (30 s) and counts itself quorate meanwhile;
//! here the ring goes on without the arbiter's votes after [`ANSWER_WAIT`], and they count when they come.
//!
//! And a node to which the arbiter says no while its ring synchronises is not quorate from then on, if it needs the
//! arbiter's votes, because the arbiter may give them to another part. Differs: corosync decides when the ring is
//! synchronised.
//!
//! Source: votequorum(5); service specification, 3.1 to 3.5.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_types::RingId;
use tracing::debug;

use crate::{
    Output, Votequorum,
    message::{NodeFlags, NodeInfo, QdeviceRegistration},
    recalculate::Recalculation,
    votequorum::Phase,
};

/// How long a node keeps its ring waiting for the arbiter: well below the time that the membership daemon waits for
/// the node, and several times what an answer takes in a network of one site.
pub const ANSWER_WAIT: Duration = Duration::from_millis(350);

/// Name under which a device is registered. Source: corosync-qdevice(8), `votequorum_device_name`.
const NAME: &str = "Qdevice";

/// What the arbiter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceVote {
    /// Nothing: it is not reached.
    #[default]
    Unreachable,
    /// It has not decided about the present ring yet.
    Undecided,
    /// Its votes are for this part.
    Granted,
    /// Its votes are not for this part.
    Refused,
}

/// The device as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Device {
    pub(crate) vote: DeviceVote,
    /// Own messages for a synchronisation are kept back until then.
    held_until: Option<Instant>,
}

impl Votequorum {
    /// The arbiter's votes, if they count here.
    pub(crate) fn device_votes(&self) -> u32 {
        match (self.config.device, self.device.vote) {
            (Some(device), DeviceVote::Granted) => device.votes,
            _ => 0,
        }
    }

    /// Sets the flags that say that there is a device. It is alive as long as this process is.
    pub(crate) fn register_device(&mut self) {
        let is_there = self.config.device.is_some();
        self.set_own_flag(NodeFlags::QDEVICE_REGISTERED, is_there);
        self.set_own_flag(NodeFlags::QDEVICE_ALIVE, is_there);
        if !is_there {
            self.device = Device::default();
        }
        self.flag_device_vote();
    }

    fn flag_device_vote(&mut self) {
        let is_cast = self.config.device.is_some() && self.device.vote == DeviceVote::Granted;
        self.set_own_flag(NodeFlags::QDEVICE_CAST_VOTE, is_cast);
    }

    /// Tells this node's votes for the synchronisation of a ring, once the arbiter has decided.
    pub(crate) fn tell_for_sync(&mut self, now: Instant, ring: RingId) {
        let may_answer = self.config.device.is_some() && self.device.vote != DeviceVote::Unreachable;
        if may_answer {
            self.device = Device { vote: DeviceVote::Undecided, held_until: Some(now + ANSWER_WAIT) };
            self.flag_device_vote();
        } else {
            self.device.held_until = None;
            self.send_for_sync(ring);
        }
    }

    fn send_for_sync(&mut self, ring: RingId) {
        let messages = self.device_messages();
        let messages = [self.own_info().to_wire()].into_iter().chain(messages).collect();
        self.emit(Output::SyncMessages { ring, messages });
    }

    /// When the ring is not kept waiting any longer.
    pub(crate) fn device_deadline(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Syncing { .. }).then_some(self.device.held_until).flatten()
    }

    pub(crate) fn stop_waiting_for_device(&mut self, now: Instant) {
        let Phase::Syncing { ring, .. } = self.phase else { return };
        if self.device.held_until.is_some_and(|until| until <= now) {
            debug!(%ring, "the ring goes on before the quorum device has decided");
            self.device.held_until = None;
            self.send_for_sync(ring);
        }
    }

    /// The arbiter says something about a ring.
    pub(crate) fn hear_device(&mut self, about: RingId, vote: DeviceVote) {
        let ring = match self.phase {
            Phase::Syncing { ring, .. } | Phase::Active(ring) => ring,
            Phase::NoRing => return,
        };
        if self.config.device.is_none() || about != ring || vote == self.device.vote {
            return;
        }
        self.device.vote = vote;
        self.flag_device_vote();
        match self.phase {
            Phase::Syncing { .. } => self.hear_device_in_sync(ring),
            Phase::Active(_) | Phase::NoRing => {
                self.multicast_infos();
                self.recalculate(Recalculation::Rise);
            }
        }
    }

    fn hear_device_in_sync(&mut self, ring: RingId) {
        let is_denied = matches!(self.device.vote, DeviceVote::Refused | DeviceVote::Unreachable);
        if is_denied && self.quorate && self.nodes.votes_of(&self.members) < self.quorum {
            self.set_quorate(false);
            self.publish();
        }
        if self.device.held_until.is_some() && self.device.vote != DeviceVote::Undecided {
            self.device.held_until = None;
            self.send_for_sync(ring);
        } else if self.device.held_until.is_none() {
            self.multicast_infos();
        }
    }

    /// What is said about the device whenever this node speaks about itself.
    pub(crate) fn device_messages(&self) -> Vec<Bytes> {
        let votes = self.config.device.map_or(0, |device| device.votes);
        let info = NodeInfo { node: 0, votes, expected_votes: 0, flags: NodeFlags::default() };
        let registration = self
            .config
            .device
            .map(|_| QdeviceRegistration { register: true, name: NAME.to_owned() }.to_wire());
        [info.to_wire()].into_iter().chain(registration).collect()
    }

    /// A member to which the arbiter gave its votes speaks for its whole ring, if it was told to: `master_wins`.
    pub(crate) fn master_wins(&self) -> bool {
        let master = NodeFlags::QDEVICE_MASTER_WINS.with(NodeFlags::QDEVICE_CAST_VOTE, true);
        self.config.device.is_some() && self.nodes.members().any(|(_, record)| record.flags.has(master))
    }
}
