//! The receiver: pieces of packets, in ring order, become messages again.
//!
//! One buffer per originator and phase, because a message that was cut before a membership change
//! continues after the synchronisation whose messages come between.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use quorate_types::NodeId;

use super::{MESSAGE_MAX, Packet};
use crate::srp::Phase;

/// What one buffer may hold, in bytes: the largest message and one packet.
const BUFFER_MAX: usize = MESSAGE_MAX + 65536;

/// Puts fragments together.
#[derive(Debug, Default)]
pub struct Assembler {
    origins: BTreeMap<NodeId, Origin>,
    stats: AssemblerStats,
}

/// Counters of an assembler.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct AssemblerStats {
    /// Messages handed up.
    pub messages: u64,
    /// Packets dropped because their layout did not hold.
    pub malformed: u64,
    /// Packets that continued a message whose start was not seen: normal after joining.
    pub start_unknown: u64,
    /// Messages dropped because they grew beyond the limit.
    pub oversized: u64,
}

#[derive(Debug, Default)]
struct Origin {
    normal: Buffer,
    transitional: Buffer,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: BytesMut,
    /// Fragment number that the next packet must continue; 0 when nothing is open.
    last: u8,
    /// The open message cannot be completed; its fragments are skipped.
    skipping: bool,
    /// Nodes joined since the open message began.
    spans_change: bool,
}

/// A message put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// The message, group header included.
    pub message: Bytes,
    /// Nodes have joined since its first fragment: they cannot assemble it, and do not deliver it.
    pub spans_change: bool,
}

impl Assembler {
    /// Takes one packet and returns the messages that it completes.
    ///
    /// Differs: when the first piece continues a message whose start is unknown, corosync drops
    /// the whole packet. Here only that piece is dropped: the complete messages behind it are what
    /// the other members deliver.
    pub fn accept(&mut self, from: NodeId, phase: Phase, payload: &Bytes) -> Vec<Assembled> {
        let Ok(packet) = Packet::from_wire(payload) else {
            self.stats.malformed += 1;
            return Vec::new();
        };
        let origin = self.origins.entry(from).or_default();
        let buffer = match phase {
            Phase::Normal => &mut origin.normal,
            Phase::Transitional => &mut origin.transitional,
        };
        if packet.continuation == 0 {
            buffer.reset();
        } else if packet.continuation != buffer.last {
            self.stats.start_unknown += 1;
            buffer.reset();
            buffer.skipping = true;
        }
        let mut messages = Vec::with_capacity(packet.pieces.len());
        let last = packet.pieces.len() - 1;
        for (index, piece) in packet.pieces.into_iter().enumerate() {
            let is_cut = index == last && packet.fragmented != 0;
            let whole = buffer.push(piece, is_cut, &mut self.stats);
            messages.extend(whole);
        }
        buffer.last = packet.fragmented;
        self.stats.messages += messages.len() as u64;
        messages
    }

    /// Nodes joined: what has begun is incomplete for them.
    pub fn nodes_joined(&mut self) {
        for buffer in
            self.origins.values_mut().flat_map(|origin| [&mut origin.normal, &mut origin.transitional])
        {
            buffer.spans_change = buffer.last != 0;
        }
    }

    /// Forgets what a node that left had begun.
    pub fn forget(&mut self, node: NodeId) {
        self.origins.remove(&node);
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> AssemblerStats {
        self.stats
    }
}

impl Buffer {
    fn reset(&mut self) {
        *self = Self::default();
    }

    /// Adds a piece; returns the message if the piece ends one.
    fn push(&mut self, piece: Bytes, is_cut: bool, stats: &mut AssemblerStats) -> Option<Assembled> {
        if !self.skipping && self.bytes.len() + piece.len() > BUFFER_MAX {
            stats.oversized += 1;
            self.bytes = BytesMut::new();
            self.skipping = true;
        }
        if is_cut {
            if !self.skipping {
                self.bytes.extend_from_slice(&piece);
            }
            return None;
        }
        if std::mem::take(&mut self.skipping) {
            self.spans_change = false;
            return None;
        }
        let spans_change = std::mem::take(&mut self.spans_change);
        if self.bytes.is_empty() {
            return Some(Assembled { message: piece, spans_change });
        }
        self.bytes.extend_from_slice(&piece);
        let message = std::mem::take(&mut self.bytes).freeze();
        Some(Assembled { message, spans_change })
    }
}

#[cfg(test)]
mod tests;
