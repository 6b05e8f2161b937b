//! What nodes tell each other: messages in, messages out.
//!
//! Source: service specification, 3.1, 3.2 and 3.4.

use bytes::Bytes;
use quorate_types::NodeId;
use tracing::debug;

use crate::{
    NodeState, Output, Votequorum,
    message::{Message, NodeFlags, NodeInfo, Parameter, Reconfigure},
    nodes::Record,
    recalculate::Recalculation,
    votequorum::Phase,
};

impl Votequorum {
    pub(crate) fn handle_message(&mut self, from: NodeId, bytes: &Bytes) {
        if !self.members.contains(&from) {
            self.stats.strangers += 1;
            return;
        }
        match Message::from_wire(bytes) {
            // Whether there is a device, and its votes, is for the own configuration to say. Differs: corosync
            // takes the highest votes that it hears of.
            Ok(
                Message::NodeInfo(NodeInfo { node: 0, .. })
                | Message::QdeviceRegistration(_)
                | Message::QdeviceOther,
            ) => {}
            Ok(Message::NodeInfo(info)) if info.node != from.get() => self.stats.hearsay += 1,
            Ok(Message::NodeInfo(info)) if from == self.me => self.handle_own_info(info),
            Ok(Message::NodeInfo(info)) => self.handle_info(from, info),
            Ok(Message::Reconfigure(change)) => self.handle_change(change),
            Err(error) => {
                self.stats.malformed += 1;
                debug!(%from, %error, "message dropped");
            }
        }
    }

    /// Own votes and flags are known better than from a message sent a while ago, perhaps by an earlier
    /// process. Differs: corosync overwrites its own record and then repairs it.
    fn handle_own_info(&mut self, info: NodeInfo) {
        if info.flags.has(NodeFlags::LEAVING) && self.nodes.own().flags.has(NodeFlags::LEAVING) {
            self.nodes.own_mut().state = NodeState::Leaving;
            return self.recalculate(Recalculation::ByNodes);
        }
        self.recalculate(Recalculation::Rise);
    }

    fn handle_info(&mut self, from: NodeId, info: NodeInfo) {
        let is_quorate = info.flags.has(NodeFlags::QUORATE);
        let is_leaving = info.flags.has(NodeFlags::LEAVING);
        let mut how = Recalculation::Rise;
        if is_quorate && (!self.quorate || self.catching_up) {
            // Who is quorate knows better.
            self.nodes.own_mut().expected_votes = info.expected_votes;
            how = Recalculation::Fall;
        }
        // Differs: corosync follows a leaving node also without `allow_downscale` of its own.
        if is_leaving && self.config.allow_downscale {
            how = Recalculation::ByNodes;
        }
        let trusts_sender = is_quorate || self.config.expected_votes_tracking;
        let own_expected = self.nodes.own().expected_votes;
        let record = Record {
            state: if is_leaving { NodeState::Leaving } else { NodeState::Member },
            votes: info.votes,
            expected_votes: if trusts_sender { info.expected_votes } else { own_expected },
            flags: info.flags,
        };
        let is_first = info.flags.has(NodeFlags::FIRST);
        if self.nodes.put(from, record) || is_first {
            self.recalculate(how);
        }
        let is_believed = !(self.has_odd_ties() && matches!(self.phase, Phase::Syncing { .. }));
        let needs_not_wait = is_quorate && !info.flags.has(NodeFlags::WAIT_FOR_ALL);
        if self.waiting_for_all && needs_not_wait && is_believed {
            self.waiting_for_all = false;
            self.recalculate(Recalculation::Rise);
        }
        if is_first && matches!(self.phase, Phase::Active(_)) {
            // Its process just started in a ring that is there already: it needs to know what we learned
            // since. Differs: corosync's engine cannot start later than its ring.
            self.emit(Output::Multicast(self.own_info().to_wire()));
        }
    }

    fn handle_change(&mut self, change: Reconfigure) {
        match change.parameter {
            Parameter::ExpectedVotes => {
                self.nodes.set_members_expected(change.value);
                self.expected_barrier = change.value;
                let tracked = self.tracked();
                let own = self.nodes.own_mut();
                own.expected_votes = own.expected_votes.max(tracked);
                self.recalculate(Recalculation::Fall);
            }
            Parameter::NodeVotes => {
                let node = NodeId::new(change.node).ok();
                if let Some(record) = node.and_then(|node| self.nodes.get_mut(node)) {
                    record.votes = change.value;
                    self.recalculate(Recalculation::Fall);
                }
            }
            Parameter::CancelWaitForAll => {
                self.set_waiting(false);
                self.recalculate(Recalculation::Rise);
            }
            Parameter::Unknown(parameter) => debug!(parameter, "change ignored"),
        }
    }

    /// Says that this process is there, as new: it has not been quorate yet. Who hears it in a synchronised
    /// ring answers with its own state. Source: corosync sends the same once at its start.
    pub(crate) fn announce(&mut self) {
        let own = self.own_info();
        let flags = own.flags.with(NodeFlags::FIRST, true).with(NodeFlags::QUORATE, false);
        let info = NodeInfo { flags, ..own };
        self.emit(Output::Multicast(info.to_wire()));
        self.multicast_device();
    }

    pub(crate) fn multicast_infos(&mut self) {
        self.emit(Output::Multicast(self.own_info().to_wire()));
        self.multicast_device();
    }

    fn multicast_device(&mut self) {
        for message in self.device_messages() {
            self.emit(Output::Multicast(message));
        }
    }

    pub(crate) fn multicast_change(&mut self, parameter: Parameter, value: u32) {
        if self.phase != Phase::NoRing {
            let change = Reconfigure { node: self.me.get(), value, parameter };
            self.emit(Output::Multicast(change.to_wire()));
        }
    }

    /// Only with `allow_downscale` does it matter to the others that this is for good.
    pub(crate) fn leave(&mut self) {
        if self.config.allow_downscale && self.phase != Phase::NoRing {
            self.set_own_flag(NodeFlags::LEAVING, true);
            self.emit(Output::Multicast(self.own_info().to_wire()));
        }
    }

    pub(crate) fn own_info(&self) -> NodeInfo {
        let Record { votes, expected_votes, flags, .. } = *self.nodes.own();
        NodeInfo { node: self.me.get(), votes, expected_votes, flags }
    }
}
