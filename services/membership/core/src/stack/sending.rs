//! From staged messages to the ring: when they are packed, how much may wait, what is told to
//! clients.
//!
//! Messages are staged whole and packed when the token comes, so that small ones share packets.
//! Only as much as a few token visits can send goes into the ring's queue; the rest stays here,
//! where it still packs well.

use std::time::Instant;

use bytes::Bytes;

use super::{ClientId, Output, RefuseReason, Stack, external};
use crate::{
    cpg::{CpgMessage, MCAST_PAYLOAD_MAX, Part},
    pg::{Group, Packer, packer::Fill},
    srp::{self, Guarantee, Params, Phase, Ring},
};

/// Largest payload of one group message in bytes: 1 MiB and room for a header of the application.
pub const GROUP_PAYLOAD_MAX: usize = 1024 * 1024 + 64 * 1024;

/// Bytes that may wait to be sent before clients are refused.
pub const BACKLOG_MAX: usize = 4 * 1024 * 1024;

/// What local services may have waiting on top of that, in bytes.
const SERVICE_RESERVE: usize = 1024 * 1024;

/// Clients are told to stop above, and to go on below these parts of [`BACKLOG_MAX`].
const FLOW_CLOSE: usize = BACKLOG_MAX / 100 * 75;
const FLOW_OPEN: usize = BACKLOG_MAX / 100 * 30;

/// Packets in the ring's queue above which staged messages stay here.
const RING_BACKLOG_MAX: usize = 128;

/// What waits above the ring's own send queues.
#[derive(Debug)]
pub(super) struct Outbox {
    normal: Packer,
    transitional: Packer,
    /// Something was staged since the ring was last told.
    touched: bool,
    flow_open: bool,
    packet_max: usize,
    /// Packets that an empty queue of the ring has room for.
    ring_queue_max: usize,
    /// Packets that leave in one token visit at most.
    visit_max: usize,
}

impl Outbox {
    pub(super) fn new(params: &Params) -> Self {
        let packet_max = params.net_mtu as usize;
        Self {
            normal: Packer::new(packet_max),
            transitional: Packer::new(packet_max),
            touched: false,
            flow_open: true,
            packet_max,
            ring_queue_max: params.send_queue_packets_max(),
            visit_max: params.max_messages as usize,
        }
    }

    pub(super) fn set_params(&mut self, params: &Params) {
        self.packet_max = params.net_mtu as usize;
        self.normal.set_payload_max(self.packet_max);
        self.transitional.set_payload_max(self.packet_max);
        self.ring_queue_max = params.send_queue_packets_max();
        self.visit_max = params.max_messages as usize;
    }

    /// A configuration is installed: what an earlier synchronisation staged is void, and the rest
    /// of a partly sent message must not take others with it.
    pub(super) fn begin_sync(&mut self) {
        self.transitional.clear_unsent();
        self.transitional.isolate_continuation();
        self.normal.isolate_continuation();
    }

    /// The ring is to be told that something waits.
    pub(super) fn touch(&mut self) {
        self.touched |= !self.normal.is_empty() || !self.transitional.is_empty();
    }

    pub(super) fn backlog_bytes(&self, ring: &Ring) -> usize {
        self.normal.staged_bytes() + self.ring_backlog(ring, Phase::Normal) * self.packet_max
    }

    fn ring_backlog(&self, ring: &Ring, phase: Phase) -> usize {
        self.ring_queue_max.saturating_sub(ring.queue_room(phase))
    }
}

impl Stack {
    /// Stages a message of the group "a"; `head` and `body` travel as one.
    pub(super) fn stage(&mut self, phase: Phase, head: Bytes, body: Bytes, guarantee: Guarantee) {
        let packer = match phase {
            Phase::Normal => &mut self.outbox.normal,
            Phase::Transitional => &mut self.outbox.transitional,
        };
        packer.stage(Group::Service, head, body, guarantee);
        self.outbox.touched = true;
    }

    /// Stages a message of the group "sync".
    pub(super) fn stage_sync(&mut self, message: Bytes) {
        self.outbox.transitional.stage(Group::Sync, message, Bytes::new(), Guarantee::Agreed);
        self.outbox.touched = true;
    }

    pub(super) fn service_multicast(&mut self, service: u16, message: Bytes) {
        let attached = self.externals.attached().contains(&service);
        let has_room = self.outbox.backlog_bytes(&self.ring) + message.len() <= BACKLOG_MAX + SERVICE_RESERVE;
        if attached && has_room && external::is_sendable(service, &message) {
            self.stage(Phase::Normal, message, Bytes::new(), Guarantee::Agreed);
        } else {
            tracing::warn!(service, attached, has_room, "message of a local service dropped");
            self.stats.service_dropped += 1;
        }
    }

    pub(super) fn group_multicast(&mut self, client: ClientId, payload: Bytes) -> Result<(), RefuseReason> {
        let ((pid, group), guarantee) = self.clients.sender(client)?;
        let (pid, group) = (*pid, group.clone());
        if payload.len() > GROUP_PAYLOAD_MAX {
            return Err(RefuseReason::TooLarge);
        }
        if self.outbox.backlog_bytes(&self.ring) + payload.len() > BACKLOG_MAX {
            return Err(RefuseReason::QueueFull);
        }
        if payload.len() <= MCAST_PAYLOAD_MAX {
            let header = CpgMessage::mcast_header(&group, pid, self.me, payload.len());
            self.stage(Phase::Normal, header, payload, guarantee);
            return Ok(());
        }
        let total = payload.len();
        for start in (0..total).step_by(MCAST_PAYLOAD_MAX) {
            let part = payload.slice(start..total.min(start + MCAST_PAYLOAD_MAX));
            let place = match (start, start + part.len()) {
                (0, _) => Part::First,
                (_, end) if end == total => Part::Last,
                _ => Part::Continued,
            };
            let header = CpgMessage::partial_header(&group, pid, self.me, (place, part.len(), total));
            self.stage(Phase::Normal, header, part, guarantee);
        }
        Ok(())
    }

    /// Packs what waits into the ring's queues: the token is here, or about to be handed over.
    pub(super) fn flush(&mut self, now: Instant) {
        while self.ring.queue_room(Phase::Transitional) > 0
            && let Some(packet) = self.outbox.transitional.next_packet(Fill::Any)
        {
            self.ring.handle_input(now, multicast(packet, Phase::Transitional));
        }
        while !self.waiting
            && self.ring.queue_room(Phase::Normal) > 0
            && let Some(packet) = self.next_normal_packet()
        {
            self.ring.handle_input(now, multicast(packet, Phase::Normal));
        }
        self.drain_ring(now);
    }

    fn next_normal_packet(&mut self) -> Option<(Bytes, Guarantee)> {
        let queued = self.outbox.ring_backlog(&self.ring, Phase::Normal);
        if queued >= RING_BACKLOG_MAX {
            return None;
        }
        let fill = if queued < self.outbox.visit_max { Fill::Any } else { Fill::Full };
        self.outbox.normal.next_packet(fill)
    }

    /// Tells the ring that something waits, until nothing new was staged in answer to that.
    pub(super) fn announce_staged(&mut self, now: Instant) {
        while std::mem::take(&mut self.outbox.touched) {
            if self.ring.has_token() {
                self.flush(now);
            }
            self.ring_input(now, srp::Input::NewMessage);
        }
    }

    pub(super) fn update_flow(&mut self) {
        let backlog = self.outbox.backlog_bytes(&self.ring);
        let open = if self.outbox.flow_open { backlog < FLOW_CLOSE } else { backlog < FLOW_OPEN };
        if open != self.outbox.flow_open {
            self.outbox.flow_open = open;
            self.outputs.push_back(Output::Flow { open });
        }
    }
}

fn multicast((payload, guarantee): (Bytes, Guarantee), phase: Phase) -> srp::Input {
    srp::Input::Multicast { payload, phase, guarantee }
}
